"""Boxes and exemplars, and the boxes around pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.prompt_rules import Place, PointMap, PromptBase, PromptKind, outside_slice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Rectangle(PromptBase):
    """``(x0, y0, x1, y1)`` in continuous pixel coordinates, x to the right, y down: what a box and an exemplar share.

    It may overhang the border of a slice: what lies on the slice counts.

    Raises:
        PromptError: a coordinate is not finite, or there is no area.
    """

    corners: ClassVar[tuple[int, int]] = (2, 2)
    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.as_tuple()):
            raise PromptError(f"{self.kind} {self.as_tuple()} has a coordinate that is not finite")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise PromptError(
                f"{self.kind} x0,y0,x1,y1 = {self.as_tuple()} has no area: expected x0 < x1 and y0 < y1 "
                "(pixels; y points down)"
            )

    @classmethod
    def of(cls, points: Sequence[Place]) -> Self:
        """From its two corners."""
        (x0, y0), (x1, y1) = points
        return cls(x0, y0, x1, y1)

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The four coordinates, ``(x0, y0, x1, y1)``."""
        return (self.x0, self.y0, self.x1, self.y1)

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a rectangle of which nothing lies on the slice."""
        if self.x1 <= 0 or self.y1 <= 0 or self.x0 >= width or self.y0 >= height:
            raise PromptError(f"{self.kind} {self.as_tuple()} {outside_slice(height, width)}")

    def clipped(self, height: int, width: int) -> Self:
        """Its part on the slice."""
        x0, y0, x1, y1 = max(0.0, self.x0), max(0.0, self.y0), min(float(width), self.x1), min(float(height), self.y1)
        return replace(self, x0=x0, y0=y0, x1=x1, y1=y1)

    def moved(self, point: PointMap) -> Self:
        """Two opposite corners moved, and put in order."""
        xs, ys = zip(point(self.x0, self.y0), point(self.x1, self.y1), strict=True)
        return replace(self, x0=min(xs), y0=min(ys), x1=max(xs), y1=max(ys))

    def bounds(self) -> Box:
        """Itself."""
        return Box(*self.as_tuple())

    def coordinates(self) -> dict[str, Any]:
        """The corners."""
        return {"x0 y0 x1 y1": list(self.as_tuple())}


@dataclass(frozen=True, slots=True)
class Box(Rectangle):
    """A box around the one object."""

    kind: ClassVar[PromptKind] = "box"
    outlines_object: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Exemplar(Rectangle):
    """A box around one example of what is looked for everywhere, or (``positive`` False) of what is not meant."""

    kind: ClassVar[PromptKind] = "exemplar"
    points_at_object: ClassVar[bool] = False
    needs_whole_slice: ClassVar[bool] = True
    positive: bool = True


def box_around(mask: npt.NDArray[np.bool_], margin: float = 0.0) -> Box:
    """The tight box around a mask ``(y, x)`` that is not empty, ``margin`` pixels wider on each side."""
    import numpy as np

    rows, columns = (np.flatnonzero(mask.any(axis=axis)).tolist() for axis in (1, 0))
    return Box(columns[0] - margin, rows[0] - margin, columns[-1] + 1 + margin, rows[-1] + 1 + margin)


def pixels_around(places: Sequence[Place]) -> Box:
    """The box around the pixels that places are on."""
    xs, ys = (list(map(math.floor, values)) for values in zip(*places, strict=True))
    return Box(min(xs), min(ys), max(xs) + 1, max(ys) + 1)
