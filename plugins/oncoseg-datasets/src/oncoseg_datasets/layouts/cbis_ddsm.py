"""CBIS-DDSM mammograms: DICOM films, DICOM masks per abnormality, four CSV files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, GeometryError, Settings, Split, Target, Volume
from oncoseg_datasets.dicom_images import read_film
from oncoseg_datasets.folders import folders_in, folders_named, is_leftover, one_file_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, made_or_fault, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.records.mammography import CBIS_CALCIFICATION, CBIS_MASS
from oncoseg_datasets.tables import read_table
from oncoseg_dicom import read_header

_TABLES: tuple[tuple[str, Split], ...] = (
    ("calc_case_description_train_set.csv", "train"),
    ("calc_case_description_test_set.csv", "test"),
    ("mass_case_description_train_set.csv", "train"),
    ("mass_case_description_test_set.csv", "test"),
)
_COLUMNS = ("patient_id", "left or right breast", "image view", "abnormality id", "pathology", "image file path")
_FILM = re.compile(r"(?P<kind>Mass|Calc)-(Training|Test)_(?P<view>P_\d+_(LEFT|RIGHT)_(CC|MLO))")
_ROI = re.compile(_FILM.pattern + r"_\d+")
_EXAMPLE = "Mass-Training_P_00001_LEFT_CC"
_FULL = "full mammogram"
"""In the description of a film's series."""
_VALUES = {"Mass": CBIS_MASS, "Calc": CBIS_CALCIFICATION}
_PATHOLOGIES = ("benign without callback", "benign", "malignant")
"""From the least to the most serious: a film is of the most serious one of its abnormalities."""


class CbisSettings(Settings):
    """``resize_masks``: a mask of another size than its film is stretched to it, each pixel taking the nearest one of
    the mask, as published readers of the set do. Without it such a mask is refused.
    """

    resize_masks: bool = False


class _Film(NamedTuple):
    patient: str
    split: Split
    series: str
    """UID of the film's series, as the table has it."""
    abnormalities: dict[str, str]
    """Pathology by abnormality id."""
    problems: list[str]
    """What is wrong with its rows."""


class CbisDdsm(LayoutAdapter):
    """``CBIS-DDSM/Mass-Training_P_00001_LEFT_CC/…/1-1.dcm`` with a folder ``…_CC_1`` per abnormality.

    A case is one film; the masks of its abnormalities are joined. Mask and crop of an abnormality have the names
    ``1-1.dcm`` and ``1-2.dcm`` in no order, and the CSV files interchange them too: the mask is the one that has the
    film's size. A patient in both official sets is a test patient with all films. The target that joins masses and
    calcifications is left out where a view is in the tables of both, because each film then shows a part only. A folder
    with more than the film in it is read by the film's own series.
    """

    Settings = CbisSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per film that is there, sorted by folder.

        A film that its folder does not tell, that lacks the folder of one of its abnormalities, or whose rows cannot be
        understood is a bad case.

        Raises:
            DataError: films or tables are missing.
        """
        root = Path(root)
        bases = folders_named(root, "CBIS-DDSM") or ([root] if root.is_dir() else [])
        folders = FilesByName()
        for folder in (folder for base in bases for folder in folders_in(base) if _FILM.match(folder.name)):
            folders.add(folder.name, folder)
        films = _films(root)
        if not folders or not films:
            tables = ", ".join(name for name, _ in _TABLES)
            raise self.refusal(root, f"CBIS-DDSM/{_EXAMPLE} and at least one of {tables}")
        tests = {film.patient for film in films.values() if film.split == "test"}
        kinds = defaultdict(set)
        for known in filter(None, map(_FILM.fullmatch, films)):
            kinds[known["view"]].add(known["kind"])
        for name, film in sorted(films.items()):
            split = "test" if film.patient in tests else film.split
            match = _FILM.fullmatch(name)
            if match is not None and name in folders:
                targets = self._targets(match["kind"], alone=len(kinds[match["view"]]) == 1)
                case = made_or_fault(
                    partial(self._case, name, film, folders, split, targets),
                    partial(self.named_case, name, folders[name], film.patient, split=split),
                )
                parts = (name, *(f"{name}_{number}" for number in film.abnormalities))
                yield with_fault(case, "twice", next(filter(None, map(folders.clashes.get, parts)), None))
            elif match is None:
                odd = f"a table names the film {name!r}; expected a name such as {_EXAMPLE}"
                case = self.named_case(name or "film without a name", root, film.patient, split=split)
                yield with_fault(case, "wrong-table", f"{root}: {odd}")

    def _targets(self, kind: str, *, alone: bool) -> tuple[Target, ...]:
        """The targets of a film of masses or calcifications; ``alone``: its view is in the tables of one kind only."""
        return tuple(
            target
            for target in self.record.targets
            if _VALUES[kind] in target.labels and (alone or len(target.labels) == 1)
        )

    def _case(
        self, name: str, film: _Film, folders: dict[str, Path], split: Split, targets: tuple[Target, ...]
    ) -> Case:
        if film.problems:
            raise BadCaseError("wrong-table", film.problems[0])
        labels: list[Path] = []
        for number in sorted(film.abnormalities, key=int):
            roi = folders.get(f"{name}_{number}")
            files = _dicom_files(roi) if roi is not None else []
            if not files:
                raise BadCaseError(
                    "missing-label", f"{folders[name]}: has no mask in {name}_{number}; the copy is incomplete"
                )
            labels += files
        return self.case(
            case_id=name,
            patient_id=film.patient,
            images=(_film_in(folders[name], film.series),),
            labels=tuple(labels),
            targets=targets,
            split=split,
            category=max(film.abnormalities.values(), key=_PATHOLOGIES.index),
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a film and join the masks of its abnormalities."""
        volume = read_film(case.images[0], case.modality)
        by_abnormality: dict[str, list[Path]] = {}
        for path in case.labels:
            roi = next(part for part in reversed(path.parts) if _ROI.fullmatch(part))
            by_abnormality.setdefault(roi, []).append(path)
        mask = np.zeros(volume.geometry.shape, dtype=bool)
        for files in by_abnormality.values():
            found, note = _mask_among(files, volume, resize=self.settings.resize_masks)
            mask[0] |= found
            volume = replace(volume, notes=(*volume.notes, *note))
        value = _VALUES[case.case_id[:4]]
        return volume, union_of_parts(case.targets, {value: mask}, np.zeros(mask.shape, dtype=bool))


