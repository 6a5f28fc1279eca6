"""Reading a prepared store: opening reads the index only, a case's file is read when the case is used."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Case, DataError, Stats, Volume
from oncoseg_store.index import INDEX, case_path, read_index, require_columns
from oncoseg_store.packed import well_formed

if TYPE_CHECKING:
    from oncoseg_core.path import Normalization
    from oncoseg_store.case_file import CaseFile

_DEFAULTS = {name: field.default for name, field in Case.model_fields.items() if not field.is_required()}
"""What a stored record leaves out."""

OPEN_CASES = 32
"""Of so many cases the tables are kept, the most recently used; no file stays open."""


class PreparedStore:
    """A dataset made ready: its cases by number, in the order in which the adapter found them.

    Can be handed to worker processes: what is sent is the folder, and each opens it anew.

    Attributes:
        folder: where it is.
        dataset: the dataset's name.
        root: the folder that it was prepared from.
        settings: of the dataset's adapter.
        skipped: the cases that could not be read: id and reason.
        targets: all targets that any case has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts, self._columns = read_index(folder)
        with well_formed(str(folder / INDEX)):
            self.dataset: str = facts["dataset"]
            self.root = Path(facts["root"])
            self.settings: dict[str, Any] = facts["settings"]
            self.skipped: list[tuple[str, str]] = [(case_id, reason) for case_id, reason in facts["skipped"]]
            self.targets: tuple[str, ...] = tuple(facts["targets"])
            self._identities: dict[str, str] = facts["normalizations"]
            require_columns(self._columns, len(self.targets))
            self._marks_end = np.searchsorted(self._columns["mark_case"], np.arange(len(self)), side="right")
        self._case = lru_cache(maxsize=OPEN_CASES)(self._open_case)

    @classmethod
    def open(cls, folder: Path) -> PreparedStore:
        """Open a store: reads its index, no case.

        Raises:
            DataError: it is no store, unfinished, damaged, or of another version; the message says what to do.
        """
        return cls(Path(folder))

    def __reduce__(self) -> tuple[Any, ...]:
        return (PreparedStore.open, (self.folder,))

    def __len__(self) -> int:
        return len(self._columns["n_slices"])

    def case(self, number: int) -> PreparedCase:
        """One case, from 0; its file is opened when voxels, masks or statistics are asked for."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.folder}: has {len(self)} cases, asked for number {number}")
        return self._case(number)

    @property
    def slices(self) -> npt.NDArray[np.int32]:
        """How many slices each case has: ``(case,)``, read-only."""
        return self._columns["n_slices"]

    def foreground_slices(self, target: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """All slices that hold the target, over all cases: the numbers of their cases, and their indices.

        In the order of cases, then of slices.

        Raises:
            DataError: no case has the target.
        """
        if target not in self.targets:
            raise DataError(f"{self.folder}: no case has the target {target!r}; it has {', '.join(self.targets)}")
        columns = self._columns
        end = columns["mark_end"]
        length = np.diff(end, prepend=0)
        filled = np.flatnonzero(columns["count"])
        mark = np.searchsorted(end, filled, side="right")
        chosen = columns["mark_target"][mark] == self.targets.index(target)
        mark, filled = mark[chosen], filled[chosen]
        return columns["mark_case"][mark], (filled - (end - length)[mark]).astype(np.int32)

    def stats_for(self, number: int, normalization: Normalization) -> Stats:
        """A case's statistics, which must have been fitted as the given normalization would.

        Raises:
            DataError: other settings or another version of the normalizer's plugin made them; the message says which,
                and how to prepare anew.
        """
        case = self.case(number)
        self.require(normalization)
        if case.case.modality != normalization.modality:
            raise DataError(
                f"case {case.case.case_id!r} is of modality {case.case.modality!r}, not {normalization.modality!r}"
            )
        return case.stats

    def require(self, normalization: Normalization) -> None:
        """Refuse statistics that were fitted otherwise than the given normalization would.

        Raises:
            DataError: as for :meth:`stats_for`.
        """
        found = self._identities.get(normalization.modality)
        if found == normalization.identity:
            return
        if found is None:
            known = ", ".join(sorted(self._identities))
            raise DataError(f"{self.folder}: holds no {normalization.modality!r} images; it has {known}")
        was, wanted = json.loads(found), json.loads(normalization.identity)
        differ = [key for key in ("settings", "plugins") if was[key] != wanted[key]]
        options = "".join(
            f" --set normalizers.{part}.{key}={json.dumps(value)}"
            for part, values in wanted["settings"].items()
            for key, value in values.items()
            if was["settings"].get(part, {}).get(key) != value
        )
        raise DataError(
            f"{self.folder}: its {normalization.modality!r} statistics were made with "
            + ", ".join(f"{key} {json.dumps(was[key])}, and not {json.dumps(wanted[key])}" for key in differ)
            + f"; prepare it anew: oncoseg datasets prepare {self.dataset} {self.root} --dest {self.folder}{options}"
        )

    def _open_case(self, number: int) -> PreparedCase:
        return PreparedCase(self.folder, self.targets, self._columns, number, int(self._marks_end[number]))


class PreparedCase:
    """One case of a prepared store, which see; a handle that costs little until it is read from."""

    def __init__(
        self,
        folder: Path,
        targets: tuple[str, ...],
        columns: Mapping[str, npt.NDArray[Any]],
        number: int,
        marks_end: int,
    ) -> None:
        self._folder = folder
        self._targets = targets
        self._columns = columns
        self._number = number
        self._marks_end = marks_end

    @cached_property
    def case(self) -> Case:
        """The record, with the paths of the sources."""
        with well_formed(str(self._folder / INDEX)):
            return Case.model_validate_json(self._json)

    @property
    def record(self) -> dict[str, Any]:
        """The same as plain values, not checked again: for whoever goes through a hundred thousand."""
        return {**_DEFAULTS, **json.loads(self._json)}

    @property
    def _json(self) -> bytes:
        ends = self._columns["record_end"]
        first = int(ends[self._number - 1]) if self._number else 0
        return self._columns["record"][first : int(ends[self._number])].tobytes()

    @property
    def content_hash(self) -> str:
        """SHA-256 of the voxels as loaded (:func:`oncoseg_core.imaging.voxel_hash.content_hash`)."""
        digest: bytes = self._columns["content_hash"].reshape(-1, 32)[self._number].tobytes()
        return digest.hex()

    @cached_property
    def foreground(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Voxels of each annotated target on each slice: int64 ``(z,)``. Known without opening the case's file."""
        owners, ends = self._columns["mark_case"], self._columns["mark_end"]
        found: dict[str, npt.NDArray[np.int64]] = {}
        mark = self._marks_end
        while mark > 0 and owners[mark - 1] == self._number:
            mark -= 1
            first = int(ends[mark - 1]) if mark else 0
            counts = self._columns["count"][first : int(ends[mark])].astype(np.int64)
            found[self._targets[self._columns["mark_target"][mark]]] = counts
        return dict(reversed(found.items()))

    @cached_property
    def volume(self) -> Volume:
        """The image, calibrated, whose ``voxels`` are a :class:`PreparedVoxels`: read slice by slice.

        Raises:
            DataError: the case's file is missing or damaged.
        """
        facts = self._file.facts
        with well_formed(str(self._file.path)):
            return Volume(
                # Not an ndarray, but all that the path asks of one: a shape, a dtype, and slices.
                cast("npt.NDArray[np.generic]", PreparedVoxels(self._file)),
                self._file.geometry,
                facts["modality"],
                None if facts["source"] is None else Path(facts["source"]),
                facts["physical"],
                tuple(facts["channel_names"]),
            )

    @cached_property
    def stats(self) -> Stats:
        """What the modality's normalizer learned from the whole volume, with the settings it was prepared with.

        Raises:
            DataError: the case's file is missing or damaged.
        """
        with well_formed(str(self._file.path)):
            return {name: tuple(values) for name, values in self._file.facts["stats"].items()}

    def mask(self, target: str, index: int) -> BoolArray:
        """One target's mask on one slice: bool ``(y, x)``.

        Raises:
            DataError: the target is not annotated in this case, or the case's file is missing or damaged.
        """
        if target not in self._file.targets:
            known = ", ".join(self._file.targets) or "none"
            raise DataError(f"case {self.case.case_id!r}: target {target!r} is not annotated; it has {known}")
        return self._file.mask_slice(target, index)

    @cached_property
    def _file(self) -> CaseFile:
        from oncoseg_store.case_file import CaseFile

        key = self._columns["key"].reshape(-1, 16)[self._number].tobytes().hex()
        return CaseFile(case_path(self._folder, key))


