"""CBIS-DDSM mammograms: DICOM films, DICOM masks per abnormality, four CSV files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Split, Target, Volume
from oncoseg_datasets.dicom_images import read_film
from oncoseg_datasets.folders import folders_in, folders_named, is_leftover, one_file_named
from oncoseg_datasets.layouts.base import LayoutAdapter, union_of_parts
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
_VALUES = {"Mass": CBIS_MASS, "Calc": CBIS_CALCIFICATION}
_PATHOLOGIES = ("benign without callback", "benign", "malignant")
"""From the least to the most serious: a film is of the most serious one of its abnormalities."""


class _Film(NamedTuple):
    patient: str
    split: Split
    abnormalities: dict[str, str]
    """Pathology by abnormality id."""


class CbisDdsm(LayoutAdapter):
    """``CBIS-DDSM/Mass-Training_P_00001_LEFT_CC/…/1-1.dcm`` with a folder ``…_CC_1`` per abnormality.

    A case is one film; the masks of its abnormalities are joined. Mask and crop of an abnormality have the names
    ``1-1.dcm`` and ``1-2.dcm`` in no order, and the CSV files interchange them too: the mask is the one that has the
    film's size. A patient in both official sets is a test patient with all films. The target that joins masses and
    calcifications is left out where a view is in the tables of both, because each film then shows a part only.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per film that is there, sorted by folder.

        Raises:
            DataError: films or tables are missing, or a film lacks the folder of one of its abnormalities.
        """
        root = Path(root)
        bases = folders_named(root, "CBIS-DDSM") or ([root] if root.is_dir() else [])
        folders = {folder.name: folder for base in bases for folder in folders_in(base) if _FILM.match(folder.name)}
        films = _films(root)
        if not folders or not films:
            tables = ", ".join(name for name, _ in _TABLES)
            raise self.refusal(root, f"CBIS-DDSM/{_EXAMPLE} and at least one of {tables}")
        tests = {film.patient for film in films.values() if film.split == "test"}
        names = {name: match for name in films if (match := _FILM.fullmatch(name)) is not None}
        if len(names) < len(films):
            odd = next(name for name in films if name not in names)
            raise DataError(f"{root}: a table names the film {odd!r}; expected a name such as {_EXAMPLE}")
        kinds = defaultdict(set)
        for match in names.values():
            kinds[match["view"]].add(match["kind"])
        for name, film in sorted(films.items()):
            if name in folders:
                kind, view = names[name]["kind"], names[name]["view"]
                targets = tuple(
                    target
                    for target in self.record.targets
                    if _VALUES[kind] in target.labels and (len(target.labels) == 1 or len(kinds[view]) == 1)
                )
                yield self._case(name, film, folders, "test" if film.patient in tests else film.split, targets)

    def _case(
        self, name: str, film: _Film, folders: dict[str, Path], split: Split, targets: tuple[Target, ...]
    ) -> Case:
        images = _dicom_files(folders[name])
        if len(images) != 1:
            raise DataError(f"{folders[name]}: holds {len(images)} DICOM files; expected one film")
        labels: list[Path] = []
        for number in sorted(film.abnormalities, key=int):
            roi = folders.get(f"{name}_{number}")
            files = _dicom_files(roi) if roi is not None else []
            if not files:
                raise DataError(f"{folders[name]}: has no mask in {name}_{number}; the copy is incomplete")
            labels += files
        return self.case(
            case_id=name,
            patient_id=film.patient,
            images=tuple(images),
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
            mask[0] |= _mask_among(files, volume)
        value = _VALUES[case.case_id[:4]]
        return volume, union_of_parts(case.targets, {value: mask}, np.zeros(mask.shape, dtype=bool))


def _films(root: Path) -> dict[str, _Film]:
    """What the tables that are there say of each film, by the name of its folder."""
    films: dict[str, _Film] = {}
    for name, split in _TABLES:
        path = one_file_named(root, name)
        for row in read_table(path, _COLUMNS) if path is not None else []:
            pathology = row["pathology"].lower().replace("_", " ")
            if pathology not in _PATHOLOGIES or not row["abnormality id"].isdigit():
                raise DataError(
                    f"{path}: pathology {row['pathology']!r}, abnormality id {row['abnormality id']!r}; expected "
                    f"{', '.join(_PATHOLOGIES)} and a number"
                )
            folder = row["image file path"].partition("/")[0]
            film = films.setdefault(folder, _Film(row["patient_id"], split, {}))
            film.abnormalities[row["abnormality id"]] = pathology
    return films


def _dicom_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.dcm") if not is_leftover(path.name))


def _mask_among(files: list[Path], film: Volume) -> BoolArray:
    """The mask ``(y, x)`` among mask and crop: of the film's size, and of one value besides 0."""
    size = film.geometry.shape[1:]
    sizes = {path: (header.get("Rows"), header.get("Columns")) for path in files for header in [read_header(path)]}
    whole = [path for path in files if sizes[path] == size]
    masks = []
    for path in whole:
        pixels = read_film(path, film.modality).voxels[0, 0]
        if len(np.unique(pixels[pixels != 0])) <= 1:
            masks.append(pixels != 0)
    if len(masks) != 1:
        found = ", ".join(f"{path} ({rows} x {columns})" for path, (rows, columns) in sizes.items())
        raise DataError(
            f"{film.name} has {size[0]} x {size[1]} pixels (y, x), and {len(masks)} of {found} are masks of that size; "
            "expected one"
        )
    return np.asarray(masks[0])
