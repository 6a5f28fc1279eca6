"""The body: the largest piece of tissue, with the air inside of it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from oncoseg_core import BoolArray, Geometry

TABLE_MM = 4.0
"""Half the width of the bridges between body and table that are cut: clothes, cushions, the mattress' cover."""

LARGE_SHARE = 0.15
"""A second piece of tissue of more than that size is mentioned: tables are smaller, legs and arms may be larger."""


def body_mask(hounsfield: NDArray[np.generic], geometry: Geometry, above: float) -> tuple[BoolArray, list[str]]:
    """The body ``(z, y, x)``: tissue opened by a few millimetres, its largest component, holes of each slice filled.

    With it, what a user must know of it.

    The table is cut off where no more than a thin bridge joins it. Arms that touch the body belong to it.

    Args:
        hounsfield: ``(z, y, x)``.
        geometry: of the grid.
        above: Hounsfield units that tissue exceeds.
    """
    mask = np.empty(hounsfield.shape, np.uint8)
    np.greater(hounsfield, above, out=mask, casting="unsafe")
    _, row_mm, column_mm = geometry.spacing
    radius = [max(1, round(TABLE_MM / column_mm)), max(1, round(TABLE_MM / row_mm)), 0]
    image = sitk.GetImageFromArray(mask)
    largest, second = _largest(sitk.BinaryMorphologicalOpening(image, radius, sitk.sitkBall))
    if largest is None:
        return np.zeros(hounsfield.shape, bool), []
    notes = []
    if second > LARGE_SHARE:
        notes.append(
            f"External leaves out a piece of tissue that has {second:.0%} of its size: a leg, an arm, a table?"
        )
    # What the opening took from the body's own edge is given back, and no more.
    near = sitk.BinaryDilate(largest, radius, sitk.sitkBall)
    kept = sitk.GetArrayFromImage(sitk.And(near, image))
    filled = np.empty(kept.shape, bool)
    for index, slice_ in enumerate(kept):
        filled[index] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(slice_)))
    return filled, notes


def _largest(image: sitk.Image) -> tuple[sitk.Image | None, float]:
    """The largest component of a mask, None of an empty one; and the size of the second as a share of its size."""
    ordering = sitk.RelabelComponentImageFilter()
    ordering.SortByObjectSizeOn()
    components = ordering.Execute(sitk.ConnectedComponent(image))
    sizes = ordering.GetSizeOfObjectsInPixels()
    if not sizes:
        return None, 0.0
    return sitk.Equal(components, 1), sizes[1] / sizes[0] if len(sizes) > 1 else 0.0
