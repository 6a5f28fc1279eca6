"""What a session knows of a structure on one slice: the prompt that was given there, and the mask that a hand drew."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from oncoseg_core import BoolArray, MaskPrompt, Prompt, PromptKind


@dataclass(frozen=True)
class DrawnMask:
    """A mask ``(y, x)`` as a value that can be compared and kept: its bits, deflated."""

    height: int
    width: int
    bits: bytes

    @classmethod
    def of(cls, mask: BoolArray) -> Self:
        """From a bool mask of a whole slice."""
        height, width = mask.shape
        return cls(height, width, zlib.compress(np.packbits(mask).tobytes(), 1))

    def mask(self) -> BoolArray:
        """The mask again."""
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.bits), np.uint8), count=self.height * self.width)
        return bits.astype(bool).reshape(self.height, self.width)


@dataclass(frozen=True)
class SlicePrompt:
    """``prompt`` in pixels of slice ``index``; ``drawn`` stands where there is no prompt, and else is a hint of it."""

    index: int
    prompt: Prompt = ()
    drawn: DrawnMask | None = None

    @property
    def kinds(self) -> frozenset[PromptKind]:
        """The kinds of hints that the model gets; none of a mask that only stands."""
        kinds = {hint.kind for hint in self.prompt}
        return frozenset(kinds | {"mask"} if kinds and self.drawn is not None else kinds)

    def hints(self) -> Prompt:
        """What the model is prompted with; nothing where the drawn mask stands."""
        if not self.prompt or self.drawn is None:
            return self.prompt
        return (MaskPrompt(self.drawn.mask()), *self.prompt)

    def with_hints(self, hints: Prompt, *, replaced: bool, keep_drawn: bool) -> Self:
        """More hints, or others; the drawn mask goes where the model takes none."""
        prompt = hints if replaced else (*self.prompt, *hints)
        return replace(self, prompt=prompt, drawn=self.drawn if keep_drawn else None)
