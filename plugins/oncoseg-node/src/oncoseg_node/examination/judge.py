"""The whole judgement of a series: is it whole, which rule is it for, and is it fit for that rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.examination.matching import Match, match, no_rule
from oncoseg_node.examination.requirements import refusals
from oncoseg_node.examination.whole import examine_files
from oncoseg_node.records.series import Refusal, SeriesFacts


class Judgement(NamedTuple):
    """``facts`` are None where nothing of the series can be read, and ``match`` with them.

    A series is contoured where there is no refusal; then the match has a rule.
    """

    facts: SeriesFacts | None
    match: Match | None
    refusals: list[Refusal]


def judge(files: Sequence[Path], settings: NodeSettings) -> Judgement:
    """Judge the files of one series by their headers.

    A series that is not whole is matched too, to say which rule it was for; what that requires is not asked of it.
    """
    facts, found = examine_files(files, settings.receive)
    if facts is None:
        return Judgement(None, None, found)
    matched = match(settings.rules, facts)
    if not found:
        found = [no_rule(matched)] if matched.rule is None else refusals(matched.rule, facts)
    return Judgement(facts, matched, found)


def files_of(folder: Path) -> list[Path]:
    """The files of a folder with one series, in order of their names; folders in it are not looked into."""
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
