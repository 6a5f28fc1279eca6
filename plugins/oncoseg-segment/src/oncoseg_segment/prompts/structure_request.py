"""One structure that is asked for: its name, the hints as they were given, and where they count. Light: no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from oncoseg_core import PROMPTS, AnyPrompt, PromptError, PromptKind, prompt_from_points
from oncoseg_segment.prompts.slice_prompt import SlicePrompt

Units: TypeAlias = Literal["voxel", "mm"]
Numbers: TypeAlias = tuple[float, ...]
DrawnKind: TypeAlias = Literal["box", "point", "exemplar", "scribble", "lasso"]

_LINE = 3
"""Points from which on a hint is a line, of any number of them."""
_IN_VOXELS = {
    1: "two numbers x,y in pixels, such as 150,230",
    2: "four numbers x0,y0,x1,y1 in pixels, such as 120,200,180,260",
    _LINE: "points x,y,x,y,... in pixels",
}
_IN_DEPTH = {
    1: "three x,y,z with z a slice's index",
    2: "six x0,y0,z0,x1,y1,z1 with z0 and z1 indices of slices, both included",
    _LINE: "points of one slice, with its index z",
}
_IN_MM = {
    1: "three numbers x,y,z in LPS mm",
    2: "six numbers x0,y0,z0,x1,y1,z1 in LPS mm, each second corner no smaller",
    _LINE: "points x,y,z,x,y,z,... in LPS mm",
}


@dataclass(frozen=True)
class Hint:
    """A hint that is made of points, as it was given; ``where`` is how messages call it, such as ``box [1, 2, 3, 4]``.

    In voxels: ``x,y`` of each point in continuous pixels of the slice, which is said apart; or ``x,y,z`` with x and y
    the same and z the indices of slices, of a box's corners both included. In mm: the latter, all in LPS millimetres.
    ``axes`` are the numbers of each point, which only a scribble and a lasso need: else their count tells.
    """

    kind: DrawnKind
    numbers: Numbers
    positive: bool = True
    where: str = ""
    axes: Literal[2, 3] | None = None

    @property
    def deep(self) -> bool:
        """Whether it says its slices itself."""
        return len(self.numbers) in {3, 6} if self.axes is None else self.axes == 3

    @property
    def is_block(self) -> bool:
        """Whether two corners make it, and so it may be on several slices."""
        return PROMPTS[self.kind].corners == (2, 2)

    @property
    def points(self) -> tuple[Numbers, ...]:
        """Its points, each of two or three numbers."""
        axes = 3 if self.deep else 2
        return tuple(self.numbers[start : start + axes] for start in range(0, len(self.numbers), axes))

    def on_slice(self, points: Sequence[tuple[float, float]] | None = None) -> AnyPrompt:
        """The prompt on a slice, from points in pixels; its own by default, without their z.

        Raises:
            PromptError: a rectangle or lasso has no area.
        """
        if points is None:
            points = [(point[0], point[1]) for point in self.points]
        return prompt_from_points(self.kind, points, positive=self.positive)

    def check(self, units: Units) -> None:
        """Refuse numbers that mean nothing in these units.

        Raises:
            PromptError: they are too many or too few, not finite, or the wrong way round.
        """
        fewest, most = PROMPTS[self.kind].corners
        where, form = self.where or f"{self.kind} {self.numbers}", fewest if fewest == most else _LINE
        right = all(len(point) == len(self.points[0]) for point in self.points) and fewest <= len(self.points) <= most
        at_least = f", at least {fewest}" if form == _LINE else ""
        if units == "mm":
            disordered = self.is_block and right and any(a > b for a, b in zip(*self.points, strict=True))
            if not (right and self.deep) or not all(map(math.isfinite, self.numbers)) or disordered:
                raise PromptError(f"{where}: expected {_IN_MM[form]}{at_least}")
            return
        if not right:
            raise PromptError(f"{where}: expected {_IN_VOXELS[form]}{at_least}, or {_IN_DEPTH[form]}")
        if self.deep and not self._on_slices():
            raise PromptError(f"{where}: expected {_IN_DEPTH[form]}, in order")
        self.on_slice()

    def _on_slices(self) -> bool:
        """Whether z are indices of slices in order; of one slice, but for a block."""
        indices = [point[2] for point in self.points]
        whole = all(math.isfinite(z) and z == int(z) for z in indices)
        return whole and indices == sorted(indices) and (self.is_block or len(set(indices)) == 1)


@dataclass(frozen=True)
class StructureRequest:
    """What to segment, under which name. ``slice_index`` or ``slices`` say where hints without a z of their own count.

    Sessions give ``placed`` in place of hints and text: what is known of each slice, in their order. ``over`` is the
    structure as it was followed before: its slices stay where these say nothing else.

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
    placed: tuple[SlicePrompt, ...] = ()
    over: StructureRequest | None = None
    kinds: frozenset[PromptKind] = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise PromptError("a structure needs a name")
        if not self.hints and self.text is None and not self.placed:
            raise PromptError("no prompt was given: expected `box`, `point`, `text` or `exemplar`")
        for kind, several in (("box", "boxes"), ("lasso", "lassos")):
            if sum(hint.kind == kind for hint in self.hints) > 1:
                raise PromptError(f"structure {self.name!r} has several {several}: a structure has one")
        for hint in self.hints:
            hint.check(self.units)
        kinds: set[PromptKind] = {hint.kind for hint in self.hints}
        kinds.update(kind for one in self.placed for kind in one.kinds)
        object.__setattr__(self, "kinds", frozenset(kinds | ({"text"} if self.text is not None else set())))
