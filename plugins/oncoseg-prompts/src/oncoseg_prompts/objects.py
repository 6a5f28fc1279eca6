"""The single objects of a target: one prompt points at one of them.

A lesion is a connected component of the target's mask in the whole volume, of voxels that share a face, an edge or a
corner (26 neighbours): that is how MedSAM makes its boxes. On a slice, the parts of one lesion are one object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from oncoseg_core import BoolArray, Box, Prompt, PromptGenerator, Target

Per: TypeAlias = Literal["lesion", "target"]
"""A prompt for each lesion, or one for all of a target."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


class Objects:
    """Which parts of each slice belong to which object of a target.

    Only a number for each part of each slice is kept, so that it may be kept for as many cases as there are.

    Args:
        mask: gives the target's bool mask ``(y, x)`` on a slice.
        labelled: the slices that hold the target, ascending.
        each_lesion: whether each lesion is an object; else there is one, whatever it is made of.
    """

    def __init__(self, mask: Callable[[int], BoolArray], labelled: Sequence[int], *, each_lesion: bool) -> None:
        self.each_lesion = each_lesion
        self.number = 1
        self._parts: dict[int, npt.NDArray[np.int32]] = {}
        if not (each_lesion and len(labelled)):
            return
        first = labelled[0]
        stack = np.stack([mask(index) for index in range(first, labelled[-1] + 1)])
        lesions, self.number = ndimage.label(stack, _TOUCHING)
        for index in labelled:
            parts, number = ndimage.label(stack[index - first], _TOUCHING[1])
            self._parts[index] = ndimage.maximum(lesions[index - first], parts, np.arange(1, number + 1)).astype(
                np.int32
            )

    @classmethod
    def of(cls, mask: BoolArray, *, each_lesion: bool) -> Objects:
        """Those of a bool mask ``(z, y, x)``."""
        labelled = np.flatnonzero(mask.any(axis=(1, 2))).tolist()
        return cls(mask.__getitem__, labelled, each_lesion=each_lesion)

    def on_slice(self, index: int, mask: BoolArray) -> list[BoolArray]:
        """The objects on a slice, bool ``(y, x)``, in the order of their first voxels in the volume.

        Args:
            index: the slice.
            mask: the target's mask on it. Without lesions to tell apart it is the one object, empty or not.
        """
        return [part for _, part in self._numbered(index, mask)]

    def numbers_on(self, index: int) -> list[int]:
        """The numbers of the objects on a slice, ascending; as :meth:`volume` takes them."""
        if not self.each_lesion:
            return [1]
        return np.unique(self._parts.get(index, np.zeros(0, dtype=np.int32))).tolist()

    def part(self, number: int, index: int, mask: BoolArray) -> BoolArray:
        """One object on a slice, bool ``(y, x)``, given the target's mask there; empty where the object is not."""
        parts: BoolArray = dict(self._numbered(index, mask)).get(number, np.zeros_like(mask))
        return parts

    def volume(self, number: int, mask: BoolArray) -> BoolArray:
        """One object of the target's bool mask ``(z, y, x)`` by itself; they are numbered from 1 in the same order."""
        if not self.each_lesion:
            return mask
        volume: BoolArray = np.zeros_like(mask)
        for index, numbers in self._parts.items():
            if number in numbers:
                volume[index] = dict(self._numbered(index, mask[index]))[number]
        return volume

    def _numbered(self, index: int, mask: BoolArray) -> list[tuple[int, BoolArray]]:
        if not self.each_lesion:
            return [(1, mask)]
        parts, _ = ndimage.label(mask, _TOUCHING[1])
        numbers = self._parts.get(index, np.zeros(0, dtype=np.int32))
        own = np.concatenate([np.zeros(1, dtype=np.int32), numbers])[parts]
        return [(int(number), own == number) for number in np.unique(numbers)]


@dataclass(frozen=True, eq=False)
class Prompting:
    """A prompt generator, and whether it is shown each lesion or the whole target.

    Attributes:
        generator: makes the prompts.
        points_at_object: whether they are made from the object, so that it has to be there; a text is not.
        asks_for_all: whether one prompt asks for all of a target whatever it is, as texts and exemplars do.
        per: None takes each lesion where the target is a lesion, and the whole of any other.
    """

    generator: PromptGenerator
    points_at_object: bool = True
    per: Per | None = None
    asks_for_all: bool = False

    def each_lesion(self, target: Target) -> bool:
        """Whether each lesion of this target gets a prompt of its own."""
        per = self.per or ("lesion" if target.kind == "lesion" else "target")
        return self.points_at_object and not self.asks_for_all and per == "lesion"

    def prompts(self, objects: Sequence[BoolArray], rng: np.random.Generator, target: Target) -> list[Prompt]:
        """One prompt for each object ``(y, x)`` of a slice, in their order from one stream of randomness.

        Raises:
            PromptError: a prompt cannot be made of an object.
        """
        return [self.generator.generate(each, rng, target) for each in objects]


def per_name(*, each_lesion: bool) -> Per:
    """What tables call it."""
    return "lesion" if each_lesion else "target"


def union(masks: Sequence[BoolArray], shape: tuple[int, ...]) -> BoolArray:
    """All answers of a slice together; empty where there is none."""
    mask: BoolArray = np.zeros(shape, dtype=bool)
    for each in masks:
        mask |= each
    return mask


def box_mask(prompt: Prompt, shape: tuple[int, ...]) -> BoolArray | None:
    """A box prompt itself as a mask ``(y, x)``: pixels whose centre is inside; None for any other prompt."""
    if len(prompt) != 1 or not isinstance(prompt[0], Box):
        return None
    box = prompt[0]
    rows, columns = (
        (np.arange(size) + 0.5 >= low) & (np.arange(size) + 0.5 < high)
        for size, low, high in zip(shape, (box.y0, box.x0), (box.y1, box.x1), strict=True)
    )
    mask: BoolArray = rows[:, None] & columns[None]
    return mask
