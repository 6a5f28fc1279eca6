"""LNDb: lung nodules by up to three readers, whose files number each reader's findings."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, Settings, Split, Volume
from oncoseg_core.imaging import read_label, read_volume
from oncoseg_datasets.folders import one_file_named
from oncoseg_datasets.layouts.base import with_fault
from oncoseg_datasets.layouts.files import FilesByName, natural, require_folder, walked
from oncoseg_datasets.layouts.label_images import LabelImageAdapter, require_known_values
from oncoseg_datasets.tables import number, read_table

_SCAN = re.compile(r"LNDb-(?P<id>\d{4})\.mhd")
_MASK = re.compile(r"LNDb-(?P<id>\d{4})_rad(?P<reader>\d)\.mhd")
_FINDINGS = "trainNodules.csv"
_FOLDS = "trainFolds.csv"
_COLUMNS = ("LNDbID", "RadID", "FindingID", "Nodule")


class LNDbSettings(Settings):
    """How several readers become one mask.

    ``readers``: ``union`` (any reader), ``majority`` (more than half of those who read the scan: 1 of 1, 2 of 2, 2 of
    3), or one of them by number, and then scans that this one did not read are not annotated.
    ``fold``: which fold of ``trainFolds.csv`` validates, 0 to 3; the others train. None: no split of the training part.
    """

    readers: Literal["union", "majority", "1", "2", "3"] = "union"
    fold: Annotated[int, Field(ge=0, le=3)] | None = None


class LNDb(LabelImageAdapter):
    """``data0/LNDb-0001.mhd`` with ``masks/LNDb-0001_rad1.mhd`` … ``_rad3``, and ``trainNodules.csv``.

    A mask's values are the findings of that reader; those with ``Nodule`` 1 in the csv form the target. Every training
    scan has a mask by the first reader, empty where nothing was found; the 58 test scans have none.
    """

    Settings = LNDbSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the scans in natural order. A scan or a mask that is there twice makes a bad case.

        Raises:
            DataError: there is no scan, masks have no ``trainNodules.csv``, or there are two; or a fold is asked for
                and ``trainFolds.csv`` does not have it.
        """
        root = require_folder(root, f"the unpacked archives of LNDb ({self.record.url})")
        scans = FilesByName()
        masks: dict[str, FilesByName] = {}
        findings = FilesByName()
        for path in walked(root):
            scan, mask = _SCAN.fullmatch(path.name), _MASK.fullmatch(path.name)
            if scan is not None:
                scans.add(scan["id"], path)
            elif mask is not None:
                masks.setdefault(mask["id"], FilesByName()).add(mask["reader"], path)
            elif path.name == _FINDINGS:
                findings.add(_FINDINGS, path)
        if findings.clashes:
            raise DataError(findings.clashes[_FINDINGS])
        if not scans:
            raise DataError(f"{root}: holds no data0/LNDb-0001.mhd; expected the unpacked archives ({self.record.url})")
        if masks and not findings:
            raise DataError(f"{root}: holds masks but no {_FINDINGS}, which says what they number; unpack trainset_csv")
        sides = _sides(root, self.settings.fold)
        for scan_id in sorted(scans.keys() | masks.keys(), key=natural):
            readers = masks.get(scan_id, FilesByName())
            one = self.settings.readers
            chosen = [readers[reader] for reader in sorted(readers) if one in {"union", "majority", reader}]
            name = f"LNDb-{scan_id}"
            case = self.case(
                case_id=name,
                patient_id=name,
                images=(scans.get(scan_id) or readers[min(readers)],),
                labels=(*chosen, findings[_FINDINGS]) if chosen else (),
                targets=self.record.targets if chosen else (),
                split="test" if masks and not readers else sides.get(int(scan_id)),
            )
            if scan_id not in scans:
                case = with_fault(case, "missing-image", f"{case.images[0]}: a mask without its scan {name}.mhd")
            clash = scans.clashes.get(scan_id) or next(iter(readers.clashes.values()), None)
            yield with_fault(case, "twice", clash)

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read the scan and the readers' masks, as one mask of the nodules.

        Raises:
            ImageReadError, GeometryError: as for all images.
            DataError: a mask holds a finding that the csv does not list.
        """
        volume = read_volume(case.images, case.modality)
        if not case.labels:
            return volume, {}
        *masks, table = case.labels
        votes = np.zeros(volume.geometry.shape, np.uint8)
        for path in masks:
            match = _MASK.fullmatch(path.name)
            if match is None:
                raise DataError(f"{path}: expected a mask named LNDb-0001_rad1.mhd")
            listed = _findings(table, int(match["id"]), int(match["reader"]))
            label = read_label(path, volume)
            require_known_values(label, frozenset(listed), path, f"{table} lists no other finding of this reader")
            votes += np.isin(label, [finding for finding, nodule in listed.items() if nodule])
        needed = len(masks) // 2 + 1 if self.settings.readers == "majority" else 1
        (target,) = case.targets
        return volume, {target.name: votes >= needed}


def _sides(root: Path, fold: int | None) -> dict[int, Split]:
    """The side of each scan of the training part by its number: one column of ``trainFolds.csv`` validates.

    Raises:
        DataError: the file is missing or not the only one, or has no such fold.
    """
    if fold is None:
        return {}
    path = one_file_named(root, _FOLDS)
    if path is None:
        raise DataError(f"{root}: holds no {_FOLDS}, which fold {fold} needs; unpack trainset_csv")
    columns = [f"Fold{number}" for number in range(4)]
    sides: dict[int, Split] = {}
    for row in read_table(path, columns):
        for column in columns:
            if row[column]:  # the last folds are shorter by a scan
                side: Split = "validation" if column == f"Fold{fold}" else "train"
                sides[int(number(row, column, path))] = side
    return sides


def _findings(table: Path, scan: int, reader: int) -> dict[int, bool]:
    """The findings of one reader on one scan, and whether each is a nodule.

    Raises:
        DataError: the file lacks a column, or a number cannot be read.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise DataError(f"{table}: has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}")
            numbers = ([int(float(row[name])) for name in _COLUMNS] for row in rows)
            return {finding: nodule == 1 for lndb, rad, finding, nodule in numbers if (lndb, rad) == (scan, reader)}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error}); expected the columns {', '.join(_COLUMNS)}") from error
