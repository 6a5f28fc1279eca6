"""Noun phrases and rough masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.prompt_rectangles import Box, box_around
from oncoseg_core.contract.prompt_rules import MaskMap, PointMap, PromptBase, PromptKind

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Text(PromptBase):
    """A noun phrase, such as a target's name."""

    kind: ClassVar[PromptKind] = "text"
    points_at_object: ClassVar[bool] = False
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise PromptError("the text prompt is empty: give a noun phrase such as 'lung tumour'")

    def as_record(self) -> dict[str, Any]:
        """The phrase."""
        return {"kind": self.kind, "text": self.text}


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrompt(PromptBase):
    """A rough mask of the object: bool ``(y, x)`` on the slice's own pixels."""

    kind: ClassVar[PromptKind] = "mask"
    outlines_object: ClassVar[bool] = True
    mask: np.ndarray

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or self.mask.dtype != bool:
            raise PromptError(
                f"a mask prompt is a bool array (y, x), found {self.mask.dtype} with {self.mask.ndim} axes"
            )

    def check_on_slice(self, height: int, width: int) -> None:
        """Refuse a mask of another shape."""
        if self.mask.shape != (height, width):
            raise PromptError(f"the mask prompt is {self.mask.shape}, the slice is {(height, width)} (rows, columns)")

    def mapped(self, point: PointMap, mask: MaskMap) -> Self:  # noqa: ARG002 - it has no coordinates
        """The mask on the other grid's pixels."""
        return replace(self, mask=mask(self.mask))

    def bounds(self) -> Box | None:
        """The tight box; None where the mask is empty."""
        return box_around(self.mask) if self.mask.any() else None
