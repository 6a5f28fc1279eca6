"""Simulated clicks: where a patient annotator would click next, given the mask and what it should be.

The next click goes to the middle of the largest error: of the connected regions (8 neighbours) that the mask misses or
has too much, the one with most pixels, and in it the pixel farthest from its border. It is positive where the object
was missed, negative where the mask leaks. A pixel is clicked on once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from oncoseg_core import BoolArray, Point, Prompt

GOOD_DICE = 0.9
"""NoC@90: the number of clicks to a Dice of 0.9 on the slice."""

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Clicked:
    """What clicking led to: the last mask ``(y, x)``, all clicks, and how many it took to ``GOOD_DICE``.

    ``clicks_needed`` is one more than was allowed where that was never reached.
    """

    mask: BoolArray
    prompt: Prompt
    clicks_needed: int


def click(ask: Callable[[Prompt], BoolArray], reference: BoolArray, n: int) -> Clicked:
    """Click up to ``n`` times, and stop early only where no error is left to click on.

    Args:
        ask: answers all clicks so far with a mask ``(y, x)``.
        reference: bool ``(y, x)``, with at least one pixel.
        n: how many clicks are allowed.
    """
    mask: BoolArray = np.zeros(reference.shape, dtype=bool)
    clicks: list[Point] = []
    needed = n + 1
    while len(clicks) < n:
        point = next_click(mask, reference, clicks)
        if point is None:
            break
        clicks.append(point)
        mask = ask(tuple(clicks))
        if dice(mask, reference) >= GOOD_DICE:
            needed = min(needed, len(clicks))
    return Clicked(mask, tuple(clicks), needed)


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


def dice(mask: BoolArray, reference: BoolArray) -> float:
    """Dice of two masks of which one has a pixel."""
    return float(2 * np.count_nonzero(mask & reference) / (np.count_nonzero(mask) + np.count_nonzero(reference)))


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
