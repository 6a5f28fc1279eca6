"""What training and benchmarks share in choosing cases: a dataset's cases, checked before they are used."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from oncoseg_core.contract.errors import ConfigError, DataError, PluginError, close_matches
from oncoseg_core.contract.interfaces import DatasetAdapter
from oncoseg_core.contract.records import Annotation, Case, DatasetSpec
from oncoseg_core.contract.volume import BoolArray
from oncoseg_core.path.settings import parts_of
from oncoseg_core.plugins.configuration import validation_message

WEAK: tuple[Annotation, ...] = ("boxes", "recist", "class")
"""Annotations that say where an object is, not which voxels it has: no mask can be scored against them."""


def discover_cases(adapter: DatasetAdapter, spec: DatasetSpec, root: Path) -> list[Case]:
    """The cases of a dataset's folder; no image is read.

    Raises:
        DataError: the folder is not this dataset.
        PluginError: the adapter made a wrong case.
    """
    try:
        return list(adapter.discover(root))
    except ValidationError as error:
        raise PluginError(f"dataset {spec.name!r} made a wrong case: {validation_message(Case, error)}") from error


def refuse_bad_cases(
    dataset: str, faults: Mapping[str, str | None], leave_out: Collection[str], *, allowed: bool, where: str
) -> None:
    """Refuse cases with a fault (by id; None: a good case) that are neither named in ``leave_out`` nor ``allowed``.

    Raises:
        DataError: naming the first of them; or a name in ``leave_out``, which is given ``where``, is no case's.
    """
    for name in leave_out:
        if name not in faults:
            raise DataError(f"{where}: dataset {dataset!r} has no case {name!r}{close_matches(name, faults)}")
    bad = [name for name, fault in faults.items() if fault and name not in leave_out]
    if bad and not allowed:
        raise DataError(
            f"dataset {dataset!r}: {len(bad)} cases cannot be used; the first, {bad[0]!r}: {faults[bad[0]]}; mend them "
            f"(`oncoseg datasets check` lists them), name them in {where}, or leave out all: `leave_out_bad`: true"
        )


def require_known_targets(dataset: str, targets: Iterable[str], known: Collection[str]) -> None:
    """Refuse a target that no case has.

    Raises:
        DataError: naming it.
    """
    for name in targets:
        if name not in known:
            raise DataError(f"dataset {dataset!r}: target {name!r} is in no case{close_matches(name, known)}")


def require_known_modalities(
    normalizers: Mapping[str, Any], channels: Mapping[str, Any], modalities: Collection[str]
) -> None:
    """Refuse settings of a modality that no case has: nothing would read them.

    Raises:
        ConfigError: naming it.
    """
    parts = {part for modality in modalities for part in parts_of(modality)}
    for section, given, known in (("normalizers", normalizers, parts), ("channels", channels, set(modalities))):
        for name in given:
            if name not in known:
                raise ConfigError(f"{section}.{name}: no case here is of that modality{close_matches(name, known)}")


def labelled_slices(mask: BoolArray) -> list[int]:
    """Indices of the slices along z that hold any voxel of the mask."""
    return [int(index) for index in np.flatnonzero(mask.any(axis=(1, 2)))]
