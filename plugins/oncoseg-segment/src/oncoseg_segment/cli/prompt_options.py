"""The structure and the slices that a command line asks for. Light: no torch, no image is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oncoseg_core import PromptError, Text
from oncoseg_segment.prompts.structure_request import DrawnKind, Hint, StructureRequest, Units


@dataclass(frozen=True)
class PromptOptions:
    """The options as they were written; together they are the prompt for one structure."""

    boxes: Sequence[str] = ()
    points: Sequence[str] = ()
    negative_points: Sequence[str] = ()
    texts: Sequence[str] = ()
    exemplars: Sequence[str] = ()
    negative_exemplars: Sequence[str] = ()
    scribbles: Sequence[str] = ()
    negative_scribbles: Sequence[str] = ()
    lassos: Sequence[str] = ()
    slice_index: int | None = None
    slices: str | None = None
    propagate: bool = False
    target: str | None = None
    units: Units = "voxel"

    @property
    def given(self) -> bool:
        """Whether any of them was."""
        return self != PromptOptions()

    def structure(self) -> StructureRequest:
        """All of it as one structure.

        Raises:
            PromptError: there is nothing, more than one box, lasso or text, or numbers that cannot be read.
        """
        for option, values in (("--box", self.boxes), ("--lasso", self.lassos), ("--text", self.texts)):
            if len(values) > 1:
                raise PromptError(
                    f"{option} is given {len(values)} times: a structure has one; --prompts FILE takes several"
                )
        text = Text(self.texts[0]).text if self.texts else None
        written: list[tuple[DrawnKind, bool, str, Sequence[str]]] = [
            ("box", True, "--box", self.boxes),
            ("point", True, "--point", self.points),
            ("point", False, "--negative-point", self.negative_points),
            ("exemplar", True, "--exemplar", self.exemplars),
            ("exemplar", False, "--negative-exemplar", self.negative_exemplars),
            ("scribble", True, "--scribble", self.scribbles),
            ("scribble", False, "--negative-scribble", self.negative_scribbles),
            ("lasso", True, "--lasso", self.lassos),
        ]
        hints = [
            _hint(kind, value, f"{option} {value}", self.units, positive=positive)
            for kind, positive, option, values in written
            for value in values
        ]
        return StructureRequest(
            name=self.target if self.target is not None else text or "object",
            hints=tuple(hints),
            text=text,
            units=self.units,
            slice_index=self.slice_index,
            slices=self.slices,
            propagate=self.propagate,
        )


def _hint(kind: DrawnKind, value: str, where: str, units: Units, *, positive: bool) -> Hint:
    """A hint as it was written: ``1,2,…``, or of a scribble or lasso in voxels also ``1,2,…@z``."""
    if kind not in {"scribble", "lasso"}:
        return Hint(kind, _numbers(value), positive, where)
    places, at, index = value.partition("@")
    numbers, z = _numbers(places), _numbers(index)
    if at:
        paired = len(z) == 1 and len(numbers) % 2 == 0 and units == "voxel"
        pairs = zip(numbers[::2], numbers[1::2], strict=True) if paired else ()
        numbers = tuple(number for x, y in pairs for number in (x, y, *z))
    return Hint(kind, numbers, positive, where, axes=3 if at or units == "mm" else 2)


def _numbers(text: str) -> tuple[float, ...]:
    """``1,2,…`` as numbers; none where it is something else, which the hint then refuses."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
