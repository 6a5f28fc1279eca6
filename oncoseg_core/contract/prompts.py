"""Prompts: what a person points at, in continuous pixel coordinates of one 2-D slice.

Pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``: its centre is ``(x=j+0.5, y=i+0.5)``, and the box of one
single pixel is ``Box(j, i, j+1, i+1)``. All prompts are immutable; a ``Prompt`` is the tuple of all hints for ONE
answer on ONE slice. Boxes, points, masks, scribbles and lassos point at one object; a text or exemplars without them
ask for every object of a kind (a text and a box: the object of that kind in this box).

Each kind has its rules here: where it may lie, how it moves to another grid of pixels, what it surrounds, and whether
it shows how large the object is. The path, zoom, propagation and ``oncoseg segment`` know no kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.prompt_lines import Lasso, Line, Point, Scribble
from oncoseg_core.contract.prompt_rectangles import Box, Exemplar, Rectangle, box_around
from oncoseg_core.contract.prompt_rules import MaskMap, Place, PointMap, PromptKind
from oncoseg_core.contract.prompt_text_and_mask import MaskPrompt, Text

__all__ = [
    "PROMPTS",
    "AnyPrompt",
    "Box",
    "Exemplar",
    "Lasso",
    "Line",
    "MaskMap",
    "MaskPrompt",
    "Place",
    "Point",
    "PointMap",
    "Prompt",
    "PromptKind",
    "Rectangle",
    "Scribble",
    "Text",
    "box_around",
    "check_on_slice",
    "prompt_from_points",
]

AnyPrompt: TypeAlias = Box | Point | Text | MaskPrompt | Exemplar | Scribble | Lasso
Prompt: TypeAlias = tuple[AnyPrompt, ...]
PROMPTS: dict[PromptKind, type[AnyPrompt]] = {
    prompt.kind: prompt for prompt in (Box, Point, Text, MaskPrompt, Exemplar, Scribble, Lasso)
}
"""The class of each kind."""


def prompt_from_points(kind: PromptKind, points: Sequence[Place], *, positive: bool = True) -> AnyPrompt:
    """The prompt of a kind that is made of points, such as the two corners of a box.

    Raises:
        PromptError: the kind is not made of points, or these make none.
    """
    prompt_class: Any = PROMPTS[kind]
    fewest, most = prompt_class.corners
    if not (fewest and fewest <= len(points) <= most):
        raise PromptError(f"a prompt of kind {kind!r} is made of {fewest} to {most} points, found {len(points)}")
    made = prompt_class.of(points)
    return cast("AnyPrompt", made if positive else replace(made, positive=False))


def check_on_slice(prompt: Prompt, height: int, width: int) -> None:
    """Refuse a prompt that lies outside a slice of ``height`` rows and ``width`` columns.

    A box that overhangs the border is allowed (its visible part counts), one that misses the slice is not.

    Raises:
        PromptError: nothing was given, or a hint lies outside the slice.
    """
    if not prompt:
        *kinds, last = PROMPTS
        raise PromptError(f"no prompt was given: expected at least one {', '.join(kinds)} or {last}")
    for hint in prompt:
        hint.check_on_slice(height, width)
