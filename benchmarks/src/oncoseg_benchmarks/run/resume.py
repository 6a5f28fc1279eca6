"""What need not be scored again when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oncoseg_benchmarks.run.run_folder import RunFolder
from oncoseg_benchmarks.scoring.case_scoring import mask_key
from oncoseg_benchmarks.scoring.saved_masks import digest, load_masks
from oncoseg_core import DataError


def is_done(folder: RunFolder, unit: Mapping[str, Any] | None) -> bool:
    """Whether a case was scored without a failure, and the masks on disk are those behind its rows."""
    if unit is None or unit["failures"]:
        return False
    if not unit["rows"]:
        return True
    try:
        references, _ = load_masks(folder.references_path(unit["dataset"], unit["case"]))
        masks, _ = load_masks(folder.masks_path(unit["model"], unit["dataset"], unit["case"]))
        return all(
            digest(masks[mask_key(row["target"], row["prompt"], row["level"])]) == row["prediction_sha256"]
            and digest(references[row["target"]]) == row["reference_sha256"]
            for row in unit["rows"]
        )
    except (DataError, KeyError):
        return False
