"""Clicks, and the lines that are drawn: scribbles and lassos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.prompt_rectangles import Box, pixels_around
from oncoseg_core.contract.prompt_rules import Place, PointMap, PromptBase, PromptKind, outside_slice


@dataclass(frozen=True, slots=True)
class Point(PromptBase):
    """A click at ``(x, y)`` in continuous pixel coordinates; ``positive`` says inside or outside the object."""

    kind: ClassVar[PromptKind] = "point"
    corners: ClassVar[tuple[int, int]] = (1, 1)
    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise PromptError(f"point ({self.x}, {self.y}) has a coordinate that is not finite")

    @classmethod
    def of(cls, points: Sequence[Place]) -> Self:
        """From the one."""
        ((x, y),) = points
        return cls(x, y)

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a click on no pixel."""
        if not (0 <= self.x < width and 0 <= self.y < height):
            raise PromptError(f"point ({self.x:g}, {self.y:g}) {outside_slice(height, width)}")

    def moved(self, point: PointMap) -> Self:
        """The click moved."""
        x, y = point(self.x, self.y)
        return replace(self, x=x, y=y)

    def bounds(self) -> Box:
        """The pixel that was clicked on."""
        return pixels_around(self.clicks())

    def clicks(self) -> tuple[Place, ...]:
        """Its one place."""
        return ((self.x, self.y),)

    def coordinates(self) -> dict[str, Any]:
        """The place."""
        return {"x y": [self.x, self.y]}


@dataclass(frozen=True, slots=True)
class Line(PromptBase):
    """Points ``(x, y)`` in continuous pixel coordinates, joined in order: what a scribble and a lasso share.

    It is drawn on the slice and may not leave it.

    Raises:
        PromptError: they are too few, or a coordinate is not finite.
    """

    points: tuple[Place, ...]

    def __post_init__(self) -> None:
        fewest = self.corners[0]
        if len(self.points) < fewest or any(len(place) != 2 for place in self.points):
            raise PromptError(f"a {self.kind} is at least {fewest} points (x, y), found {self.points}")
        if not all(math.isfinite(v) for place in self.points for v in place):
            raise PromptError(f"{self.kind} {self.points} has a coordinate that is not finite")

    @classmethod
    def of(cls, points: Sequence[Place]) -> Self:
        """From all of them in order."""
        return cls(tuple(points))

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a point outside; on the border of the last row or column it is on the slice."""
        for x, y in self.points:
            if not (0 <= x <= width and 0 <= y <= height):
                raise PromptError(f"{self.kind} point ({x:g}, {y:g}) {outside_slice(height, width)}")

    def moved(self, point: PointMap) -> Self:
        """Each point moved."""
        return replace(self, points=tuple(point(x, y) for x, y in self.points))

    def bounds(self) -> Box:
        """The box around the points."""
        xs, ys = zip(*self.points, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))

    def coordinates(self) -> dict[str, Any]:
        """The points."""
        return {"points x y": [list(place) for place in self.points]}


@dataclass(frozen=True, slots=True)
class Scribble(Line):
    """A line drawn over the object, or (``positive`` False) beside it."""

    kind: ClassVar[PromptKind] = "scribble"
    corners: ClassVar[tuple[int, int]] = (2, 1_000_000)
    positive: bool = True

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a point on no pixel, as for a click."""
        for x, y in self.points:
            if not (0 <= x < width and 0 <= y < height):
                raise PromptError(f"scribble point ({x:g}, {y:g}) {outside_slice(height, width)}")

    def bounds(self) -> Box:
        """The box around the pixels of its points."""
        return pixels_around(self.points)

    def clicks(self) -> tuple[Place, ...]:
        """Its points: it need not reach the object's edge."""
        return self.points


@dataclass(frozen=True, slots=True)
class Lasso(Line):
    """An outline around the object, closed from the last point to the first.

    Raises:
        PromptError: it encloses no area, or as much to its left as to its right (a figure of eight).
    """

    kind: ClassVar[PromptKind] = "lasso"
    outlines_object: ClassVar[bool] = True
    corners: ClassVar[tuple[int, int]] = (3, 1_000_000)

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        xs, ys = zip(*self.points, strict=True)
        (x0, y0), extent = self.points[0], (max(xs) - min(xs)) * (max(ys) - min(ys))
        pairs = zip(self.points, (*self.points[1:], self.points[0]), strict=True)
        area = sum((ax - x0) * (by - y0) - (bx - x0) * (ay - y0) for (ax, ay), (bx, by) in pairs) / 2
        if abs(area) <= 1e-9 * extent:
            raise PromptError(f"lasso {self.points} encloses no area: give its outline in order")
