"""How large the object of a case is, as radiologists measure it: the longest diameter in the stored plane, in mm."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from oncoseg_core import BoolArray

SIZES = ("< 10 mm", "10-20 mm", "> 20 mm")
"""10 mm is the smallest lesion that RECIST 1.1 measures on CT (Eisenhauer et al., Eur J Cancer 2009)."""

_EIGHT = np.ones((3, 3), dtype=bool)


def longest_diameter(mask: BoolArray, spacing: tuple[float, float, float]) -> float:
    """The longest diameter of any connected part (8 neighbours) on any slice of a mask, in mm; 0 where it is empty.

    Between the middles of the pixels' outer edges: a row of n pixels is n pixels long.

    Args:
        mask: bool ``(z, y, x)``.
        spacing: mm, ``(z, y, x)``; along z nothing is measured.
    """
    longest = 0.0
    _, row_mm, column_mm = spacing
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        labels, _ = ndimage.label(mask[index], structure=_EIGHT)
        for number, place in enumerate(ndimage.find_objects(labels), start=1):
            rows, columns = (side.stop - side.start for side in place)
            if np.hypot(rows * row_mm, columns * column_mm) > longest:
                longest = max(longest, _diameter(labels[place] == number, row_mm, column_mm))
    return longest


def size_class(diameter_mm: float | None) -> str | None:
    """Which of ``SIZES``; None where there is no object, or no millimetres."""
    if not diameter_mm:
        return None
    return SIZES[0] if diameter_mm < 10 else SIZES[1] if diameter_mm <= 20 else SIZES[2]


def _diameter(part: BoolArray, row_mm: float, column_mm: float) -> float:
    border = part & ~ndimage.binary_erosion(part)
    centres = np.argwhere(border).astype(float)
    edges = np.concatenate([centres + step for step in ([-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5])])
    points = edges * (row_mm, column_mm)
    points = points[ConvexHull(points).vertices]  # never flat: the four edges of one pixel span a plane
    return float(np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1)).max())
