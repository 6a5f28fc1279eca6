"""VinDr-CXR: DICOM films and radiologists' boxes in CSV files, as PhysioNet or Kaggle give them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, Settings, Split, Target, Volume
from oncoseg_datasets.boxes import box_mask
from oncoseg_datasets.dicom_images import read_film
from oncoseg_datasets.folders import files_in, folders_named, one_file_named
from oncoseg_datasets.layouts.base import LayoutAdapter, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.records.cxr import VINDR_FINDINGS, VINDR_KAGGLE_FINDINGS
from oncoseg_datasets.tables import Row, number, rows_by

_SUFFIXES = (".dicom", ".dcm")
_COLUMNS = ("class_name", "x_min", "y_min", "x_max", "y_max")
_READER = "rad_id"
_KAGGLE = "train.csv"
_NUMBERS = {name.lower(): value for name, (value, _) in VINDR_FINDINGS.items()}
_NOTHING = "no finding"


class VinDrSettings(Settings):
    """Three radiologists read each training image alone; a test image has one row per box, agreed by five.

    ``at_least``: a pixel counts where the boxes of so many of an image's readers cover it, or of all where it had
    fewer. 1 is the union.
    ``reader``: take the boxes of this one only (``R8``); images that the reader did not see are unlabelled.
    """

    at_least: Annotated[int, Field(ge=1, le=3)] = 1
    reader: str | None = None


class VinDrCxr(LayoutAdapter):
    """``train/<id>.dicom`` and ``test/<id>.dicom`` with ``annotations/annotations_{train,test}.csv``, or ``train.csv``.

    The boxes become box-shaped weak masks. A finding without a box is empty. The Kaggle release covers 14 of the 22
    findings and has no labels for its test images.
    """

    Settings = VinDrSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image, training images first, sorted by id.

        Raises:
            DataError: images or tables are missing. An image that is there twice is a bad case.
        """
        root = Path(root)
        tables: dict[Split, Path | None] = {
            "train": one_file_named(root, "annotations_train.csv", _KAGGLE),
            "test": one_file_named(root, "annotations_test.csv"),
        }
        images = {split: _images(root, split) for split in tables}
        if not any(images.values()) or not any(tables.values()):
            raise self.refusal(root, f"train/<id>.dicom and annotations/annotations_train.csv (or {_KAGGLE})")
        for split, table in tables.items():
            rows = rows_by(table, "image_id", _COLUMNS) if table is not None else {}
            for name, path in sorted(images[split].items()):
                seen = self._seen(rows.get(name, []))
                case = self.case(
                    case_id=name,
                    patient_id=name,
                    images=(path,),
                    labels=(table,) if table is not None and seen else (),
                    targets=self._targets(table) if table is not None and seen else (),
                    split=split,
                    category=_category(seen) if seen else None,
                )
                yield with_fault(case, "twice", images[split].clashes.get(name))

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a film and fill its boxes."""
        volume = read_film(case.images[0], case.modality)
        if not case.labels:
            return volume, {}
        table = case.labels[0]
        rows = self._seen(rows_by(table, "image_id", _COLUMNS)[case.case_id])
        parts = self._parts(rows, volume.geometry.shape, table)
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))

    def _seen(self, rows: Iterable[Row]) -> list[Row]:
        """The rows of the chosen reader, or all. Test rows are agreed by several readers and name none."""
        wanted = self.settings.reader
        return [row for row in rows if wanted is None or row.get(_READER, "") in {wanted, ""}]

    def _targets(self, table: Path) -> tuple[Target, ...]:
        if table.name != _KAGGLE:
            return self.record.targets
        return tuple(target for target in self.record.targets if target.labels <= VINDR_KAGGLE_FINDINGS)

    def _parts(self, rows: list[Row], shape: tuple[int, int, int], table: Path) -> dict[int, BoolArray]:
        """By finding: the pixels that the boxes of enough readers cover. One reader's boxes are joined first."""
        by_reader: dict[tuple[int, str], BoolArray] = {}
        readers = {row.get(_READER, "") for row in rows}
        for row in rows:
            name = row["class_name"].lower()
            if name == _NOTHING:
                continue
            if name not in _NUMBERS:
                raise DataError(f"{table}: {row['image_id']} has a finding {row['class_name']!r}, which is not known")
            x0, y0, x1, y1 = (number(row, column, table) for column in _COLUMNS[1:])
            box = box_mask(shape[1:], x0, y0, x1, y1, f"{table}: {row['image_id']}")[np.newaxis]
            key = (_NUMBERS[name], row.get(_READER, ""))
            by_reader[key] = by_reader[key] | box if key in by_reader else box
        needed = min(self.settings.at_least, len(readers))
        votes: dict[int, np.ndarray] = {}
        for (value, _), mask in by_reader.items():
            votes[value] = votes.get(value, np.zeros(shape, dtype=np.uint8)) + mask
        return {value: count >= needed for value, count in votes.items()}


def _images(root: Path, split: Split) -> FilesByName:
    found = FilesByName()
    for folder in folders_named(root, split):
        for path in files_in(folder, _SUFFIXES):
            found.add(path.stem, path)
    return found


def _category(rows: list[Row]) -> str:
    found = any(row["class_name"].lower() != _NOTHING for row in rows)
    return "finding" if found else "no finding"