class PreparedVoxels:
    """Voxels ``(channel, z, y, x)`` on disk, indexed as an array is: ``voxels[:, 7]`` reads one slice.

    Only the asked-for slices are read, and given as numpy arrays of the native dtype. ``numpy.asarray`` reads all.
    """

    ndim = 4

    def __init__(self, file: CaseFile) -> None:
        self._file = file
        self.shape = file.shape
        self.dtype = file.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """What all voxels would take in memory."""
        size: int = math.prod(self.shape) * self.dtype.itemsize
        return size

    def __getitem__(self, key: Any) -> npt.NDArray[np.generic]:
        """Basic indexing: whole numbers, slices and ``...``; no arrays of indices along z."""
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys = keys[:place] + (slice(None),) * (4 - len(keys) + 1) + keys[place + 1 :]
        if len(keys) > 4:
            raise IndexError(f"voxels have four axes, indexed by {len(keys)}")
        channel, z, *plane = list(keys) + [slice(None)] * (4 - len(keys))
        if isinstance(z, slice):
            chosen = [self._file.image_slice(index) for index in range(*z.indices(self.shape[1]))]
            empty = np.empty((self.shape[0], 0, *self.shape[2:]), self.dtype)
            stacked = np.stack(chosen, axis=1) if chosen else empty
            return cast("npt.NDArray[np.generic]", stacked[(channel, slice(None), *plane)])
        index = z.__index__()
        if not -self.shape[1] <= index < self.shape[1]:
            raise IndexError(f"slice {index} of {self.shape[1]}")
        return cast("npt.NDArray[np.generic]", self._file.image_slice(index)[(channel, *plane)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.generic]:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)
