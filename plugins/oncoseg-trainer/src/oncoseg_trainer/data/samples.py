"""Training samples: a drawn slice made ready for the model, with its prompt and its target.

Where each lesion is prompted by itself, one of the slice's lesions is drawn, and it alone is the target. A sample may
go on to the slices beside it, for a model that follows the object there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import torch

from oncoseg_core import BoolArray, Case, Prompt, SliceGrid, Target
from oncoseg_core.data import WEAK
from oncoseg_core.path import Preprocessor, logits_to_slice, mask_to_model, prompt_to_model
from oncoseg_core.system import derived_generator
from oncoseg_prompts.api import Objects, Prompting
from oncoseg_trainer.config.data_settings import WeakChoice
from oncoseg_trainer.config.prompt_settings import HardNegatives, Sequences
from oncoseg_trainer.data.case_source import CaseSource, ReadCase
from oncoseg_trainer.data.prompting import PromptMixture
from oncoseg_trainer.data.sampling import Draw


class FollowedSlice(NamedTuple):
    """A slice on which the object of a sample is followed: ``pixels`` and ``target`` as the sample has them."""

    pixels: torch.Tensor
    target: torch.Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample made ready: ``pixels`` ``(3, size, size)``, prompt in model pixels, ``target`` 0/1 ``(size, size)``.

    ``weight`` multiplies its loss. ``corrections``: how many clicks correct the model's answer before it is taught.
    ``following`` are neighbouring slices, each next to the one before.
    """

    pixels: torch.Tensor
    prompt: Prompt
    target: torch.Tensor
    modality: str
    name: str
    weight: float = 1.0
    corrections: int = 0
    following: tuple[FollowedSlice, ...] = ()


