"""Is a series whole and fit, and which rule is it for."""

from __future__ import annotations

from oncoseg_node.config.settings import NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.series import Refusal, SeriesFacts


def examine(job: Job, settings: NodeSettings) -> tuple[SeriesFacts | None, RuleSettings | None, list[Refusal]]:
    """Judge the images of a job by their headers.

    Returns:
        What the series says of itself, None where nothing of it can be read; the rule that it is for, None where there
        is none; and why it is not contoured: it is where there is no refusal.
    """
    from oncoseg_node.examination.judge import files_of, judge

    found = judge(files_of(job.images), settings)
    return found.facts, None if found.match is None else found.match.rule, found.refusals