def _films(root: Path) -> dict[str, _Film]:
    """What the tables that are there say of each film, by the name of its folder."""
    films: dict[str, _Film] = {}
    for name, split in _TABLES:
        path = one_file_named(root, name)
        for row in read_table(path, _COLUMNS) if path is not None else []:
            folder, *between, _ = [*row["image file path"].split("/"), ""]
            series = between[1] if len(between) > 2 else ""
            film = films.setdefault(folder, _Film(row["patient_id"], split, series, {}, []))
            pathology = row["pathology"].lower().replace("_", " ")
            if pathology in _PATHOLOGIES and row["abnormality id"].isdigit():
                film.abnormalities[row["abnormality id"]] = pathology
            else:
                film.problems.append(
                    f"{path}: pathology {row['pathology']!r}, abnormality id {row['abnormality id']!r}; expected "
                    f"{', '.join(_PATHOLOGIES)} and a number"
                )
    return films


def _dicom_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.dcm") if not is_leftover(path.name))


def _film_in(folder: Path, series: str) -> Path:
    """The film in its folder; where there is more than one file, that of the film's series, or of its description.

    Raises:
        BadCaseError: there is none, or it is not clear which it is.
        ImageReadError: a header cannot be read.
    """
    files = _dicom_files(folder)
    films = files
    if len(files) > 1:
        headers = {path: read_header(path, ["SeriesInstanceUID", "SeriesDescription"]) for path in files}
        films = [path for path in files if series and str(headers[path].get("SeriesInstanceUID")) == series] or [
            path
            for path in files
            if _FULL in f"{headers[path].get('SeriesDescription', '')}/{path.relative_to(folder)}".lower()
        ]
    if len(films) != 1:
        raise BadCaseError(
            "unclear" if files else "missing-image",
            f"{folder}: holds {len(files)} DICOM files, {len(films)} of them of the film's series; expected one film",
        )
    return films[0]


def _mask_among(files: list[Path], film: Volume, *, resize: bool) -> tuple[BoolArray, tuple[str, ...]]:
    """The mask ``(y, x)`` among mask and crop: of one value besides 0, and of the film's size; and what was changed.

    Raises:
        DataError: there is none, or more than one.
        GeometryError: it has another size than the film, and ``resize`` is off.
    """
    size = film.geometry.shape[1:]
    sizes = {path: (header.get("Rows"), header.get("Columns")) for path in files for header in [read_header(path)]}
    masks = {path: mask for path in files if sizes[path] == size and (mask := _as_mask(path, film)) is not None}
    found = ", ".join(f"{path} ({rows} x {columns})" for path, (rows, columns) in sizes.items())
    what = f"{film.name} has {size[0]} x {size[1]} pixels (y, x), and {len(masks)} of {found} are masks of that size"
    if len(masks) == 1:
        return next(iter(masks.values())), ()
    others = {path: mask for path in files if sizes[path] != size and (mask := _as_mask(path, film)) is not None}
    if masks or len(others) != 1:
        raise DataError(f"{what}; expected one")
    ((path, mask),) = others.items()
    if not resize:
        raise GeometryError(
            f"{what}; {path.name} is a mask of another size: `resize_masks`: true stretches it to the film"
        )
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, mask.shape, strict=True))
    told = (
        f"{path.parent.name}/{path.name}: a mask of {mask.shape[0]} x {mask.shape[1]} pixels was stretched to the film"
    )
    return np.asarray(mask[np.ix_(rows, columns)]), (told,)


def _as_mask(path: Path, film: Volume) -> BoolArray | None:
    """A file's pixels as a mask ``(y, x)``; None where they have more than one value besides 0: an image."""
    pixels = read_film(path, film.modality).voxels[0, 0]
    return pixels != 0 if len(np.unique(pixels[pixels != 0])) <= 1 else None
