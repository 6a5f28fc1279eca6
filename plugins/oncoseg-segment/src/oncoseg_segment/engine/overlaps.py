"""Voxels that several structures claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from oncoseg_core import BoolArray

Overlaps: TypeAlias = Literal["keep", "first", "highest-score"]


def resolve_overlaps(
    masks: Sequence[BoolArray], scores: Sequence[Mapping[int, float]], rule: Overlaps
) -> list[BoolArray]:
    """Masks of which no two share a voxel; the very same ones where the rule is to keep overlaps.

    ``first``: the voxel is the earlier structure's. ``highest-score``: that of the structure whose model score is
    higher on that slice, of equal ones the earlier.

    Args:
        masks: bool ``(z, y, x)``, in the order of the structures; not modified.
        scores: of each structure, by slice.
        rule: as above.
    """
    if rule == "keep":
        return list(masks)
    resolved = [mask.copy() for mask in masks]
    for index in range(len(masks[0]) if masks else 0):
        order = [number for number, mask in enumerate(masks) if mask[index].any()]
        if rule == "highest-score":
            order.sort(key=lambda number: -scores[number].get(index, 0.0))
        taken = np.zeros(masks[0].shape[1:], dtype=bool)
        for number in order:
            resolved[number][index] &= ~taken
            taken |= masks[number][index]
    return resolved
