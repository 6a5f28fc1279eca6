"""The rules of a dataset adapter."""

from __future__ import annotations

import builtins
import contextlib
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np

from oncoseg_core import Case, DataError, DatasetAdapter, DatasetSpec
from oncoseg_testing.checks.rules import refuses, require, rule

TABLES = {".csv", ".tsv", ".xlsx", ".json", ".txt", ".xml"}
"""Suffixes of files that hold the annotations of many patients."""


def check_dataset(adapter: DatasetAdapter, root: Path, spec: DatasetSpec, *, cases_to_read: int = 2) -> None:
    """Check an adapter on a real copy of its dataset, or on a small folder laid out like it.

    Args:
        adapter: built, with whatever settings.
        root: the folder that holds the dataset.
        spec: the adapter's record.
        cases_to_read: of how many cases to read image and label; the first ones. All others are not opened.

    Raises:
        AssertionError: a rule is broken.
    """
    example = f"dataset {spec.name!r} in {root}"
    cases = _check_discovery(adapter, root, example)
    _check_ids(cases, example)
    for case in cases:
        _check_case(case, spec)
    if not spec.targets:
        _check_meanings(cases, example)
    good = [case for case in cases if case.fault is None]
    with rule("not every case is a bad one", example):
        require(len(good) > 0, "each has a fault")
    for case in good[:cases_to_read]:
        _check_voxels(adapter, case)
    for case in good[: min(cases_to_read, 1)]:
        _check_alone(adapter, case)
    _check_labels_differ(adapter, good, cases_to_read)
    with tempfile.TemporaryDirectory() as empty:
        for wrong in (Path(empty), Path(empty) / "absent"):
            with rule("a folder that is not this dataset is refused with DataError", str(wrong)):
                refuses(DataError, lambda wrong=wrong: list(adapter.discover(wrong)))  # type: ignore[misc]


def _check_discovery(adapter: DatasetAdapter, root: Path, example: str) -> list[Case]:
    with rule("discover finds the cases under root", example):
        cases = list(adapter.discover(root))
        require(len(cases) > 0, "no case")
        require(all(isinstance(case, Case) for case in cases), "something that is no Case")
    for backwards in (False, True):
        with rule("the cases come in the same order however the system lists a folder: sort what you list", example):
            with _listing(backwards=backwards):
                again = list(adapter.discover(root))
            require(again == cases, f"{[case.case_id for case in cases]}, then {[case.case_id for case in again]}")
    with rule("a case is the same in every process: nothing about it comes from hash(), which is salted", example):
        with mock.patch.object(builtins, "hash", _salted):
            again = list(adapter.discover(root))
        require(again == cases, _first_difference(cases, again))
    return cases


def _check_ids(cases: list[Case], example: str) -> None:
    with rule("every case has an id of its own", example):
        repeated = [name for name, count in Counter(case.case_id for case in cases).items() if count > 1]
        require(not repeated, f"more than one {', '.join(repeated)}")
    with rule("a patient's cases are all in one split", example):
        splits = defaultdict(set)
        for case in (case for case in cases if case.fault is None):
            splits[case.patient_id].add(case.split)
        torn = [f"{patient}: {sorted(map(str, found))}" for patient, found in splits.items() if len(found) > 1]
        require(not torn, "; ".join(torn))


def _check_meanings(cases: list[Case], example: str) -> None:
    with rule("a target of one name has the same label values in every case", example):
        meanings = defaultdict(set)
        for target in (target for case in cases for target in case.targets):
            meanings[target.name].add(target.labels)
        torn = [f"{name}: {sorted(map(sorted, found))}" for name, found in meanings.items() if len(found) > 1]
        require(not torn, "; ".join(torn))


def _salted(value: Any, hash_: Callable[[Any], int] = hash) -> int:
    """What ``hash`` might be of a text in the next process."""
    return ~hash_(value) if isinstance(value, str | bytes) else hash_(value)


def _first_difference(cases: list[Case], again: list[Case]) -> str:
    for case, other in zip(cases, again, strict=False):
        fields = [name for name in Case.model_fields if getattr(case, name) != getattr(other, name)]
        if fields:
            return (
                f"case {case.case_id!r}, {fields[0]}: {getattr(case, fields[0])!r}, then {getattr(other, fields[0])!r}"
            )
    return f"{len(cases)} cases, then {len(again)}"


