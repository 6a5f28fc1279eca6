"""Cases from a prepared store (:mod:`oncoseg_store`), as the rest of the trainer sees cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, Case, ConfigError, DatasetSpec, Volume
from oncoseg_core.path import Preprocessor
from oncoseg_store import PreparedStore
from oncoseg_trainer.config.data_settings import DatasetChoice
from oncoseg_trainer.data.case_source import CaseRow, Counts, ReadCase


class StoreDataset:
    """A dataset in a prepared store.

    Raises:
        ConfigError: the store is of another dataset.
        DataError: it is no store, or damaged.
    """

    def __init__(self, choice: DatasetChoice, spec: DatasetSpec) -> None:
        self.choice = choice
        self.spec = spec
        self._store = PreparedStore.open(Path(choice.prepared or ""))
        if self._store.dataset != spec.name:
            raise ConfigError(f"{choice.prepared}: is a store of dataset {self._store.dataset!r}, not {spec.name!r}")

    def __len__(self) -> int:
        return len(self._store)

    def row(self, number: int) -> CaseRow:
        """What is kept of a case, with all its targets."""
        record = self._store.case(number).record
        return CaseRow(
            number,
            record["dataset"],
            record["case_id"],
            record["patient_id"],
            record["modality"],
            tuple(target["name"] for target in record["targets"]),
            bool(record["labels"]),
            record["annotation"],
            record["split"],
            record["category"],
        )

    @property
    def bad(self) -> dict[str, str]:
        """The cases that could not be read when the store was made, with the reason."""
        return dict(self._store.skipped)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the store was made with."""
        return self._store.settings

    def unreadable(self, numbers: Sequence[int]) -> dict[int, str]:  # noqa: ARG002 - as of any dataset
        """None: what is in the store was read when it was made."""
        return {}

    def source(
        self,
        numbers: Sequence[int],
        targets: Sequence[str],
        preprocessors: Mapping[str, Preprocessor],
        memory_bytes: int,  # noqa: ARG002 - nothing is kept: a slice is read when it is asked for
    ) -> StoreSource:
        """Some of the cases; ``preprocessors`` are those of their modalities.

        Raises:
            DataError: the statistics in the store were fitted with other settings than the run's.
        """
        for preprocessor in preprocessors.values():
            self._store.require(preprocessor.normalization)
        return StoreSource(self._store, np.array(numbers, dtype=np.int64), tuple(targets))


class StoreSource:
    """Some cases of a store, reduced to the chosen targets. A worker process opens the store anew."""

    def __init__(self, store: PreparedStore, numbers: Counts, targets: tuple[str, ...]) -> None:
        self._store = store
        self._numbers = numbers
        self._targets = targets

    def __len__(self) -> int:
        return len(self._numbers)

    def record(self, number: int) -> Case:
        """The record of a case."""
        case = self.case(number).case
        kept = tuple(target for target in case.targets if target.name in self._targets)
        return case.model_copy(update={"targets": kept})

    def case(self, number: int) -> ReadCase:
        """A case, of which slices are read when they are asked for."""
        return self._store.case(int(self._numbers[number]))

    def load(self, number: int) -> tuple[Volume, dict[str, BoolArray]]:
        """A whole case, calibrated, in memory."""
        case = self.case(number)
        volume = replace(case.volume, voxels=np.ascontiguousarray(case.volume.voxels))
        depth = volume.geometry.shape[0]
        names = [target.name for target in self.record(number).targets]
        return volume, {name: np.stack([case.mask(name, index) for index in range(depth)]) for name in names}

    def slice_counts(self, target: str) -> Counts:
        """How many slices of each case hold the target; from the store's index."""
        owners, _ = self._store.foreground_slices(target)
        return np.bincount(owners, minlength=len(self._store)).astype(np.int64)[self._numbers]

    def content_hash(self, number: int) -> str:
        """The content hash of a case; from the store's index."""
        return self.case(number).content_hash

    def release(self) -> None:
        """Nothing is kept."""
