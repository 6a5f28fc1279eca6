"""FLARE23: partly labelled scans, where only the label's voxels tell what was annotated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from oncoseg_core import Case, DataError, ImageReadError, Split, StorageError
from oncoseg_core.system import atomic_write, cache_directory, json_text
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import FilesByName, by_stem, folder_that_holds, listed, natural, stem, walked
from oncoseg_datasets.layouts.label_images import LabelImageAdapter
from oncoseg_datasets.layouts.nifti_values import values_in_label

TUMOUR = 14
VALIDATION_LABELS = "val-gt-50cases-for-sanity-check"
ORGANS = frozenset(range(1, 14))
FEW_ORGANS = frozenset({1, 2, 3, 4, 13})
"""Liver, right kidney, spleen, pancreas and left kidney: the five values that are annotated together with tumours."""


class FLARE23(LabelImageAdapter):
    """``imagesTr2200/ID_0000.nii.gz`` with ``labelsTr2200/ID.nii.gz``, ``unlabeledTr1800``, ``validation``.

    A label in ``labelsTr2200/20230507-fix`` takes the place of the one beside that folder. Half of the validation scans
    have their labels in ``val-gt-50cases-for-sanity-check``.

    A scan was annotated for 13 organs, for tumours, or for five organs and tumours, and 0 may mean "not annotated".
    A case has the targets that its label shows to be annotated (:func:`annotated_values`). For this, labels are read
    once, in several threads; what they hold is kept in the user's cache folder.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield labelled, unlabelled, then validation scans, in natural order.

        Raises:
            DataError: there is no ``imagesTr2200`` with an image in it.
        """
        what = f"the unpacked archives of MICCAI-FLARE23 ({self.record.url})"
        folder = folder_that_holds(root, "imagesTr2200", ("MICCAI-FLARE23*", "FLARE23*"), what)
        images = _scans(folder / "imagesTr2200")
        if not images:
            raise DataError(f"{folder}: imagesTr2200 holds no FLARE23_0001_0000.nii.gz; expected {what}")
        parts: tuple[tuple[str, FilesByName, FilesByName, Split | None], ...] = (
            ("imagesTr2200", images, _training_labels(folder / "labelsTr2200"), None),
            ("unlabeledTr1800", _scans(folder / "unlabeledTr1800"), FilesByName(), None),
            ("validation", _scans(folder / "validation"), _validation_labels(folder), "validation"),
        )
        held = _held([label for _, _, own, _ in parts for label in own.values()])
        for part, scans, own, split in parts:
            for name in sorted(scans.keys() | own.keys(), key=natural):
                image = scans.get(name, folder / part / f"{name}_0000.nii.gz")
                label = own.get(name)
                # A label that cannot be read keeps all targets, so that reading the case says what is wrong with it.
                values = None if label is None else held[label]
                annotated = (
                    frozenset() if label is None else ORGANS | {TUMOUR} if values is None else annotated_values(values)
                )
                clash = scans.clashes.get(name) or own.clashes.get(name)
                yield with_fault(self._case(name, image, label, annotated, split), "twice", clash)

    def _case(self, name: str, image: Path, label: Path | None, annotated: frozenset[int], split: Split | None) -> Case:
        targets = tuple(target for target in self.record.targets if target.labels <= annotated)
        return Case(
            dataset=self.record.name,
            case_id=name,
            patient_id=name,
            modality="ct",
            images=(image,),
            labels=(label,) if label is not None and targets else (),
            targets=targets,
            split=split,
        )


def _scans(folder: Path) -> FilesByName:
    scans = FilesByName()
    for path in listed(folder):
        if path.is_file() and (name := stem(path)) is not None:
            scans.add(name.removesuffix("_0000"), path)
    return scans


def _training_labels(folder: Path) -> FilesByName:
    """The labels of a folder, those that were corrected later taken from the folder of corrections inside it."""
    labels = by_stem(folder)
    for inner in listed(folder):
        if inner.is_dir() and inner.name.endswith("fix"):
            corrected = by_stem(inner)
            labels.update(corrected)
            labels.clashes = {name: why for name, why in labels.clashes.items() if name not in corrected}
            labels.clashes |= corrected.clashes
    return labels


def _validation_labels(folder: Path) -> FilesByName:
    """The labels of half the validation scans, from the folder that the archive of that name is unpacked into."""
    labels = FilesByName()
    for part in listed(folder):
        if part.is_dir() and part.name.startswith(VALIDATION_LABELS):
            for path in walked(part):
                if (name := stem(path)) is not None:
                    labels.add(name, path)
    return labels


def annotated_values(held: frozenset[int]) -> frozenset[int]:
    """The label values that were annotated in a scan whose label holds these; an absent one of them is truly absent.

    An organ other than the five shows that all 13 were annotated. Any of the five shows the five. Only a tumour shows
    that tumours were: without one, the scan may have been annotated for organs alone.
    """
    annotated: set[int] = set()
    if held & (ORGANS - FEW_ORGANS):
        annotated |= ORGANS
    elif held & FEW_ORGANS:
        annotated |= FEW_ORGANS
    if TUMOUR in held:
        annotated.add(TUMOUR)
    return frozenset(annotated)


def _held(labels: Sequence[Path]) -> dict[Path, frozenset[int] | None]:
    """The values that each label holds, from the user's cache where the file is unchanged; None: it cannot be read."""
    store = cache_directory() / "flare23-label-values.json"
    kept: dict[str, list[int]] = {}
    with suppress(OSError, ValueError, TypeError):  # none yet, or damaged: the labels are read again
        kept = dict(json.loads(store.read_text(encoding="utf-8")))
    keys = {label: _identity(label) for label in labels}
    missing = [label for label in labels if keys[label] not in kept]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decompression leaves the interpreter free
        read = dict(zip(missing, pool.map(_values_or_none, missing), strict=True))
    new = {keys[label]: sorted(values) for label, values in read.items() if values is not None}
    if new:
        with suppress(StorageError):  # a cache that cannot be written costs time alone
            atomic_write(store, json_text(kept | new))
    return {label: frozenset(kept[keys[label]]) if keys[label] in kept else read[label] for label in labels}


def _identity(path: Path) -> str:
    """Path, size and time of change: another file, or a changed one, has another."""
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"


def _values_or_none(path: Path) -> frozenset[int] | None:
    try:
        return values_in_label(path)
    except ImageReadError:
        return None