class _Listing(Iterator[os.DirEntry[str]]):
    """What ``os.scandir`` returns, in a given order."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def _listing(*, backwards: bool) -> Iterator[None]:
    """Folders are listed by name, or backwards, as another file system might."""
    scandir, listdir = os.scandir, os.listdir

    def scan(path: Any = ".") -> _Listing:
        with scandir(path) as entries:
            return _Listing(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    def names(path: Any = ".") -> list[Any]:
        return sorted(listdir(path), reverse=backwards)

    with mock.patch.object(os, "scandir", scan), mock.patch.object(os, "listdir", names):
        yield


def _check_case(case: Case, spec: DatasetSpec) -> None:
    example = f"case {case.case_id!r}"
    if case.fault is not None:
        with rule("a bad case has no labels and no targets: nothing of it may be used", example):
            require(not case.labels and not case.targets, f"{len(case.labels)} labels, {len(case.targets)} targets")
        return
    with rule("a case is of the dataset and of one of the modalities in the record", example):
        require(case.dataset == spec.name, f"dataset {case.dataset!r}, not {spec.name!r}")
        right = case.modality in spec.modalities or not spec.modalities
        require(right, f"modality {case.modality!r}, not of {', '.join(spec.modalities)}")
    with rule("a case's targets are those of the record, with the same label values or some of them", example):
        known = {target.name: target.labels for target in spec.targets}
        for target in case.targets if spec.targets else ():
            right = target.name in known and target.labels <= known[target.name]
            require(right, f"{target.name!r}: {sorted(target.labels)}; the record has {sorted(known)}")
    with rule("the files of a case exist", example):
        missing = [str(path) for path in (*case.images, *case.labels) if not path.is_file()]
        require(not missing, f"no {', '.join(missing)}")


def _check_voxels(adapter: DatasetAdapter, case: Case) -> None:
    example = f"case {case.case_id!r}"
    with rule("load reads the image and its annotation, and they lie on one grid", example):
        volume, masks = adapter.load(case)
    with rule("the image is of the case's modality and has the channel names of the case", example):
        found = f"modality {volume.modality!r}, channels {volume.channel_names}"
        require((volume.modality, volume.channel_names) == (case.modality, case.channel_names), found)
    with rule("the values of the image are real numbers", example):
        require(volume.voxels.dtype.kind in "iuf", str(volume.voxels.dtype))
    with rule("an annotated case has one bool mask (z, y, x) for each of its targets, and no other", example):
        expected = {target.name for target in case.targets} if case.labels else set()
        require(set(masks) == expected, f"masks of {sorted(masks)}")
        wrong = [name for name, mask in masks.items() if mask.dtype != bool or mask.shape != volume.geometry.shape]
        require(not wrong, f"{', '.join(wrong)}: not bool of shape {volume.geometry.shape}")


def _check_alone(adapter: DatasetAdapter, case: Case) -> None:
    example = f"case {case.case_id!r}"
    with rule("load needs nothing but the case: an adapter that never discovered it reads the same", example):
        fresh = type(adapter)(adapter.settings, spec=adapter.spec)
        (volume, masks), (again, masks_again) = adapter.load(case), fresh.load(case)
        equal_nan = volume.voxels.dtype.kind == "f"
        require(np.array_equal(volume.voxels, again.voxels, equal_nan=equal_nan), "another image")
        same = masks.keys() == masks_again.keys() and all(np.array_equal(masks[n], masks_again[n]) for n in masks)
        require(same, "other masks")


def _check_labels_differ(adapter: DatasetAdapter, cases: list[Case], cases_to_read: int) -> None:
    """Patients may share a table of outlines, but not an image of labels."""
    annotated = [case for case in cases if case.labels and case.targets]
    for case in annotated[:1] if cases_to_read else ():
        if any(path.suffix.lower() in TABLES for path in case.labels):
            continue  # of few outlines, two may well be alike
        others = [c for c in annotated if c.patient_id != case.patient_id and c.labels == case.labels]
        for other in others[:1]:
            with rule("two patients do not have one and the same annotation", f"{case.case_id!r}, {other.case_id!r}"):
                masks, again = adapter.load(case)[1], adapter.load(other)[1]
                same = masks.keys() == again.keys() and all(np.array_equal(masks[n], again[n]) for n in masks)
                require(not (same and any(mask.any() for mask in masks.values())), f"{case.labels[0].name} for both")
