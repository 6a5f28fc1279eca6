"""The body: the largest piece of tissue, with the air inside of it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from oncoseg_core import BoolArray, Geometry

TABLE_MM = 4.0
"""Half the width of the bridges between body and table that are cut: clothes, cushions, the mattress' cover."""


def body_mask(hounsfield: NDArray[np.generic], geometry: Geometry, above: float) -> BoolArray:
    """The body ``(z, y, x)``: tissue opened by a few millimetres, its largest component, holes of each slice filled.

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
    opened = sitk.BinaryMorphologicalOpening(image, radius, sitk.sitkBall)
    largest = _largest(opened)
    if largest is None:
        return np.zeros(hounsfield.shape, bool)
    # What the opening took from the body's own edge is given back, and no more.
    near = sitk.BinaryDilate(largest, radius, sitk.sitkBall)
    kept = sitk.GetArrayFromImage(sitk.And(near, image))
    filled = np.empty(kept.shape, bool)
    for index, slice_ in enumerate(kept):
        filled[index] = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(slice_)))
    return filled


def _largest(image: sitk.Image) -> sitk.Image | None:
    """The largest component of a mask; None of an empty one."""
    components = sitk.RelabelComponent(sitk.ConnectedComponent(image), sortByObjectSize=True)
    largest = sitk.Equal(components, 1)
    return largest if sitk.GetArrayFromImage(largest).any() else None
