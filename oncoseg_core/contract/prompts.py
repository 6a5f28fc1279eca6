"""Prompts: what a person points at, in continuous pixel coordinates of one 2-D slice.

Pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``: its centre is ``(x=j+0.5, y=i+0.5)``, and the box of one
single pixel is ``Box(j, i, j+1, i+1)``. All prompts are immutable; a ``Prompt`` is the tuple of all hints for ONE
answer on ONE slice. Boxes, points and masks point at one object; a text or exemplars without them ask for every object
of a kind (a text and a box: the object of that kind in this box).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from oncoseg_core.contract.errors import PromptError

if TYPE_CHECKING:
    import numpy as np

PromptKind: TypeAlias = Literal["box", "point", "text", "mask", "exemplar"]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """``(x0, y0, x1, y1)`` in continuous pixel coordinates, x to the right, y down: what a box and an exemplar share.

    Raises:
        PromptError: a coordinate is not finite, or there is no area.
    """

    kind: ClassVar[PromptKind]
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

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The four coordinates, ``(x0, y0, x1, y1)``."""
        return (self.x0, self.y0, self.x1, self.y1)


@dataclass(frozen=True, slots=True)
class Box(Rectangle):
    """A box around the one object."""

    kind: ClassVar[PromptKind] = "box"


@dataclass(frozen=True, slots=True)
class Exemplar(Rectangle):
    """A box around one example of what is looked for everywhere, or (``positive`` False) of what is not meant."""

    kind: ClassVar[PromptKind] = "exemplar"
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Point:
    """A click at ``(x, y)`` in continuous pixel coordinates; ``positive`` says inside or outside the object."""

    kind: ClassVar[PromptKind] = "point"
    x: float
    y: float
    positive: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise PromptError(f"point ({self.x}, {self.y}) has a coordinate that is not finite")


@dataclass(frozen=True, slots=True)
class Text:
    """A noun phrase, such as a target's name."""

    kind: ClassVar[PromptKind] = "text"
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise PromptError("the text prompt is empty: give a noun phrase such as 'lung tumour'")


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt:
    """A rough mask of the object: bool ``(y, x)`` on the slice's own pixels."""

    kind: ClassVar[PromptKind] = "mask"
    mask: np.ndarray

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != bool:
            raise PromptError(
                f"a mask prompt is a bool array (y, x), found {self.mask.dtype} with {self.mask.ndim} axes"
            )


AnyPrompt: TypeAlias = Box | Point | Text | MaskPrompt | Exemplar
Prompt: TypeAlias = tuple[AnyPrompt, ...]


def check_on_slice(prompt: Prompt, height: int, width: int) -> None:
    """Refuse a prompt that lies outside a slice of ``height`` rows and ``width`` columns.

    A box that overhangs the border is allowed (its visible part counts), one that misses the slice is not.

    Raises:
        PromptError: nothing was given, or a hint lies outside the slice.
    """
    if not prompt:
        raise PromptError("no prompt was given: expected at least one box, point, text, mask or exemplar")
    for hint in prompt:
        if isinstance(hint, Rectangle):
            if hint.x1 <= 0 or hint.y1 <= 0 or hint.x0 >= width or hint.y0 >= height:
                raise PromptError(
                    f"{hint.kind} {hint.as_tuple()} lies outside the slice, "
                    f"which is {width} pixels wide and {height} high"
                )
        elif isinstance(hint, Point):
            if not (0 <= hint.x < width and 0 <= hint.y < height):
                raise PromptError(
                    f"point ({hint.x:g}, {hint.y:g}) lies outside the slice, "
                    f"which is {width} pixels wide and {height} high"
                )
        elif isinstance(hint, MaskPrompt) and hint.mask.shape != (height, width):
            raise PromptError(f"the mask prompt is {hint.mask.shape}, the slice is {(height, width)} (rows, columns)")
