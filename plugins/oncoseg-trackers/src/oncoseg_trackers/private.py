"""What of a run may leave the machine: how it was done, never on whom or in which folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PRIVATE_SECTIONS = frozenset({"output", "trackers", "start_from"})

DATA_KEYS = frozenset(
    {"dataset", "datasets", "targets", "train_split", "score_split", "validation_split", "side", "weak", "split"}
)
"""Of the section ``data``, all else tells of folders."""

SPLIT_KEYS = frozenset({"how", "fractions", "seed"})
"""Of ``data.split``, all else tells of files or patients."""


def shareable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The effective configuration without paths: folders of users and hospitals, names of files and of patients.

    A text that has a slash or a backslash, or that is the name of something in the current folder, is taken for one.
    """
    shared = {key: _without_paths(value) for key, value in config.items() if key not in PRIVATE_SECTIONS | {"data"}}
    if isinstance(config.get("data"), Mapping):
        shared["data"] = _data(config["data"])
    return shared


def _data(section: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in section.items() if key in DATA_KEYS and value}
    if isinstance(kept.get("split"), Mapping):
        kept["split"] = {key: value for key, value in kept["split"].items() if key in SPLIT_KEYS}
    if "datasets" in kept:
        kept["datasets"] = [_data(each) for each in kept["datasets"]]
    return kept


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(each) for each in value]
    return "(a path)" if isinstance(value, str) and _is_path(value) else value


def _is_path(text: str) -> bool:
    if "/" in text or "\\" in text or text.startswith("~"):
        return True
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long or too strange for a name
        return False
