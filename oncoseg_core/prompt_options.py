"""The prompt and the slices that a command line asks for. Light: no torch, no image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oncoseg_core.errors import PromptError, UsageError
from oncoseg_core.prompts import AnyPrompt, Box, Exemplar, Point, Prompt, Text


@dataclass(frozen=True)
class PromptOptions:
    """The options as they were written; together they are the prompt for one answer."""

    boxes: Sequence[str] = ()
    points: Sequence[str] = ()
    negative_points: Sequence[str] = ()
    texts: Sequence[str] = ()
    exemplars: Sequence[str] = ()
    negative_exemplars: Sequence[str] = ()

    def prompt(self) -> Prompt:
        """All of it as one prompt.

        Raises:
            PromptError: there is nothing, more than one box or text, or numbers that cannot be read.
        """
        for option, values in (("--box", self.boxes), ("--text", self.texts)):
            if len(values) > 1:
                raise PromptError(f"{option} is given {len(values)} times: one object is segmented per call")
        hints: list[AnyPrompt] = [Box(*_corners("--box", text)) for text in self.boxes]
        for positive, option, values in (
            (True, "--point", self.points),
            (False, "--negative-point", self.negative_points),
        ):
            for text in values:
                x, y = _numbers(option, text, "two numbers x,y in pixels, such as 150,230", 2)
                hints.append(Point(x, y, positive))
        hints += [Text(text) for text in self.texts]
        hints += [Exemplar(*_corners("--exemplar", text)) for text in self.exemplars]
        hints += [Exemplar(*_corners("--negative-exemplar", text), positive=False) for text in self.negative_exemplars]
        if not hints:
            raise PromptError("no prompt was given: expected --box, --point, --text or --exemplar")
        return tuple(hints)


def parse_slices(slice_index: int | None, slices: str | None, depth: int, name: str) -> range:
    """The slices to prompt: one, ``A:B`` with both included, or ``all``.

    Raises:
        UsageError: nothing or both were said of a volume with several slices, or it has no such slices.
    """
    if slice_index is not None and slices is not None:
        raise UsageError("--slice and --slices are both given; keep one")
    if slices is None:
        if slice_index is None:
            if depth > 1:
                raise UsageError(
                    f"{name}: has {depth} slices; say on which one the prompt is: --slice 0 to {depth - 1}, "
                    "--slices A:B or --slices all"
                )
            slice_index = 0
        chosen = range(slice_index, slice_index + 1)
    elif slices == "all":
        chosen = range(depth)
    else:
        try:
            first, last = (int(part) for part in slices.split(":"))
        except ValueError:
            raise UsageError(f"--slices {slices}: expected A:B, both included, such as 20:29, or all") from None
        if first > last:
            raise UsageError(f"--slices {slices}: the first slice comes after the last; expected A:B with A <= B")
        chosen = range(first, last + 1)
    for index in (chosen[0], chosen[-1]):
        if not 0 <= index < depth:
            raise UsageError(f"slice {index} does not exist: {name} has slices 0 to {depth - 1}")
    return chosen


def _place(option: str, text: str) -> tuple[float, float]:
    x, y = _numbers(option, text, "two numbers x,y in pixels, such as 150,230", 2)
    return x, y


def _corners(option: str, text: str) -> tuple[float, float, float, float]:
    wanted = "four numbers x0,y0,x1,y1 in pixels, such as 120,200,180,260"
    x0, y0, x1, y1 = _numbers(option, text, wanted, 4)
    return x0, y0, x1, y1


def _numbers(option: str, text: str, wanted: str, count: int) -> list[float]:
    """``1,2,…`` as so many numbers.

    Raises:
        PromptError: it is something else.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise PromptError(f"{option} {text}: expected {wanted}")
    return numbers
