"""Where cases come from: read whole into memory, or a slice at a time from a prepared store. Both look the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oncoseg_core import (
    Annotation,
    BoolArray,
    Case,
    DataError,
    DatasetAdapter,
    GeometryError,
    ImageReadError,
    Split,
    Stats,
    Volume,
)
from oncoseg_core.imaging import content_hash
from oncoseg_core.path import Preprocessor

MEMORY_BYTES = 2 * 1024**3
"""Volumes read whole are kept up to this size, over all workers; the least recently used go first."""

Counts = npt.NDArray[np.int64]


class CaseRow(NamedTuple):
    """What is kept of a case; small, since there may be a hundred thousand. ``number`` is its dataset's."""

    number: int
    dataset: str
    case_id: str
    patient_id: str
    modality: str
    targets: tuple[str, ...]
    labelled: bool
    annotation: Annotation
    split: Split | None
    category: str | None


class ReadCase(Protocol):
    """A case whose slices can be had.

    ``foreground`` are the voxels of each annotated target on each slice ``(z,)``. The volume is calibrated, and
    ``stats`` are fitted on the whole of it. ``content_hash`` is that of the volume as the adapter loads it.
    """

    @property
    def case(self) -> Case: ...  # noqa: D102 - as above
    @property
    def volume(self) -> Volume: ...  # noqa: D102
    @property
    def stats(self) -> Stats: ...  # noqa: D102
    @property
    def foreground(self) -> Mapping[str, Counts]: ...  # noqa: D102
    @property
    def content_hash(self) -> str: ...  # noqa: D102

    def mask(self, target: str, index: int) -> BoolArray:
        """One target's mask on one slice: bool ``(y, x)``."""


class CaseSource(Protocol):
    """Some cases of one dataset, by number. It goes to worker processes, which read for themselves."""

    def __len__(self) -> int: ...

    def record(self, number: int) -> Case:
        """The record of a case, reduced to the chosen targets. Reads no voxel."""

    def case(self, number: int) -> ReadCase:
        """A case to take slices of."""

    def load(self, number: int) -> tuple[Volume, dict[str, BoolArray]]:
        """A whole case, for scoring: its image, and the mask of each chosen target."""

    def slice_counts(self, target: str) -> Counts:
        """How many slices of each case hold the target: ``(case,)``; 0 where it is empty or not annotated."""

    def content_hash(self, number: int) -> str:
        """The content hash of a case."""

    def release(self) -> None:
        """Let go of what is kept in memory."""


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """A case read whole."""

    case: Case
    volume: Volume
    masks: Mapping[str, BoolArray]
    stats: Stats
    foreground: Mapping[str, Counts]
    content_hash: str

    def mask(self, target: str, index: int) -> BoolArray:
        """One target's mask on one slice: bool ``(y, x)``."""
        mask: BoolArray = self.masks[target][index]
        return mask

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.volume.voxels.nbytes + sum(mask.nbytes for mask in self.masks.values())


class MemorySource:
    """Cases that are read whole when they are asked for, the most recently used kept.

    Args:
        dataset: reads the cases.
        cases: reduced to the chosen targets.
        preprocessors: by modality.
        memory_bytes: what may be kept; the last case is kept in any event.
    """

    def __init__(
        self,
        dataset: DatasetAdapter,
        cases: Sequence[Case],
        preprocessors: Mapping[str, Preprocessor],
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._dataset = dataset
        self._cases = list(cases)
        self._preprocessors = preprocessors
        self._memory_bytes = memory_bytes
        self._kept: OrderedDict[int, LoadedCase] = OrderedDict()
        self._facts: list[tuple[str, Mapping[str, int]]] = []

    def __getstate__(self) -> dict[str, object]:
        """A worker gets the names of the files, not the voxels."""
        return {**vars(self), "_kept": OrderedDict(), "_facts": []}

    def __len__(self) -> int:
        return len(self._cases)

    def record(self, number: int) -> Case:
        """The record of a case."""
        return self._cases[number]

    def load(self, number: int) -> tuple[Volume, dict[str, BoolArray]]:
        """A whole case, as its files hold it.

        Raises:
            DataError, GeometryError, ImageReadError: it cannot be read; the message says how to go on without it.
        """
        case = self._cases[number]
        try:
            volume, masks = self._dataset.load(case)
        except (DataError, GeometryError, ImageReadError) as error:
            kind = next(kind for kind in (GeometryError, ImageReadError, DataError) if isinstance(error, kind))
            without = f"to go on without case {case.case_id!r}, name it in leave_out of {case.dataset}"
            raise kind(f"{error} ({without}, or set data.leave_out_bad: true)") from error
        return volume, {target.name: masks[target.name] for target in case.targets}

    def case(self, number: int) -> LoadedCase:
        """A case, read now or kept from before."""
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        case = self._cases[number]
        volume, masks = self.load(number)
        digest = content_hash(volume.voxels, volume.geometry)
        preprocessor = self._preprocessors[case.modality]
        volume = preprocessor.calibrated(volume)
        foreground = {target: np.count_nonzero(mask, axis=(1, 2)).astype(np.int64) for target, mask in masks.items()}
        self._kept[number] = LoadedCase(case, volume, masks, preprocessor.fit(volume), foreground, digest)
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._memory_bytes:
            self._kept.popitem(last=False)
        return self._kept[number]

    def slice_counts(self, target: str) -> Counts:
        """How many slices of each case hold the target. The first time, every case is read."""
        return np.array([counts.get(target, 0) for _, counts in self._read_once()], dtype=np.int64)

    def content_hash(self, number: int) -> str:
        """The content hash of a case. The first time, every case is read."""
        return self._read_once()[number][0]

    def release(self) -> None:
        """Let go of the cases that are kept."""
        self._kept.clear()

    def _read_once(self) -> list[tuple[str, Mapping[str, int]]]:
        """Of each case its content hash, and the number of slices that hold each target."""
        for number in range(len(self._facts), len(self)):
            read = self.case(number)
            counts = {target: int(np.count_nonzero(voxels)) for target, voxels in read.foreground.items()}
            self._facts.append((read.content_hash, counts))
        return self._facts
