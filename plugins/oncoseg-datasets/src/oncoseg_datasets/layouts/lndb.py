"""LNDb: lung nodules by up to three readers, whose files number each reader's findings."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Settings, Volume
from oncoseg_core.imaging import read_label, read_volume
from oncoseg_datasets.layouts.files import add_once, natural, require_folder, walked
from oncoseg_datasets.layouts.label_images import LabelImageAdapter, require_known_values

_SCAN = re.compile(r"LNDb-(?P<id>\d{4})\.mhd")
_MASK = re.compile(r"LNDb-(?P<id>\d{4})_rad(?P<reader>\d)\.mhd")
_FINDINGS = "trainNodules.csv"
_COLUMNS = ("LNDbID", "RadID", "FindingID", "Nodule")


class LNDbSettings(Settings):
    """How several readers become one mask.

    ``readers``: ``union`` (any reader), ``majority`` (more than half of those who read the scan: 1 of 1, 2 of 2, 2 of
    3), or one of them by number, and then scans that this one did not read are not annotated.
    """

    readers: Literal["union", "majority", "1", "2", "3"] = "union"


class LNDb(LabelImageAdapter):
    """``data0/LNDb-0001.mhd`` with ``masks/LNDb-0001_rad1.mhd`` … ``_rad3``, and ``trainNodules.csv``.

    A mask's values are the findings of that reader; those with ``Nodule`` 1 in the csv form the target. Every training
    scan has a mask by the first reader, empty where nothing was found; the 58 test scans have none.
    """

    Settings = LNDbSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield the scans in natural order.

        Raises:
            DataError: there is no scan, something is there twice, or masks have no ``trainNodules.csv``.
        """
        root = require_folder(root, f"the unpacked archives of LNDb ({self.record.url})")
        scans: dict[str, Path] = {}
        masks: dict[str, dict[str, Path]] = {}
        findings: dict[str, Path] = {}
        for path in walked(root):
            scan, mask = _SCAN.fullmatch(path.name), _MASK.fullmatch(path.name)
            if scan is not None:
                add_once(scans, scan["id"], path)
            elif mask is not None:
                add_once(masks.setdefault(mask["id"], {}), mask["reader"], path)
            elif path.name == _FINDINGS:
                add_once(findings, _FINDINGS, path)
        if not scans:
            raise DataError(f"{root}: holds no data0/LNDb-0001.mhd; expected the unpacked archives ({self.record.url})")
        if masks and not findings:
            raise DataError(f"{root}: holds masks but no {_FINDINGS}, which says what they number; unpack trainset_csv")
        for number in sorted(scans, key=natural):
            readers = masks.get(number, {})
            one = self.settings.readers
            chosen = [readers[reader] for reader in sorted(readers) if one in {"union", "majority", reader}]
            yield Case(
                dataset=self.record.name,
                case_id=f"LNDb-{number}",
                patient_id=f"LNDb-{number}",
                modality="ct",
                images=(scans[number],),
                labels=(*chosen, findings[_FINDINGS]) if chosen else (),
                targets=self.record.targets if chosen else (),
                split="test" if masks and not readers else None,
            )

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
