"""Simulated clicks: where a patient annotator would click next, given the mask and what it should be.

The next click goes to the middle of the largest error: of the connected regions (8 neighbours) that the mask misses or
has too much, the one with most pixels, and in it the pixel farthest from its border. It is positive where the object
was missed, negative where the mask leaks. A pixel is clicked on once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from oncoseg_core import BoolArray, Point

_EIGHT = np.ones((3, 3), dtype=bool)


def next_click(mask: BoolArray, reference: BoolArray, clicked: Sequence[Point]) -> Point | None:
    """The middle of the largest error; None where there is none, or none that was not clicked on."""
    used = np.zeros(mask.shape, dtype=bool)
    for point in clicked:
        used[int(point.y), int(point.x)] = True
    errors: list[tuple[int, int, BoolArray, bool]] = []
    for positive, wrong in ((True, reference & ~mask), (False, mask & ~reference)):
        labels, number = ndimage.label(wrong, structure=_EIGHT)
        sizes = np.bincount(labels.ravel(), minlength=number + 1)
        errors += [
            (-int(sizes[one]), len(errors), labels == one, positive) for one in _largest_first(sizes, len(clicked) + 1)
        ]
    for _, _, region, positive in sorted(errors, key=lambda error: error[0]):
        place = _innermost(region, used)
        if place is not None:
            return Point(place[1] + 0.5, place[0] + 0.5, positive)
    return None


def _largest_first(sizes: npt.NDArray[np.intp], most: int) -> list[int]:
    """The numbers of the largest regions: one more than were clicked on always has a pixel left."""
    order = np.argsort(-sizes[1:], kind="stable")[:most] + 1
    return [int(one) for one in order]


def _innermost(region: BoolArray, used: BoolArray) -> tuple[int, int] | None:
    """The pixel of a region farthest from its border (the slice's edge is one), of several the middlemost."""
    distance = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    distance[used] = 0
    if not distance.any():
        return None
    farthest = np.argwhere(distance == distance.max())
    row, column = farthest[((farthest - farthest.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return int(row), int(column)
