"""One row of the results: a subject, a case, a target, a kind of prompt and a level, with its scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""Plain values by column: text, numbers, or None."""

BOUNDS = ("floor:", "ceiling:")
"""How the labels of the built-in references begin."""

KEY = ("model", "dataset", "case", "target", "prompt", "level")
"""What makes a row unique."""

DESCRIPTION = (
    "model",
    "dataset",
    "case",
    "patient",
    "category",
    "modality",
    "target",
    "prompt",
    "level",
    "side",
    "leak",
    "slices",
    "absent",
    "diameter_mm",
    "size",
    "voxel_mm3",
    "reference_voxels",
    "predicted_voxels",
    "common_voxels",
    "empty_slices",
    "empty_slices_with_mask",
    "noc_90",
    "reference_sha256",
    "prediction_sha256",
)
"""The columns besides the metrics: ``slices`` were asked about; ``absent`` marks a concept that is in no image.

``noc_90`` is the mean number of clicks to a Dice of 0.9 on a slice. ``leak`` is ``certain`` or ``suspected`` where the
case, or its dataset, may have been trained on, and ``unknown`` where the adapter does not tell.
"""

WHOLE = frozenset(
    {"slices", "reference_voxels", "predicted_voxels", "common_voxels", "empty_slices", "empty_slices_with_mask"}
)
REAL = frozenset({"diameter_mm", "voxel_mm3", "noc_90"})


def sort_key(row: Row) -> tuple[str, ...]:
    """Rows in the order of the table."""
    return tuple(str(row[column]) for column in ("dataset", "case", "target", "prompt", "level", "model"))


def columns(metrics: Sequence[str]) -> list[str]:
    """All columns of the table."""
    return [*DESCRIPTION, *metrics]


def as_text(value: Any) -> str:
    """A value as the table has it; a number so that it is read back as the very same."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return repr(value) if isinstance(value, float) else str(value)


def from_text(column: str, text: str, metrics: Sequence[str]) -> Any:
    """The value of a column of the table."""
    if column == "absent":
        return text == "yes"
    if text == "":
        return None
    if column in WHOLE:
        return int(text)
    return float(text) if column in REAL or column in metrics else text
