"""Training samples: a drawn slice made ready for the model, with its prompt and its target.

Where each lesion is prompted by itself, one of the slice's lesions is drawn, and it alone is the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from oncoseg_core import BoolArray, Case, Prompt, SliceGrid, Target
from oncoseg_core.data import WEAK
from oncoseg_core.path import Preprocessor, logits_to_slice, mask_to_model, prompt_to_model
from oncoseg_core.system import derived_generator
from oncoseg_prompts.api import Objects, Prompting
from oncoseg_trainer.config.data_settings import WeakChoice
from oncoseg_trainer.config.settings import HardNegatives
from oncoseg_trainer.data.case_source import CaseSource, ReadCase
from oncoseg_trainer.data.sampling import Draw


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample made ready: ``pixels`` ``(3, size, size)``, prompt in model pixels, ``target`` 0/1 ``(size, size)``.

    ``weight`` multiplies its loss.
    """

    pixels: torch.Tensor
    prompt: Prompt
    target: torch.Tensor
    modality: str
    name: str
    weight: float = 1.0


class Augmentation(Protocol):
    """Changes an image and masks on its grid together, in place and shape."""

    def __call__(
        self, pixels: torch.Tensor, masks: Sequence[torch.Tensor], grid: SliceGrid, rng: np.random.Generator
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Changed pixels ``(3, size, size)`` and 0/1 masks ``(size, size)``."""


NO_HARD_NEGATIVES = HardNegatives()


@dataclass(frozen=True, eq=False)
class SampleMaker:
    """Makes samples ready. It goes to worker processes, and gives the same there.

    Attributes:
        sources: the training cases of each dataset.
        weak: how each dataset's weak annotations count; None for one that has none.
        preprocessors: by modality.
        prompting: makes the prompts, and says what each points at.
        hard_negatives: how often something absent is asked for.
        seed: the run's; each sample's randomness is derived from it and the sample.
        augmentation: spatial changes; none when omitted.
    """

    sources: Sequence[CaseSource]
    weak: Sequence[WeakChoice | None]
    preprocessors: Mapping[str, Preprocessor]
    prompting: Prompting
    seed: int
    augmentation: Augmentation | None = None
    hard_negatives: HardNegatives = NO_HARD_NEGATIVES
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
        prompted = self._prompted_target(read, case, draw.target, index, identity)
        if prompted.name == draw.target:
            mask = self._mask(read, draw, prompted, index, weak, identity)
        else:
            mask = np.zeros(read.volume.geometry.shape[1:], dtype=bool)
        visible = mask
        if self.prompting.points_at_object and not mask.any():
            nearest = nearest_labelled(read, draw.target, index)
            visible = self._mask(read, draw, prompted, nearest, weak, identity)
        preprocessor = self.preprocessors[case.modality]
        grid = preprocessor.grid(read.volume)
        pixels = preprocessor.pixels(read.volume, index, read.stats)
        target = target_on_model(mask, grid)
        if self.augmentation is not None:
            rng = derived_generator(self.seed, "augmentation", *identity)
            pixels, target, visible = self._augmented(pixels, target, visible, grid, rng)
        rng = derived_generator(self.seed, "sample", *identity)
        (prompt,) = self.prompting.prompts([visible], rng, prompted)
        return Sample(
            pixels=pixels,
            prompt=prompt_to_model(prompt, grid),
            target=target,
            modality=case.modality,
            name=f"{case.case_id} slice {index} ({prompted.name})",
            weight=1.0 if weak is None else weak.weight,
        )

    def _prompted_target(
        self, read: ReadCase, case: Case, target: str, index: int, identity: tuple[str | int, ...]
    ) -> Target:
        """The drawn target, or at the set rate something that is certainly not on this slice."""
        drawn = next(each for each in case.targets if each.name == target)
        if not self.hard_negatives.rate:
            return drawn
        rng = derived_generator(self.seed, "hard negative", *identity)
        if rng.random() >= self.hard_negatives.rate:
            return drawn
        absent = [each for each in case.targets if each.name != target and not read.foreground[each.name][index]]
        words = {word for each in case.targets for word in (each.name, *each.synonyms)}
        absent += [Target(name=name, labels=frozenset({1})) for name in self.hard_negatives.names if name not in words]
        return absent[int(rng.integers(len(absent)))] if absent else drawn

    def _mask(
        self,
        read: ReadCase,
        draw: Draw,
        target: Target,
        index: int,
        weak: WeakChoice | None,
        identity: tuple[str | int, ...],
    ) -> BoolArray:
        """What is prompted of a slice: the target, or one of its lesions there, each alike."""
        mask = read.mask(target.name, index)
        if self.prompting.each_lesion(target) and mask.any():
            lesions = self._objects_of(read, draw).on_slice(index, mask)
            if len(lesions) > 1:
                mask = lesions[int(derived_generator(self.seed, "lesion", *identity).integers(len(lesions)))]
        return mask if weak is None or weak.shape == "drawn" else filled_box(mask)

    def _objects_of(self, read: ReadCase, draw: Draw) -> Objects:
        """The lesions of a case; the first time, all its labelled slices are read."""
        key = (draw.dataset, draw.case, draw.target)
        if key not in self._objects:
            labelled = np.flatnonzero(read.foreground[draw.target]).tolist()
            self._objects[key] = Objects(lambda index: read.mask(draw.target, index), labelled, each_lesion=True)
        return self._objects[key]

    def _augmented(
        self, pixels: torch.Tensor, target: torch.Tensor, visible: BoolArray, grid: SliceGrid, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, BoolArray]:
        """Change image and masks alike; left as they are where the object would be lost.

        An object that the change moves out of the slice, or makes vanish, cannot be pointed at any more, and its sample
        would no longer be one of a slice with the target.
        """
        assert self.augmentation is not None  # noqa: S101 - for mypy
        masks = [target, target_on_model(visible, grid)]
        changed, (new_target, new_visible) = self.augmentation(pixels, masks, grid, rng)
        on_slice = logits_to_slice(new_visible, grid) >= 0.5
        lost = self.prompting.points_at_object and not on_slice.any()
        if lost or bool(target.any()) != bool(new_target.any()):
            return pixels, target, visible
        return changed, new_target, on_slice


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
