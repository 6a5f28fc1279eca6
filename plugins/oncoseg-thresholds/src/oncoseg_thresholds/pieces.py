"""Pieces of a mask: numbered, boxed, centred, and how far a pixel is from them."""

from __future__ import annotations

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


def centres_mm(pieces: NDArray[np.unsignedinteger], geometry: Geometry, box: Box) -> NDArray[np.float64]:
    """The centres ``(n + 1, 3)`` of the pieces 1 to n on a part of the grid, in LPS mm; the first row is no piece's."""
    at = np.nonzero(pieces)
    numbers = pieces[at]
    counts = np.maximum(np.bincount(numbers, minlength=1), 1)
    index = [
        np.bincount(numbers, along, len(counts)) / counts + part.start for along, part in zip(at, box, strict=True)
    ]
    return geometry.index_to_lps(np.column_stack(index[::-1]))
