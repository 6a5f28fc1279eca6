"""Pieces of a mask: numbered, boxed, and how far a pixel is from them or from the middle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from oncoseg_core import BoolArray, Geometry

Box = tuple[slice, slice, slice]

APART_MM = 1e5
"""Between slices that are not to see one another: all of them are measured in one go."""


def numbered(mask: BoolArray) -> NDArray[np.uint32]:
    """The connected components of a mask, by shared faces, as numbers from 1."""
    return np.asarray(sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)))))


def boxed(mask: BoolArray) -> Box:
    """The smallest box around a mask that is not empty."""
    spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    z, y, x = (slice(int(holding[0]), int(holding[-1]) + 1) for holding in spans)
    return z, y, x


def distance_mm(mask: BoolArray, spacing: tuple[float, float], *, inside: bool = False) -> NDArray[np.float32]:
    """How far each pixel of a slice of ``(z, y, x)`` is from the slice's mask; ``inside``: from its border, within.

    Spacing is ``(x, y)`` mm. A slice without a mask is further than anything.
    """
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((*spacing, APART_MM))
    signed = sitk.SignedMaurerDistanceMap(image, inside, False, True)  # inside positive, not squared, in mm
    return np.asarray(sitk.GetArrayFromImage(signed), np.float32)


def from_middle_mm(body: BoolArray, geometry: Geometry, axis: int) -> Iterator[NDArray[np.float32]]:
    """Slice by slice, how far each pixel ``(y, x)`` is from the centre of the body on that slice.

    To the patient's left with ``axis`` 0, to the back with 1. ``body`` is a part of the grid; a slice without it
    counts from the corner of the part.
    """
    along_x, along_y = geometry.affine[axis, :2]
    rows, columns = (np.arange(size) for size in body.shape[1:])
    places = (along_y * rows[:, None] + along_x * columns).astype(np.float32)
    for flat in body:
        count = max(1, np.count_nonzero(flat))
        middle = along_y * (flat.sum(axis=1) @ rows) / count + along_x * (flat.sum(axis=0) @ columns) / count
        yield places - np.float32(middle)
