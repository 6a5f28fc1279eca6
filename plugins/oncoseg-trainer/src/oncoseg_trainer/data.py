"""The training samples: every labelled slice of every training case, made ready for the model when asked for."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from oncoseg_core.errors import DataError, close_matches
from oncoseg_core.interfaces import DatasetAdapter, PromptGenerator, Stats
from oncoseg_core.preprocess import Preprocessor, mask_to_model, prompt_to_model
from oncoseg_core.prompts import Prompt
from oncoseg_core.randomness import derived_generator
from oncoseg_core.records import Case, Split
from oncoseg_core.scoring import labelled_slices
from oncoseg_core.volume import BoolArray, Volume

MEMORY_BYTES = 2 * 1024**3
"""Loaded volumes are kept up to this size; the least recently used go first."""


@dataclass(frozen=True)
class SampleKey:
    """One sample: an object of one target on one slice of one case."""

    case: int
    target: str
    index: int


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample made ready: ``pixels`` ``(3, size, size)``, prompt in model pixels, ``target`` 0/1 ``(size, size)``."""

    pixels: torch.Tensor
    prompt: Prompt
    target: torch.Tensor
    modality: str
    name: str


def choose_cases(cases: Sequence[Case], targets: Sequence[str], split: Split) -> list[Case]:
    """The cases of a split that have a label with any of the chosen targets, reduced to those targets.

    Args:
        cases: all that the dataset has.
        targets: chosen names; all when empty.
        split: which part.

    Raises:
        DataError: a chosen target is in no case, or nothing is left.
    """
    known = {target.name for case in cases for target in case.targets}
    for name in targets:
        if name not in known:
            raise DataError(f"target {name!r} is in no case of this dataset{close_matches(name, known)}")
    chosen = []
    for case in cases:
        kept = tuple(t for t in case.targets if not targets or t.name in targets)
        if case.split == split and case.labels and kept:
            chosen.append(case.model_copy(update={"targets": kept}))
    if not chosen:
        raise DataError(f"no labelled case is in the split {split!r} with the targets {', '.join(sorted(known))}")
    return chosen


def refuse_shared_patients(train: Sequence[Case], scored: Sequence[Case]) -> None:
    """Refuse to score on a patient that is trained on.

    Raises:
        DataError: naming the cases.
    """
    patients = {case.patient_id for case in train}
    shared = [case.case_id for case in scored if case.patient_id in patients]
    if shared:
        raise DataError(
            f"cases {', '.join(shared)} are of patients that are trained on; scoring them would mislead: "
            "put all cases of a patient in one split"
        )


def require_target_voxels(case: Case, masks: Mapping[str, BoolArray]) -> None:
    """Refuse a case whose label holds no voxel of one of its targets.

    Raises:
        DataError: naming the label and the target.
    """
    for target, mask in masks.items():
        if not mask.any():
            raise DataError(
                f"{' '.join(map(str, case.labels))}: the label holds no voxel of {target!r}; expected some in data "
                "that is trained on or scored (wrong file, or other label values than the dataset declares?)"
            )


def split_hash(train: Sequence[Case], scored: Sequence[Case]) -> str:
    """SHA-256 of which case, patient and targets are on which side."""
    sides = [
        sorted((case.dataset, case.case_id, case.patient_id, *sorted(t.name for t in case.targets)) for case in side)
        for side in (train, scored)
    ]
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


class TrainingSet:
    """Labelled slices of the training cases.

    Args:
        dataset: reads the cases.
        cases: with labels.
        preprocessors: by modality.
        generator: makes the prompts.
        seed: the run's; each sample's randomness is derived from it and the sample.

    Raises:
        DataError: a case's label holds no voxel of one of its targets.
    """

    def __init__(
        self,
        dataset: DatasetAdapter,
        cases: Sequence[Case],
        preprocessors: Mapping[str, Preprocessor],
        generator: PromptGenerator,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._cases = list(cases)
        self._preprocessors = preprocessors
        self._generator = generator
        self._seed = seed
        self._loaded: OrderedDict[int, tuple[Volume, dict[str, BoolArray], Stats]] = OrderedDict()
        self.keys: list[SampleKey] = []
        for number, case in enumerate(self._cases):
            _, masks, _ = self._load(number)
            require_target_voxels(case, masks)
            for target, mask in masks.items():
                self.keys.extend(SampleKey(number, target, index) for index in labelled_slices(mask))

    def __len__(self) -> int:
        return len(self.keys)

    def order(self, epoch: int) -> list[int]:
        """The order of one epoch: a permutation that depends on the seed and the epoch alone."""
        return [int(i) for i in derived_generator(self._seed, "order", epoch).permutation(len(self.keys))]

    def sample(self, position: int, epoch: int) -> Sample:
        """Make one sample ready for one epoch."""
        key = self.keys[position]
        case = self._cases[key.case]
        volume, masks, stats = self._load(key.case)
        preprocessor = self._preprocessors[case.modality]
        grid = preprocessor.grid(volume)
        mask = masks[key.target][key.index]
        rng = derived_generator(self._seed, "sample", epoch, case.case_id, key.target, key.index)
        prompt = prompt_to_model(self._generator.generate(mask, rng), grid)
        coverage = mask_to_model(mask, grid)
        # An object smaller than a model pixel keeps its best-covered pixel, so that no positive sample turns empty.
        threshold = min(0.5, float(coverage.max()))
        return Sample(
            pixels=preprocessor.pixels(volume, key.index, stats),
            prompt=prompt,
            target=(coverage >= threshold).float(),
            modality=case.modality,
            name=f"{case.case_id} slice {key.index} ({key.target})",
        )

    def _load(self, number: int) -> tuple[Volume, dict[str, BoolArray], Stats]:
        if number in self._loaded:
            self._loaded.move_to_end(number)
            return self._loaded[number]
        case = self._cases[number]
        volume, masks = self._dataset.load(case)
        preprocessor = self._preprocessors[case.modality]
        volume = preprocessor.calibrated(volume)
        self._loaded[number] = (volume, masks, preprocessor.fit(volume))
        while len(self._loaded) > 1 and sum(map(_size, self._loaded.values())) > MEMORY_BYTES:
            self._loaded.popitem(last=False)
        return self._loaded[number]


def _size(entry: tuple[Volume, dict[str, BoolArray], Stats]) -> int:
    volume, masks, _ = entry
    return volume.voxels.nbytes + sum(mask.nbytes for mask in masks.values())
