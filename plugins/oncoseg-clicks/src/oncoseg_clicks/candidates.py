"""From clicks to candidate boxes, in pixels of a model's input: sizes, shapes, grown and cut by clicks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from oncoseg_core import Box

Place: TypeAlias = tuple[float, float]

SIDES = (9, 13, 18, 26, 36, 50, 70, 98)
"""Sides of the squares around a click, in 256ths of the model's input: steps of about the square root of two."""

STRETCHED = (18, 36)
"""Of these sides there is also a wide and a high rectangle of the same area."""

STRETCH = 1.6
"""Their longer side by their shorter one."""

RESIZED = (0.7, 0.85, 1.0, 1.2, 1.45)
"""Factors on the sides of a box that came with the clicks."""

MARGIN, MARGIN_SHARE = 2, 0.25
"""Between a corrective click and the side of the box that was grown to it: a share of the box's shorter side, and no
less than so many 256ths of the input."""


class Clicks(NamedTuple):
    """Places ``(x, y)`` on the object and off it, the first click first, and the box that came with them, if any."""

    positive: tuple[Place, ...]
    negative: tuple[Place, ...] = ()
    box: Box | None = None


class Candidates(NamedTuple):
    """Boxes to ask a model about; the first ``plain`` of them do not depend on corrective clicks."""

    boxes: list[Box]
    plain: int


def candidate_boxes(clicks: Clicks, size: int) -> Candidates:
    """The boxes to ask a model about.

    Around the first positive click, or the box that came with the clicks, in several sizes. Where further positive
    clicks lie outside a square, it is there once more, grown to hold them; where negative clicks lie in that, once
    more, cut on the side that costs least, so that they lie outside. None reaches beyond the input.

    Args:
        clicks: at least one positive, or a box.
        size: the side of the model's square input.
    """
    unit = size / 256
    found: dict[tuple[float, ...], Box] = {}

    def add(box: Box) -> Box:
        box = _inside(box, size)
        found.setdefault(tuple(round(side / unit) for side in box.as_tuple()), box)
        return box

    starts = list(_starts(clicks, unit))
    for start in starts + ([] if clicks.box is not None else list(_stretched(clicks.positive[0], unit))):
        add(start)
    plain = len(found)
    for start in starts:
        add(_cut(add(_grown(start, clicks, unit)), clicks))
    return Candidates(list(found.values()), plain)


def _starts(clicks: Clicks, unit: float) -> Iterator[Box]:
    if clicks.box is not None:
        box = clicks.box
        centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        for factor in RESIZED:
            yield _around(centre, factor * (box.x1 - box.x0), factor * (box.y1 - box.y0))
        return
    for side in SIDES:
        yield _around(clicks.positive[0], side * unit, side * unit)


def _stretched(place: Place, unit: float) -> Iterator[Box]:
    for side in STRETCHED:
        long, short = side * unit * math.sqrt(STRETCH), side * unit / math.sqrt(STRETCH)
        yield _around(place, long, short)
        yield _around(place, short, long)


def _around(centre: Place, width: float, height: float) -> Box:
    x, y = centre
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _grown(box: Box, clicks: Clicks, unit: float) -> Box:
    """The box and all positive clicks with a margin; a click that is in the box already moves no side."""
    further = [(x, y) for x, y in clicks.positive if not _holds(box, (x, y))]
    margin = max(MARGIN * unit, MARGIN_SHARE * min(box.x1 - box.x0, box.y1 - box.y0))
    return Box(
        min([box.x0, *(x - margin for x, _ in further)]),
        min([box.y0, *(y - margin for _, y in further)]),
        max([box.x1, *(x + margin for x, _ in further)]),
        max([box.y1, *(y + margin for _, y in further)]),
    )


def _inside(box: Box, size: int) -> Box:
    """The part on the input; all of it where a box that came with the clicks lies beside."""
    x0, y0, x1, y1 = max(0.0, box.x0), max(0.0, box.y0), min(float(size), box.x1), min(float(size), box.y1)
    return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else box


def _cut(box: Box, clicks: Clicks) -> Box:
    """The box without the negative clicks, as far as it can then hold every positive one."""
    for x, y in clicks.negative:
        if _holds(box, (x, y)):
            sides = (
                (x, box.y0, box.x1, box.y1),
                (box.x0, y, box.x1, box.y1),
                (box.x0, box.y0, x, box.y1),
                (box.x0, box.y0, box.x1, y),
            )
            parts = [Box(*side) for side in sides if side[0] < side[2] and side[1] < side[3]]
            parts = [part for part in parts if all(_holds(part, place) for place in clicks.positive)]
            box = max(parts, key=_area, default=box)
    return box


def _holds(box: Box, place: Place) -> bool:
    x, y = place
    return box.x0 < x < box.x1 and box.y0 < y < box.y1


def _area(box: Box) -> float:
    return (box.x1 - box.x0) * (box.y1 - box.y0)
