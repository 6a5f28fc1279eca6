"""Preparing one case, in whatever process: load, calibrate, fit, count, hash, write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_core import (
    Case,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    Geometry,
    GeometryError,
    ImageReadError,
    PluginError,
    Registry,
    load_plugins,
)
from oncoseg_core.imaging import content_hash
from oncoseg_core.path import Normalization
from oncoseg_store.case_file import CaseFile, write_case_file
from oncoseg_store.index import IndexRow, case_path
from oncoseg_store.packed import FORMAT
from oncoseg_store.sources import source_states

CLEARLY_THICKER = 1.5
"""Times the spacing along z, from which another axis is taken to be the through-plane one."""


class PreparationJob(NamedTuple):
    """What a store is made of, for every process that works on it."""

    dataset: str
    folder: Path
    settings: Mapping[str, Any]
    normalizers: Mapping[str, Mapping[str, Any]]


class Done(NamedTuple):
    """A case that is in the store. ``kept``: it was there already. ``across``: it is not cut through-plane."""

    row: IndexRow
    kept: bool
    across: bool


class Skipped(NamedTuple):
    """A case that cannot be read."""

    case_id: str
    reason: str


class CasePreparer:
    """Prepares cases, one at a time; needs memory for one.

    Raises:
        UnknownComponentError, ConfigError: the dataset is not known, or a setting is wrong.
    """

    def __init__(self, job: PreparationJob, registry: Registry | None = None) -> None:
        self._registry = registry or load_plugins()
        self._job = job
        self.adapter: DatasetAdapter = self._registry.build(DatasetSpec, job.dataset, job.settings)
        self.settings: dict[str, Any] = self.adapter.settings.model_dump(mode="json")
        plugin = self._registry.component(DatasetSpec, job.dataset).plugin
        self._maker = [job.dataset, str(plugin), self.settings]
        self._normalizations: dict[str, Normalization] = {}

    def normalization(self, modality: str) -> Normalization:
        """The modality's normalizer with the job's settings, built once."""
        if modality not in self._normalizations:
            self._normalizations[modality] = Normalization(self._registry, modality, self._job.normalizers)
        return self._normalizations[modality]

    def prepare(self, record: bytes) -> Done | Skipped:
        """Prepare a case, or keep it as it is where nothing that it was made from has changed.

        Args:
            record: the case's record, as JSON.

        Raises:
            StorageError: it cannot be written.
            PluginError, UnknownComponentError, ConfigError: the normalizer cannot be used.
        """
        case = Case.model_validate_json(record)
        if case.fault is not None:
            return Skipped(case.case_id, case.fault.message)
        normalization = self.normalization(case.modality)
        try:
            states = source_states(case)
            key = self._key(record, states, normalization)
            path = case_path(self._job.folder, key)
            file = _finished(path)
            kept = file is not None
            if file is None:
                file = self._write(path, case, states, normalization)
        except (ImageReadError, GeometryError, DataError) as error:
            return Skipped(case.case_id, " ".join(str(error).split()))
        except PluginError as error:  # the adapter is anybody's, and the other cases may be sound
            return Skipped(case.case_id, " ".join(f"{case.images[0]}: {error}".split()))
        except MemoryError:
            return Skipped(case.case_id, f"{case.images[0]}: needs more memory than there is; use fewer --workers")
        row = IndexRow(
            key, record, file.shape[1], file.facts["content_hash"], tuple(file.targets), file.foreground.copy()
        )
        return Done(row, kept, _cut_across(file.geometry) and file.facts["physical"])

    def _key(self, record: bytes, states: list[list[str | int]], normalization: Normalization) -> str:
        """Of everything that the case's file depends on: 32 hexadecimal digits."""
        text = json.dumps([FORMAT, self._maker, normalization.identity, states], sort_keys=True)
        return hashlib.sha256(record + text.encode()).hexdigest()[:32]

    def _write(self, path: Path, case: Case, states: list[list[str | int]], normalization: Normalization) -> CaseFile:
        volume, masks = self.adapter.load(case)
        if source_states(case) != states:
            raise DataError(f"{case.images[0]}: changed while it was read; prepare again when nothing writes to it")
        digest = content_hash(volume.voxels, volume.geometry)
        volume = normalization.calibrated(volume)
        stats = {name: list(values) for name, values in normalization.fit(volume).items()}
        facts = {"stats": stats, "content_hash": digest, "normalization": normalization.identity, "sources": states}
        write_case_file(path, volume, masks, facts)
        return CaseFile(path)


def _finished(path: Path) -> CaseFile | None:
    if not path.exists():
        return None
    try:
        return CaseFile(path)
    except DataError:  # damaged: made anew
        return None


def _cut_across(geometry: Geometry) -> bool:
    """Whether an axis in the stored slice is clearly coarser than the one along which slices are cut."""
    z, y, x = geometry.spacing
    return geometry.shape[0] > 1 and max(y, x) > CLEARLY_THICKER * z
