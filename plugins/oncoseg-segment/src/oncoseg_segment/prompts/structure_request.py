"""One structure that is asked for: its name, the hints as they were given, and where they count. Light: no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from oncoseg_core import Box, Exemplar, Point, PromptError, PromptKind

Units: TypeAlias = Literal["voxel", "mm"]
Numbers: TypeAlias = tuple[float, ...]

_IN_VOXELS = {
    2: "two numbers x,y in pixels, such as 150,230",
    4: "four numbers x0,y0,x1,y1 in pixels, such as 120,200,180,260",
}
_IN_DEPTH = {
    2: "three x,y,z with z a slice's index",
    4: "six x0,y0,z0,x1,y1,z1 with z0 and z1 indices of slices, both included",
}
_IN_MM = {
    2: "three numbers x,y,z in LPS mm",
    4: "six numbers x0,y0,z0,x1,y1,z1 in LPS mm, each second corner no smaller",
}


@dataclass(frozen=True)
class Hint:
    """A box, point or exemplar as it was given; ``where`` is how messages call it, such as ``--box 1,2,3,4``.

    In voxels: ``x,y`` and ``x0,y0,x1,y1`` in continuous pixels of the slice, which is said apart; or ``x,y,z`` and
    ``x0,y0,z0,x1,y1,z1`` with x and y the same and z the indices of slices, both included. In mm: the latter two,
    all in LPS millimetres.
    """

    kind: Literal["box", "point", "exemplar"]
    numbers: Numbers
    positive: bool = True
    where: str = ""

    @property
    def deep(self) -> bool:
        """Whether it says its slices itself."""
        return len(self.numbers) in {3, 6}

    def on_slice(self, numbers: Numbers | None = None) -> Box | Point | Exemplar:
        """The prompt on a slice, from two or four numbers in pixels; its own by default, without those of z.

        Raises:
            PromptError: a rectangle has no area.
        """
        if numbers is None:
            width = 3 if self.deep else 2
            numbers = tuple(number for place, number in enumerate(self.numbers) if place % width < 2)
        if self.kind == "point":
            x, y = numbers
            return Point(x, y, self.positive)
        x0, y0, x1, y1 = numbers
        return Box(x0, y0, x1, y1) if self.kind == "box" else Exemplar(x0, y0, x1, y1, self.positive)

    def check(self, units: Units) -> None:
        """Refuse numbers that mean nothing in these units.

        Raises:
            PromptError: they are too many or too few, not finite, or the wrong way round.
        """
        flat = 2 if self.kind == "point" else 4
        found, where = len(self.numbers), self.where or f"{self.kind} {self.numbers}"
        if units == "mm":
            corners = zip(self.numbers[:3], self.numbers[3:], strict=False)
            if found != flat * 3 // 2 or not all(map(math.isfinite, self.numbers)) or any(a > b for a, b in corners):
                raise PromptError(f"{where}: expected {_IN_MM[flat]}")
            return
        if found not in {flat, flat * 3 // 2}:
            raise PromptError(f"{where}: expected {_IN_VOXELS[flat]}, or {_IN_DEPTH[flat]}")
        if self.deep and (not all(z == int(z) for z in self.numbers[2::3] if math.isfinite(z)) or self._upside_down):
            raise PromptError(f"{where}: expected {_IN_DEPTH[flat]}, in order")
        self.on_slice()

    @property
    def _upside_down(self) -> bool:
        slices = self.numbers[2::3]
        return not all(map(math.isfinite, slices)) or slices[0] > slices[-1]


@dataclass(frozen=True)
class StructureRequest:
    """What to segment, under which name. ``slice_index`` or ``slices`` say where hints without a z of their own count.

    Raises:
        PromptError: it has no hint and no text, or hints that cannot be meant.
    """

    name: str
    hints: tuple[Hint, ...] = ()
    text: str | None = None
    units: Units = "voxel"
    slice_index: int | None = None
    slices: str | None = None
    propagate: bool = False
    kinds: frozenset[PromptKind] = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise PromptError("a structure needs a name")
        if not self.hints and self.text is None:
            raise PromptError("no prompt was given: expected --box, --point, --text or --exemplar")
        if sum(hint.kind == "box" for hint in self.hints) > 1:
            raise PromptError(f"structure {self.name!r} has several boxes: a structure has one")
        for hint in self.hints:
            hint.check(self.units)
        kinds: set[PromptKind] = {hint.kind for hint in self.hints}
        object.__setattr__(self, "kinds", frozenset(kinds | ({"text"} if self.text is not None else set())))
