"""Contours of one structure that overlap in part: what they mean is not defined, and must not pass unsaid.

One contour within another is a hole, two apart are two parts. Where they cross, the even-odd rule takes what both
enclose away; whoever drew them may have meant the union.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oncoseg_dicom.rtstruct.filling import fill

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]

MOST = 64
"""Contours on a slice among which overlaps are looked for; drawings have fewer, masks of noise more."""


def slices_with_overlaps(points: Points, lengths: Ints, planes: Ints, shape: tuple[int, int]) -> list[int]:
    """The slices on which two contours share voxels and neither encloses the other.

    Args:
        points: (x, y) ``(n, 2)`` in continuous pixels of the contours, one after the other.
        lengths: the points of each contour.
        planes: the slice of each contour.
        shape: of a slice ``(y, x)``.
    """
    rings = np.split(points, np.cumsum(lengths)[:-1])
    found = []
    for plane, count in zip(*np.unique(planes, return_counts=True), strict=True):
        here = np.flatnonzero(planes == plane) if 2 <= count <= MOST else ()
        if len(here) and _overlap([rings[index] for index in here], shape):
            found.append(int(plane))
    return found


def _overlap(rings: list[Points], shape: tuple[int, int]) -> bool:
    """Whether any ring covers voxels with different innermost rings around them, the larger being drawn first."""
    innermost = np.zeros(shape, dtype=np.int64)
    for number, ring in enumerate(sorted(rings, key=_area, reverse=True), start=1):
        low = np.clip(np.floor(ring.min(axis=0)), 0, shape[::-1]).astype(int)
        high = np.clip(np.ceil(ring.max(axis=0)), 0, shape[::-1]).astype(int)
        box = innermost[low[1] : high[1], low[0] : high[0]]
        inside = np.zeros((1, *box.shape), dtype=bool)
        if not box.size:
            continue
        fill(inside, ring - low, np.array([len(ring)]), np.array([0]))
        covered = box[inside[0]]
        if covered.size and covered.min() != covered.max():
            return True
        box[inside[0]] = number
    return False


def _area(ring: Points) -> float:
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
