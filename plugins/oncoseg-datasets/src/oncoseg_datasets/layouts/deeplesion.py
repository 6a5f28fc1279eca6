"""DeepLesion: CT key slices as 16-bit PNG with boxes in a CSV file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Settings, Split, Volume
from oncoseg_core.imaging import read_volume
from oncoseg_datasets.boxes import box_mask
from oncoseg_datasets.folders import folders_named, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, made_or_fault, union_of_parts
from oncoseg_datasets.records.lesion_ct import DEEPLESION_TYPES, DEEPLESION_UNKNOWN
from oncoseg_datasets.tables import Row, rows_by

_HU_AT_ZERO = 32768
"""Subtracted from the stored 16 bits to get Hounsfield units (README of the dataset)."""

_SPLITS: dict[str, Split] = {"1": "train", "2": "validation", "3": "test"}
_COLUMNS = ("Bounding_boxes", "Coarse_lesion_type", "Possibly_noisy", "Train_Val_Test")


class DeepLesionSettings(Settings):
    """``keep_noisy``: take lesions that the authors marked as possibly noisy too."""

    keep_noisy: bool = False


class DeepLesion(LayoutAdapter):
    """``Images_png/000001_01_01/109.png`` with ``DL_info.csv``, whose file names have ``_`` for the last ``/``.

    A case is one key slice with all its lesions; the boxes become box-shaped weak masks. Not every lesion of a slice is
    annotated, so a type of lesion is a target only where the slice has one and the type of all its boxes is known. A
    slice all of whose lesions are noisy is unlabelled.
    """

    Settings = DeepLesionSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per key slice that is there, sorted by name.

        Raises:
            DataError: slices or table are missing. A slice with a row that the record does not know is a bad case.
        """
        root = Path(root)
        folders = folders_named(root, "Images_png")
        table = one_file_named(root, "DL_info.csv")
        if not folders or table is None:
            raise self.refusal(root, "Images_png/000001_01_01/109.png and DL_info.csv")
        count = 0
        for name, rows in sorted(rows_by(table, "File_name", _COLUMNS).items()):
            series, _, slice_name = name.rpartition("_")
            image = next((path for folder in folders if (path := folder / series / slice_name).is_file()), None)
            if image is None:
                continue
            count += 1
            yield made_or_fault(
                partial(self._case, name, series, image, rows, table),
                partial(self.named_case, name.removesuffix(".png"), image, series.partition("_")[0]),
            )
        if not count:
            raise DataError(f"{folders[0]}: holds none of the slices in {table}; unpack the Images_png archives here")

    def _case(self, name: str, series: str, image: Path, rows: list[Row], table: Path) -> Case:
        kept = self._kept(rows)
        types = {_type(row, table) for row in kept}
        known = set() if DEEPLESION_UNKNOWN in types else types
        split = rows[0]["Train_Val_Test"]
        if split not in _SPLITS or any(row["Train_Val_Test"] != split for row in rows):
            raise BadCaseError(
                "wrong-table",
                f"{table}: Train_Val_Test of {name} is {split!r}; expected one of 1, 2, 3 in all its rows",
            )
        targets = tuple(t for t in self.record.targets if t.labels <= known or DEEPLESION_UNKNOWN in t.labels)
        return self.case(
            case_id=name.removesuffix(".png"),
            patient_id=series.partition("_")[0],
            images=(image,),
            labels=(table,) if kept else (),
            targets=targets if kept else (),
            split=_SPLITS[split],
            category=", ".join(DEEPLESION_TYPES[value] for value in sorted(known)) or None,
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a slice in Hounsfield units and fill its boxes."""
        stored = read_volume(case.images, case.modality)
        if stored.voxels.dtype != np.uint16 or len(stored.voxels) != 1:
            raise DataError(f"{stored.name}: holds {stored.voxels.dtype}; expected a grey PNG of 16 bits")
        volume = replace(stored, voxels=(stored.voxels.astype(np.int32) - _HU_AT_ZERO).astype(np.int16))
        if not case.labels:
            return volume, {}
        table = case.labels[0]
        parts: dict[int, BoolArray] = {}
        for row in self._kept(rows_by(table, "File_name", _COLUMNS)[f"{case.case_id}.png"]):
            box = box_mask(volume.geometry.shape[1:], *_corners(row, table), f"{table}: {case.case_id}")[np.newaxis]
            value = _type(row, table)
            parts[value] = parts[value] | box if value in parts else box
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))

    def _kept(self, rows: list[Row]) -> list[Row]:
        return [row for row in rows if self.settings.keep_noisy or row["Possibly_noisy"] != "1"]


def _type(row: Row, table: Path) -> int:
    text = row["Coarse_lesion_type"]
    known = {str(value): value for value in (DEEPLESION_UNKNOWN, *DEEPLESION_TYPES)}
    if text not in known:
        raise BadCaseError(
            "wrong-table",
            f"{table}: Coarse_lesion_type of {row['File_name']} is {text!r}; expected {', '.join(known)}",
        )
    return known[text]


def _corners(row: Row, table: Path) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = (float(part) for part in row["Bounding_boxes"].split(","))
    except ValueError:
        raise DataError(
            f"{table}: Bounding_boxes of {row['File_name']} is {row['Bounding_boxes']!r}; expected four numbers"
        ) from None
    return x0, y0, x1, y1
