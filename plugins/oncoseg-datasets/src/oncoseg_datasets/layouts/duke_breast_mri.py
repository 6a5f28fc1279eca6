"""Duke breast MR: DICOM series of the contrast phases, and boxes in an Excel sheet."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, Settings, Volume
from oncoseg_datasets.dicom_images import Series, read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named, one_file_named
from oncoseg_datasets.layouts.base import LayoutAdapter
from oncoseg_datasets.tables import Row, number, read_table, rows_by

Phase = Literal["pre", "post_1", "post_2", "post_3", "post_4"]

_BOXES = "Annotation_Boxes.xlsx"
_MAPPING = "Breast-Cancer-MRI-filepath_filename-mapping.xlsx"
_AXES = ("Slice", "Row", "Column")
_COLUMNS = tuple(f"{end} {axis}" for axis in _AXES for end in ("Start", "End"))
_PRE = re.compile(r"dyn pre\b|^ax 3d dyn$")
_POST = re.compile(r"\b(?P<ordinal>1st|2nd|3rd|4th) pass\b|^ph(?P<number>[1-4])\W*ax 3d dyn$")
"""Two ways in which the series descriptions name the phases: ``ax dyn 1st pass``, and ``Ph1ax 3d dyn``."""


class DukeSettings(Settings):
    """``phases`` are the channels, in order. ``index_base`` and ``slice_order`` say how the sheet counts, which it does
    not tell: from 0 or 1, both ends of the box included, slices by ``InstanceNumber`` or by position along the normal.
    """

    phases: Annotated[tuple[Phase, ...], Field(min_length=1)] = ("pre", "post_1", "post_2")
    index_base: Literal[0, 1] = 1
    slice_order: Literal["instance", "position"] = "instance"


class DukeBreastMri(LayoutAdapter):
    """``Breast_MRI_001/<study>/<series>/1-001.dcm`` with ``Annotation_Boxes.xlsx``, one row per patient.

    A case is a patient, its channels the phases that are asked for. They are found by the series' description in the
    folder's name, or, where that does not tell, in the mapping workbook of the collection. The box becomes a box-shaped
    weak mask.
    """

    Settings = DukeSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per patient, sorted; a patient without a row in the sheet is unlabelled.

        Raises:
            DataError: patients or sheet are missing, or a patient's phases cannot be told.
        """
        root = Path(root)
        bases = folders_named(root, "Duke-Breast-Cancer-MRI") or ([root] if root.is_dir() else [])
        patients = [
            folder for base in bases for folder in folders_in(base) if re.fullmatch(r"Breast_MRI_\d{3}", folder.name)
        ]
        table = one_file_named(root, _BOXES)
        if not patients or table is None:
            raise self.refusal(root, f"Duke-Breast-Cancer-MRI/Breast_MRI_001 and {_BOXES}")
        boxes = rows_by(table, "Patient ID", _COLUMNS)
        mapping = one_file_named(root, _MAPPING)
        for patient in patients:
            rows = boxes.get(patient.name, [])
            if len(rows) > 1:
                raise DataError(f"{table}: has {len(rows)} rows for {patient.name}; expected one")
            series = self._phases(patient, mapping)
            yield self.case(
                case_id=patient.name,
                patient_id=patient.name,
                images=tuple(path for phase in self.settings.phases for path in files_in(series[phase], (".dcm",))),
                channel_names=self.settings.phases,
                labels=(table,) if rows else (),
                targets=self.record.targets if rows else (),
            )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read the phases and fill the box."""
        folders: dict[Path, list[Path]] = {}
        for path in case.images:
            folders.setdefault(path.parent, []).append(path)
        series = [read_series(files, case.modality) for files in folders.values()]
        first = series[0].volume
        for other in series[1:]:
            first.geometry.require_same_grid(other.volume.geometry, first.name, other.volume.name)
        volume = replace(
            first,
            voxels=np.concatenate([one.volume.voxels for one in series]),
            channel_names=case.channel_names,
            headers=tuple(header for one in series for header in one.volume.headers),
        )
        if not case.labels:
            return volume, {}
        row = rows_by(case.labels[0], "Patient ID", _COLUMNS)[case.case_id][0]
        mask = self._box(row, series[0], case.labels[0])
        return volume, {target.name: mask for target in case.targets}

    def _phases(self, patient: Path, mapping: Path | None) -> Mapping[str, Path]:
        """The folder of each phase that is asked for."""
        folders = [series for study in folders_in(patient) for series in folders_in(study)]
        found: dict[str, list[Path]] = {}
        for folder in folders:
            phase = _phase_of(folder.name)
            if phase is not None:
                found.setdefault(phase, []).append(folder)
        if mapping is not None and any(len(found.get(phase, ())) != 1 for phase in self.settings.phases):
            found = _mapped(mapping, patient.name, folders)
        for phase in self.settings.phases:
            if len(found.get(phase, ())) != 1:
                names = ", ".join(folder.name for folder in folders)
                raise DataError(
                    f"{patient}: {len(found.get(phase, ()))} of its series are the phase {phase!r} ({names}); put "
                    f"{_MAPPING} beside {_BOXES}, or choose other phases"
                )
        return {phase: folders[0] for phase, folders in found.items()}

    def _box(self, row: Row, series: Series, table: Path) -> BoolArray:
        shape = series.volume.geometry.shape
        mask = np.zeros(shape, dtype=bool)
        ranges = []
        for axis, size in zip(_AXES, shape, strict=True):
            start, end = (
                int(number(row, f"{side} {axis}", table)) - self.settings.index_base for side in ("Start", "End")
            )
            if not 0 <= start <= end < size:
                raise DataError(
                    f"{table}: the box of {row['Patient ID']} reaches from {row[f'Start {axis}']} to "
                    f"{row[f'End {axis}']} along {axis.lower()}s, of which there are {size}; look at index_base"
                )
            ranges.append(np.arange(start, end + 1))
        order = self._slice_order(series, table)
        mask[np.ix_(order[ranges[0]], ranges[1], ranges[2])] = True
        return mask

    def _slice_order(self, series: Series, table: Path) -> np.ndarray:
        """The z index of each slice in the order in which the sheet counts them."""
        if self.settings.slice_order == "position":
            return np.arange(len(series.files))
        numbers = [n for n in series.instance_numbers if n is not None]
        if len(set(numbers)) != len(series.files):
            raise DataError(
                f"{series.volume.name}: its slices have no InstanceNumber of their own, by which {table.name} counts; "
                "set slice_order to position"
            )
        return np.argsort(numbers)


def _phase_of(folder: str) -> str | None:
    """The phase by the name of a series folder, ``26.000000-ax dyn 1st pass-59157``; None if it does not tell."""
    description = re.sub(r"^[\d.]+-|-\d+$", "", folder).strip().lower()
    if _PRE.search(description):
        return "pre"
    post = _POST.search(description)
    return None if post is None else f"post_{(post['ordinal'] or post['number'])[0]}"


def _mapped(mapping: Path, patient: str, folders: list[Path]) -> dict[str, list[Path]]:
    """The phases by the collection's own table."""
    known = _phase_by_series(mapping, mapping.stat().st_mtime_ns)
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if (phase := known.get((patient, folder.name))) is not None:
            found.setdefault(phase, []).append(folder)
    return found


@functools.lru_cache(maxsize=1)
def _phase_by_series(mapping: Path, _modified: int) -> Mapping[tuple[str, str], str]:
    """The phase by patient and series folder, from the old and new path of every slice (some 770,000 rows)."""
    found: dict[tuple[str, str], str] = {}
    for row in read_table(mapping, ("original_path_and_filename", "classic_path")):
        phase = re.search(r"/(pre|post_[1-4])/", row["original_path_and_filename"])
        patient = re.search(r"/(Breast_MRI_\d{3})/", row["classic_path"])
        if phase and patient:
            found[patient[1], row["classic_path"].split("/")[-2]] = phase[1]
    return found
