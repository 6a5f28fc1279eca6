"""Duke breast MR: DICOM series of the contrast phases, and boxes in an Excel sheet."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, Settings, Volume
from oncoseg_datasets.dicom_images import Series, read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, each_once, made_or_fault
from oncoseg_datasets.tables import Row, number, read_table, rows_by

Phase = Literal["pre", "post_1", "post_2", "post_3", "post_4"]

_BOXES = "Annotation_Boxes.xlsx"
_MAPPING = "Breast-Cancer-MRI-filepath_filename-mapping.xlsx"
_AXES = ("Slice", "Row", "Column")
_COLUMNS = tuple(f"{end} {axis}" for axis in _AXES for end in ("Start", "End"))
_PRE = re.compile(
    r"(ax (3d )?dyn( mp)?|ax dynamic|ax vibrant multiphase)|(ax (3d )?dyn|ax 3d|t1_fl3d_tra_dynviews_spair_?) pre"
)
_PASS = re.compile(r"(?<![a-z0-9])([1-4])(st|nd|rd|th) (pass?\b|ax dyn)")
_PHASE = re.compile(r"ph([1-4])\W*(?P<name>.+)")
"""How the series are called, in small letters: ``ax dyn pre`` with ``ax dyn 1st pass`` (also ``1st ax dyn``), or the
name of the series alone with ``Ph1`` before it for the phases after contrast. In names of folders the slash is lost."""


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
    folder's name, or, where that does not tell, in the mapping workbook of the collection, which knows both kinds of
    folder names (descriptive, and of UIDs). The box becomes a box-shaped weak mask.
    """

    Settings = DukeSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per patient, sorted; a patient without a row in the sheet is unlabelled.

        A patient whose phases cannot be told, or who lacks one that is asked for, is a bad case.

        Raises:
            DataError: patients or sheet are missing.
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
        yield from each_once(
            made_or_fault(
                partial(self._case, patient, table, boxes.get(patient.name, []), mapping),
                partial(self.named_case, patient.name, patient),
            )
            for patient in patients
        )

    def _case(self, patient: Path, table: Path, rows: list[Row], mapping: Path | None) -> Case:
        if len(rows) > 1:
            raise BadCaseError("wrong-table", f"{table}: has {len(rows)} rows for {patient.name}; expected one")
        series = self._phases(patient, mapping)
        return self.case(
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
        found = _by_names(folders)
        if mapping is not None and any(len(found.get(phase, ())) != 1 for phase in self.settings.phases):
            found = _mapped(mapping, patient.name, folders)
        for phase in self.settings.phases:
            if len(found.get(phase, ())) != 1:
                names = ", ".join(folder.name for folder in folders)
                where = f"put {_MAPPING} beside {_BOXES}, or" if mapping is None else f"{mapping.name} says no more;"
                raise BadCaseError(
                    "unclear" if found.get(phase) else "missing-image",
                    f"{patient}: {len(found.get(phase, ()))} of its series are the phase {phase!r} ({names}); {where} "
                    "choose other phases",
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


def _by_names(folders: list[Path]) -> dict[str, list[Path]]:
    """The phases by the descriptions in the names of series folders, ``26.000000-ax dyn 1st pass-59157``."""
    found: dict[str, list[Path]] = {}
    named = {folder: re.sub(r"^[\d.]+-|-\d+$", "", folder.name).strip().lower() for folder in folders}
    phased = {folder: match for folder, name in named.items() if (match := _PHASE.fullmatch(name))}
    before_contrast = {match["name"] for match in phased.values()}
    for folder, name in named.items():
        after = phased.get(folder) or _PASS.search(name)
        if after is not None:
            found.setdefault(f"post_{after[1]}", []).append(folder)
        elif name in before_contrast or _PRE.fullmatch(name):
            found.setdefault("pre", []).append(folder)
    return found


def _mapped(mapping: Path, patient: str, folders: list[Path]) -> dict[str, list[Path]]:
    """The phases by the collection's own table."""
    known = _phase_by_series(mapping, mapping.stat().st_mtime_ns)
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if (phase := known.get((patient, _plain(folder.name)))) is not None:
            found.setdefault(phase, []).append(folder)
    return found


@functools.lru_cache(maxsize=1)
def _phase_by_series(mapping: Path, _modified: int) -> Mapping[tuple[str, str], str]:
    """The phase by patient and plain name of the series folder, from the paths of every slice (some 770,000 rows)."""
    found: dict[tuple[str, str], str] = {}
    columns = ("classic_path", "descriptive_path")
    rows = read_table(mapping, ("original_path_and_filename",))
    if rows and not rows[0].keys() & set(columns):
        raise DataError(f"{mapping}: has neither the column {columns[0]!r} nor {columns[1]!r}")
    for row in rows:
        phase = re.search(r"/(pre|post_[1-4])/", row["original_path_and_filename"])
        for path in (row.get(column, "") for column in columns):
            patient = re.search(r"/(Breast_MRI_\d{3})/", path)
            # The slice comes last and its series before it, whose description may hold slashes of its own.
            series = re.search(r"/(\d+\.\d+-.+)/[^/]+$", path) or re.search(r"/([^/]+)/[^/]+$", path)
            if phase and patient and series:
                found[patient[1], _plain(series[1])] = phase[1]
    return found


def _plain(name: str) -> str:
    """A series folder's name in small letters and digits: slashes and plus signs are lost when folders are made."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())
