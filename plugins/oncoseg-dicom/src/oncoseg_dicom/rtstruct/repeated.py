"""Contours that are in a file more than once: the same outline in the other direction, from another point, or rounded.

Together they would cancel each other out, and what was drawn would be gone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]

NEAR = 0.25
"""Pixels. What lies between two outlines that are nowhere further apart is too thin to be part of a structure."""

AT_ONCE, MOST_WORK = 1 << 18, 1 << 30
"""Pairs of points and sides that are compared at once, and in one structure at most: that is some seconds."""

MOST_BESIDE = 1 << 10
"""Contours on a slice that begin at one column: beyond these, a file is damage or an attack."""


def repeated(points: Points, lengths: Ints, planes: Ints) -> BoolArray:
    """Which contours are nearly the same as an earlier one on their slice.

    Args:
        points: (x, y) ``(n, 2)`` in continuous pixels of the contours, one after the other.
        lengths: the points of each contour.
        planes: the slice of each contour.
    """
    again = np.zeros(len(lengths), dtype=bool)
    ends = np.cumsum(lengths)
    work = 0
    for one, other in _alike(points, lengths, planes):
        if again[one] or again[other]:
            continue
        work += 2 * int(lengths[one]) * int(lengths[other])
        if work > MOST_WORK:
            break
        rings = [points[ends[index] - lengths[index] : ends[index]] for index in (one, other)]
        again[other] = _near(*rings) and _near(*rings[::-1])
    return again


def _alike(points: Points, lengths: Ints, planes: Ints) -> list[tuple[int, int]]:
    """Pairs of contours on one slice, the earlier first, whose boxes and areas are nearly the same."""
    begins = np.cumsum(lengths) - lengths
    low, high = np.minimum.reduceat(points, begins, axis=0), np.maximum.reduceat(points, begins, axis=0)
    following = np.arange(1, len(points) + 1)
    following[begins + lengths - 1] = begins
    run = points[following] - points
    middle = np.repeat((low + high) / 2, lengths, axis=0)  # far from the origin, areas would lose their digits
    x, y = (points - middle).T
    area = np.abs(np.add.reduceat(x * run[:, 1] - y * run[:, 0], begins)) / 2
    perimeter = np.add.reduceat(np.linalg.norm(run, axis=1), begins)

    order = np.lexsort((low[:, 0], planes))
    pairs: list[tuple[int, int]] = []
    for lag in range(1, min(len(order), MOST_BESIDE)):
        one, other = order[:-lag], order[lag:]
        close = (planes[one] == planes[other]) & (low[other, 0] - low[one, 0] <= NEAR)
        if not close.any():
            break
        one, other = one[close], other[close]
        same = (np.abs(low[one] - low[other]) <= NEAR).all(axis=1)
        same &= (np.abs(high[one] - high[other]) <= NEAR).all(axis=1)
        same &= np.abs(area[one] - area[other]) <= NEAR * np.maximum(perimeter[one], perimeter[other])
        pairs += zip(np.minimum(one, other)[same].tolist(), np.maximum(one, other)[same].tolist(), strict=True)
    return sorted(pairs)


def _near(ring: Points, other: Points) -> bool:
    """Whether all points of a ring are near to the outline of the other."""
    run = np.roll(other, -1, axis=0) - other
    squared = np.maximum((run**2).sum(axis=1), np.finfo(float).tiny)
    at_once = max(1, AT_ONCE // len(other))
    for start in range(0, len(ring), at_once):
        way = ring[start : start + at_once, None] - other
        along = np.clip((way * run).sum(axis=2) / squared, 0, 1)
        apart = ((way - along[..., None] * run) ** 2).sum(axis=2).min(axis=1)
        if (apart > NEAR**2).any():
            return False
    return True
