"""The rules of a prompt generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import (
    PROMPTS,
    AnyPrompt,
    Box,
    MaskPrompt,
    Point,
    Prompt,
    PromptError,
    PromptGenerator,
    PromptKind,
    Target,
    check_on_slice,
)
from oncoseg_testing.checks.rules import for_all, read_only, refuses, require, rule, show

Mask = npt.NDArray[np.bool_]

TARGET = Target(name="lung tumour", labels=frozenset({1}), synonyms=("pulmonary tumour",))


OBJECT = (slice(12, 19), slice(40, 45))
"""Rows and columns of the object on a slice of 48 by 64: unlike in every direction, and far from the border."""

DRAWS = 200
"""So many prompts for one object tell a lean to one side from chance."""


def check_prompt_generator(generator: PromptGenerator, *, makes: Sequence[PromptKind], near: float = 0.0) -> None:
    """Check a prompt generator on generated masks of one pixel and more, in several memory layouts.

    Args:
        generator: built, with whatever settings.
        makes: the kinds of hint, as in its record.
        near: how many pixels a positive point may lie beside the object, for a generator that clicks inexactly.

    Raises:
        AssertionError: a rule is broken.
    """
    seeds = st.integers(0, 2**32 - 1)
    for_all(st.tuples(_masks(), seeds), lambda drawn: _check(generator, *drawn, makes=makes), count=150)
    _check_aim(generator, near)
    empty = np.zeros((5, 7), dtype=bool)
    if set(makes) == {"text"}:
        with rule("a text can also be asked about an empty mask", show(empty)):
            require(bool(generator.generate(empty, np.random.default_rng(0), TARGET)), "no hint")
        return
    with rule("an empty mask is refused with PromptError", show(empty)):
        refuses(PromptError, lambda: generator.generate(empty, np.random.default_rng(0), TARGET))


def _check(generator: PromptGenerator, mask: Mask, seed: int, *, makes: Sequence[PromptKind]) -> None:
    example = f"mask {show(mask)}, rng of seed {seed}"
    with rule("generate takes any memory layout and does not write to the mask", example):
        prompt = generator.generate(read_only(mask), np.random.default_rng(seed), TARGET)
    *names, last = (prompt_class.__name__ for prompt_class in PROMPTS.values())
    with rule(f"a prompt is a tuple of at least one {', '.join(names)} or {last}", example):
        right = isinstance(prompt, tuple) and len(prompt) > 0
        require(right and all(isinstance(hint, AnyPrompt) for hint in prompt), repr(prompt))
    with rule(f"its hints are of the kinds that the record says it makes ({', '.join(makes)})", example):
        require({hint.kind for hint in prompt} <= set(makes), repr(prompt))
    with rule("its hints lie on the slice", example):
        check_on_slice(prompt, *mask.shape)
    with rule("the same mask and the same rng give the same prompt: draw from nothing else", example):
        again = generator.generate(read_only(mask), np.random.default_rng(seed), TARGET)
        require(_plain(again) == _plain(prompt), f"{prompt!r}, then {again!r}")
    with rule("the mask's memory layout does not change the prompt", example):
        again = generator.generate(np.ascontiguousarray(mask), np.random.default_rng(seed), TARGET)
        require(_plain(again) == _plain(prompt), f"{prompt!r}, contiguous {again!r}")


def _check_aim(generator: PromptGenerator, near: float) -> None:
    """Where the hints for one object lie, over many draws."""
    mask = np.zeros((48, 64), dtype=bool)
    mask[OBJECT] = True
    rows, columns = OBJECT
    example = f"an object in columns {columns.start} to {columns.stop - 1}, rows {rows.start} to {rows.stop - 1}"
    drawn = [generator.generate(read_only(mask), np.random.default_rng(seed), TARGET) for seed in range(DRAWS)]
    hints = [hint for prompt in drawn for hint in prompt]
    with rule("a positive point lies on the object, a negative one does not: x is the column, y the row", example):
        for hint in hints:
            if isinstance(hint, Point):
                distance = _distance(hint, rows, columns)
                right = distance <= near if hint.positive else distance > 0
                require(right, f"{hint!r}")
    with rule("a mask prompt covers some of the object", example):
        require(all((hint.mask & mask).any() for hint in hints if isinstance(hint, MaskPrompt)), "none of it")
    boxes = np.array([(hint.x0, hint.y0, hint.x1, hint.y1) for hint in hints if isinstance(hint, Box)])
    with rule(
        "a box leans to no side of the object, whose pixels reach from column to column + 1 and row to row + 1", example
    ):
        for low, high, span, axis in ((0, 2, columns, "columns"), (1, 3, rows, "rows")):
            if not len(boxes):
                break
            lean = (span.start - boxes[:, low]) - (boxes[:, high] - span.stop)
            chance = 5 * float(lean.std()) / len(lean) ** 0.5
            require(abs(lean.mean()) <= 0.5 + chance, f"{axis}: by {lean.mean() / 2:+.2f} pixels, as a mean")


def _distance(point: Point, rows: slice, columns: slice) -> float:
    """From a point to the object's pixels, 0 on them."""
    beside = [max(span.start - place, place - span.stop, 0.0) for span, place in ((columns, point.x), (rows, point.y))]
    return float(np.hypot(*beside))


def _plain(prompt: Prompt) -> list[Any]:
    """Hints that can be compared: mask prompts are equal where their pixels are."""
    return [hint.mask.tolist() if isinstance(hint, MaskPrompt) else hint for hint in prompt]


@st.composite
def _masks(draw: st.DrawFn) -> Mask:
    mask = draw(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
    row, column = (draw(st.integers(0, size - 1)) for size in mask.shape)
    mask[row, column] = True
    return draw(st.sampled_from((mask, np.asfortranarray(mask), mask[::-1, ::-1])))