class Augmentation(Protocol):
    """Changes an image and masks on its grid together, in place and shape."""

    def __call__(
        self, pixels: torch.Tensor, masks: Sequence[torch.Tensor], grid: SliceGrid, rng: np.random.Generator
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Changed pixels ``(3, size, size)`` and 0/1 masks ``(size, size)``."""


NO_HARD_NEGATIVES = HardNegatives()
NO_SEQUENCES = Sequences()


Identity: TypeAlias = tuple[str | int, ...]
"""What a sample's randomness is derived from."""


class _Shown(NamedTuple):
    """What a sample is about: the target that is prompted, in a case that was read."""

    read: ReadCase
    draw: Draw
    target: Target
    weak: WeakChoice | None
    prompting: Prompting


@dataclass(frozen=True, eq=False)
class SampleMaker:
    """Makes samples ready. It goes to worker processes, and gives the same there.

    Attributes:
        sources: the training cases of each dataset.
        weak: how each dataset's weak annotations count; None for one that has none.
        preprocessors: by modality.
        prompting: makes the prompts, and says what each points at.
        sequences: how often a sample goes on to neighbouring slices.
        hard_negatives: how often something absent is asked for.
        seed: the run's; each sample's randomness is derived from it and the sample.
        augmentation: spatial changes; none when omitted.
    """

    sources: Sequence[CaseSource]
    weak: Sequence[WeakChoice | None]
    preprocessors: Mapping[str, Preprocessor]
    prompting: PromptMixture
    seed: int
    augmentation: Augmentation | None = None
    hard_negatives: HardNegatives = NO_HARD_NEGATIVES
    sequences: Sequences = NO_SEQUENCES
    _objects: dict[tuple[int, int, str], Objects] = field(default_factory=dict, repr=False)

    def make(self, draw: Draw, epoch: int) -> Sample:
        """Make a drawn sample ready.

        Raises:
            OncoSegError: its files cannot be read, or its prompt cannot be made.
        """
        source = self.sources[draw.dataset]
        read = source.case(draw.case)
        case = source.record(draw.case)
        weak = self.weak[draw.dataset] if case.annotation in WEAK else None
        index = chosen_slice(read, draw)
        repeat = () if draw.repeat is None else (draw.repeat,)
        identity = (epoch, case.case_id, draw.target, index, *repeat)
        prompting, corrections = self.prompting.draw(derived_generator(self.seed, "prompt kind", *identity))
        prompted = self._prompted_target(read, case, draw.target, index, prompting, identity)
        shown = _Shown(read, draw, prompted, weak, prompting)
        lesion = self._lesion(shown, index, identity)
        if prompted.name == draw.target:
            mask = self._mask(shown, index, lesion)
        else:
            mask = np.zeros(read.volume.geometry.shape[1:], dtype=bool)
        visible = mask
        if prompting.points_at_object and not mask.any():
            nearest = nearest_labelled(read, draw.target, index)
            visible = self._mask(shown, nearest, self._lesion(shown, nearest, identity))
        places = [index, *self._following(shown, index, mask, identity)]
        preprocessor = self.preprocessors[case.modality]
        grid = preprocessor.grid(read.volume)
        slices = [
            FollowedSlice(
                preprocessor.pixels(read.volume, place, read.stats),
                target_on_model(mask if place == index else self._mask(shown, place, lesion), grid),
            )
            for place in places
        ]
        if self.augmentation is not None:
            slices, visible = self._augmented(slices, visible, grid, identity, points=prompting.points_at_object)
        rng = derived_generator(self.seed, "sample", *identity)
        (prompt,) = prompting.prompts([visible], rng, prompted)
        return Sample(
            pixels=slices[0].pixels,
            prompt=prompt_to_model(prompt, grid),
            target=slices[0].target,
            modality=case.modality,
            name=f"{case.case_id} slice {index} ({prompted.name})",
            weight=1.0 if weak is None else weak.weight,
            corrections=corrections,
            following=tuple(slices[1:]),
        )

    def _prompted_target(
        self, read: ReadCase, case: Case, target: str, index: int, prompting: Prompting, identity: Identity
    ) -> Target:
        """The drawn target, or at the set rate something that is certainly not on this slice."""
        drawn = next(each for each in case.targets if each.name == target)
        if not self.hard_negatives.rate or prompting.points_at_object:
            return drawn
        rng = derived_generator(self.seed, "hard negative", *identity)
        if rng.random() >= self.hard_negatives.rate:
            return drawn
        absent = [each for each in case.targets if each.name != target and not read.foreground[each.name][index]]
        words = {word for each in case.targets for word in (each.name, *each.synonyms)}
        absent += [Target(name=name, labels=frozenset({1})) for name in self.hard_negatives.names if name not in words]
        return absent[int(rng.integers(len(absent)))] if absent else drawn

    def _lesion(self, shown: _Shown, index: int, identity: Identity) -> int | None:
        """The number of one of a slice's lesions, each alike; None where all of the target is prompted."""
        if not shown.prompting.each_lesion(shown.target):
            return None
        mask = shown.read.mask(shown.target.name, index)
        numbers = self._objects_of(shown.read, shown.draw).numbers_on(index) if mask.any() else []
        if not numbers:
            return None
        return numbers[int(derived_generator(self.seed, "lesion", *identity).integers(len(numbers)))]

    def _mask(self, shown: _Shown, index: int, lesion: int | None) -> BoolArray:
        """What is prompted of a slice: the target, or one of its lesions there."""
        mask = shown.read.mask(shown.target.name, index)
        if lesion is not None:
            mask = self._objects_of(shown.read, shown.draw).part(lesion, index, mask)
        return mask if shown.weak is None or shown.weak.shape == "drawn" else filled_box(mask)

    def _following(self, shown: _Shown, index: int, mask: BoolArray, identity: Identity) -> list[int]:
        """The slices that a sample goes on to: up or down, as many as the volume has.

        None of a weak annotation, which may be on one slice of an object that goes on.
        """
        alone = shown.prompting.asks_for_all or not shown.prompting.points_at_object or shown.weak is not None
        if not self.sequences.share or alone or not mask.any():
            return []
        which, direction = derived_generator(self.seed, "sequence", *identity).random(2)
        if which >= self.sequences.share:
            return []
        step = 1 if direction < 0.5 else -1
        places = range(index + step, index + step * self.sequences.length, step)
        return [place for place in places if 0 <= place < shown.read.volume.geometry.shape[0]]

    def _objects_of(self, read: ReadCase, draw: Draw) -> Objects:
        """The lesions of a case; the first time, all its labelled slices are read."""
        key = (draw.dataset, draw.case, draw.target)
        if key not in self._objects:
            labelled = np.flatnonzero(read.foreground[draw.target]).tolist()
            self._objects[key] = Objects(lambda index: read.mask(draw.target, index), labelled, each_lesion=True)
        return self._objects[key]

    def _augmented(
        self, slices: list[FollowedSlice], visible: BoolArray, grid: SliceGrid, identity: Identity, *, points: bool
    ) -> tuple[list[FollowedSlice], BoolArray]:
        """Change images and masks alike; left as they are where the object would be lost.

        An object that the change moves out of a slice, or makes vanish, cannot be pointed at any more, and its sample
        would no longer be one of a slice with the target. All slices of a sample are changed in the same way.
        """
        assert self.augmentation is not None  # noqa: S101 - for mypy
        changed, on_slice = [], visible
        for number, (pixels, target) in enumerate(slices):
            masks = [target, target_on_model(visible, grid)] if number == 0 else [target]
            rng = derived_generator(self.seed, "augmentation", *identity)
            new_pixels, new_masks = self.augmentation(pixels, masks, grid, rng)
            changed.append(FollowedSlice(new_pixels, new_masks[0]))
            if number == 0:
                on_slice = logits_to_slice(new_masks[1], grid) >= 0.5
        lost = points and not on_slice.any()
        kept = [bool(old.target.any()) == bool(new.target.any()) for old, new in zip(slices, changed, strict=True)]
        if lost or not all(kept):
            return slices, visible
        return changed, on_slice


def chosen_slice(read: ReadCase, draw: Draw) -> int:
    """The index of the slice that was drawn."""
    voxels = read.foreground[draw.target]
    if draw.nth is None:
        return int(draw.place * len(voxels))
    return int(np.flatnonzero(voxels)[draw.nth])


def nearest_labelled(read: ReadCase, target: str, index: int) -> int:
    """The slice with the target that is nearest to a slice without it; the lower one of two.

    A box or a point cannot be made from an empty mask. On a slice without the target the prompt is therefore made from
    the nearest slice that has it, and the answer to learn is an empty mask. That is what happens when a person carries
    a prompt on to the slices where the object has ended. Samplers draw no case that has no slice with the target.
    """
    labelled = np.flatnonzero(read.foreground[target])
    return int(labelled[np.abs(labelled - index).argmin()])


def filled_box(mask: BoolArray) -> BoolArray:
    """The box around a mask ``(y, x)``, filled; empty where the mask is."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    box: BoolArray = np.zeros_like(mask)
    if rows.any():
        first_row, last_row = np.flatnonzero(rows)[[0, -1]]
        first_column, last_column = np.flatnonzero(columns)[[0, -1]]
        box[first_row : last_row + 1, first_column : last_column + 1] = True
    return box


def target_on_model(mask: BoolArray, grid: SliceGrid) -> torch.Tensor:
    """A slice's mask on the model's grid: float32 0/1 ``(size, size)``.

    A pixel belongs to it from half covered on. An object smaller than a model pixel keeps its best-covered pixel, so
    that no positive sample turns empty.
    """
    coverage = mask_to_model(mask, grid)
    most = float(coverage.max())
    return (coverage >= min(0.5, most)).float() if most > 0 else torch.zeros_like(coverage)
