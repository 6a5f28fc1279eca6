"""Prompt generators that each break one rule; :class:`Tight` and :class:`AsMask` break none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oncoseg_core import Box, MaskPrompt, Point, Prompt, PromptError, PromptGenerator, PromptKind, Target, Text
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.prompt_generators import check_prompt_generator


def check(broken: type[PromptGenerator], makes: Sequence[PromptKind] = ("box",)) -> None:
    """Check a class whose record says that it makes boxes, unless said otherwise."""
    check_prompt_generator(broken(), makes=makes)


EXAMPLES = BrokenExamples("prompt-generator", check)


class Tight(PromptGenerator):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        rows, columns = np.nonzero(mask)
        if rows.size == 0:
            raise PromptError("empty")
        grow = rng.uniform(0, 2)
        return (Box(columns.min() - grow, rows.min() - grow, columns.max() + 1 + grow, rows.max() + 1 + grow),)


class AsMask(PromptGenerator):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        if not mask.any():
            raise PromptError("empty")
        return (MaskPrompt(np.array(mask)),)


@EXAMPLES.breaks("hints lie on the slice", makes=("point",))
class Beside(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        super().generate(mask, rng, target)
        return (Point(mask.shape[1], mask.shape[0]),)


@EXAMPLES.breaks("the same mask and the same rng give the same prompt")
class OwnDice(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        return super().generate(mask, np.random.default_rng(), target)


@EXAMPLES.breaks("does not write to the mask")
class Erasing(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        prompt = super().generate(mask, rng, target)
        mask[:] = False
        return prompt


@EXAMPLES.breaks("a prompt is a tuple")
class NotATuple(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        return super().generate(mask, rng, target)[0]  # type: ignore[return-value]


@EXAMPLES.breaks("a prompt is a tuple of at least one")
class Nothing(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        super().generate(mask, rng, target)
        return ()


@EXAMPLES.breaks("kinds that the record says it makes (box)")
class Undeclared(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        rows, columns = np.nonzero(mask)
        return (*super().generate(mask, rng, target), Point(columns[0] + 0.5, rows[0] + 0.5))


@EXAMPLES.breaks("an empty mask is refused with PromptError")
class AnywhereInEmpty(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        return super().generate(mask, rng, target) if mask.any() else (Box(0, 0, 1, 1),)


@EXAMPLES.breaks("an empty mask is refused with PromptError")
class ValueErrorInEmpty(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        if not mask.any():
            raise ValueError("empty")
        return super().generate(mask, rng, target)


@EXAMPLES.breaks("a text can also be asked about an empty mask", makes=("text",))
class SilentOnEmpty(PromptGenerator):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        return (Text(target.name),) if mask.any() else ()


@EXAMPLES.breaks("memory layout does not change the prompt")
class InMemoryOrder(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        super().generate(mask, rng, target)
        row, column = np.argwhere(mask)[-1 if mask.flags.c_contiguous else 0]
        return (Box(column, row, column + 1, row + 1),)


class Inside(PromptGenerator):
    """A point on the object; breaks no rule."""

    def place(self, mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
        places = np.argwhere(mask)
        if len(places) == 0:
            raise PromptError("empty")
        row, column = places[rng.integers(len(places))]
        return float(column) + 0.5, float(row) + 0.5

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        return (Point(*self.place(mask, rng)),)


@EXAMPLES.breaks("a box leans to no side of the object")
class WithoutItsLastPixels(Tight):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        super().generate(mask, rng, target)
        rows, columns = np.nonzero(mask)
        x0, y0 = columns.min(), rows.min()
        return (Box(x0, y0, max(columns.max(), x0 + 0.5), max(rows.max(), y0 + 0.5)),)


@EXAMPLES.breaks("x is the column, y the row", makes=("point",))
class RowFirst(Inside):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        x, y = self.place(mask, rng)
        return (Point(min(y, mask.shape[1] - 0.5), min(x, mask.shape[0] - 0.5)),)


@EXAMPLES.breaks("a positive point lies on the object", makes=("point",))
class FourPixelsOff(Inside):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        x, y = self.place(mask, rng)
        return (Point(min(x + 4, mask.shape[1] - 0.5), y),)


@EXAMPLES.breaks("a positive point lies on the object, a negative one does not", makes=("point",))
class AllPositive(Inside):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        around = [Point(column + 0.5, row + 0.5, positive=True) for row, column in np.argwhere(~mask)[:1]]
        return (*super().generate(mask, rng, target), *around)


@EXAMPLES.breaks("a mask prompt covers some of the object", makes=("mask",))
class Background(AsMask):
    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:
        super().generate(mask, rng, target)
        return (MaskPrompt(~mask if not mask.all() else np.array(mask)),)
