"""3D-IRCADb-01: abdominal CT in DICOM, one folder of DICOM masks per structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, GeometryError, Volume, is_rounding
from oncoseg_datasets.dicom_images import Series, read_film, read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named
from oncoseg_datasets.layouts.base import (
    BadCaseError,
    FaultKind,
    LayoutAdapter,
    each_once,
    made_or_fault,
    union_of_parts,
)
from oncoseg_dicom import read_header

_LIVER, _TUMOR, _PORTAL_VEIN = 1, 2, 3
_STRUCTURES = (
    (re.compile(r"liver"), _LIVER),
    (re.compile(r"livertumou?rs?_?\d*"), _TUMOR),
    (re.compile(r"portalvein.*"), _PORTAL_VEIN),
)
"""Folder names in small letters; they differ from patient to patient (livertumor, livertumor01, livertumors)."""


class Ircadb(LayoutAdapter):
    """``3Dircadb1.1/PATIENT_DICOM/image_0`` with ``3Dircadb1.1/MASKS_DICOM/liver/image_0``, both unpacked.

    The liver includes the tumours, which the folder ``liver`` leaves out in places. A patient without a folder of
    tumours has none, as all structures of a patient were drawn; without one of the portal vein that is unlabelled. The
    folder ``tumor`` of patient 7 shows an adrenal gland and is left alone: five patients have no tumour of the liver.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per patient, by number.

        A patient without a liver, or whose archives are still packed, is a bad case.

        Raises:
            DataError: no patient folder is found.
        """
        root = Path(root)
        bases = [*folders_named(root, "3Dircadb1"), *([root] if root.is_dir() else [])]
        pattern = re.compile(r"3Dircadb1\.(\d+)")
        patients = sorted(
            {folder for base in bases for folder in folders_in(base) if pattern.fullmatch(folder.name)},
            key=lambda folder: int(folder.name.rpartition(".")[2]),
        )
        if not patients:
            raise self.refusal(root, "3Dircadb1.1/PATIENT_DICOM")
        yield from each_once(
            made_or_fault(partial(self._case, patient), partial(self.named_case, patient.name, patient))
            for patient in patients
        )

    def _case(self, patient: Path) -> Case:
        images, masks = _unpacked(patient, "PATIENT_DICOM"), _unpacked(patient, "MASKS_DICOM")
        structures = {folder: value for folder in folders_in(masks) if (value := _value(folder)) is not None}
        if _LIVER not in structures.values():
            raise BadCaseError("missing-label", f"{masks}: holds no folder liver; the copy is incomplete, get it again")
        return self.case(
            case_id=patient.name,
            patient_id=patient.name,
            images=tuple(_slices(images)),
            labels=tuple(path for folder in structures for path in _slices(folder)),
            targets=tuple(
                target
                for target in self.record.targets
                if _PORTAL_VEIN not in target.labels or _PORTAL_VEIN in structures.values()
            ),
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a scan and the masks of its structures."""
        series = read_series(case.images, case.modality)
        parts: dict[int, BoolArray] = {}
        for folder in sorted({path.parent for path in case.labels}):
            value, mask = _value(folder), _read_structure(folder, series)
            if value is not None:
                parts[value] = parts[value] | mask if value in parts else mask
        return series.volume, union_of_parts(case.targets, parts, np.zeros(series.volume.geometry.shape, dtype=bool))


def _value(folder: Path) -> int | None:
    return next((value for pattern, value in _STRUCTURES if pattern.fullmatch(folder.name.lower())), None)


def _unpacked(patient: Path, name: str) -> Path:
    folder = patient / name
    if (folder / name).is_dir():
        return folder / name
    if not folder.is_dir():
        archive = patient / f"{name}.zip"
        found = f"unpack {archive}" if archive.is_file() else f"get {archive.name} and unpack it"
        kind: FaultKind = "missing-image" if name == "PATIENT_DICOM" else "missing-label"
        raise BadCaseError(kind, f"{patient}: holds no folder {name}; {found} there")
    return folder


def _slices(folder: Path) -> list[Path]:
    """The slice files ``image_0`` … ``image_128``, without a suffix; their order in space is in their headers."""
    found = [path for path in files_in(folder) if re.fullmatch(r"image_\d+", path.name)]
    if not found:
        raise BadCaseError("missing-image", f"{folder}: holds no image_0, image_1, …")
    return found


def _read_structure(folder: Path, series: Series) -> BoolArray:
    """A structure's mask on the scan's grid; its files have the names of the scan's slices."""
    shape = series.volume.geometry.shape
    mask = np.zeros(shape, dtype=bool)
    for index, image in enumerate(series.files):
        path = folder / image.name
        if not path.is_file():
            raise DataError(f"{path}: is missing; a structure has a mask for every slice of {image.parent}")
        pixels = read_film(path, "ct").voxels[0, 0]
        if pixels.shape != shape[1:]:
            raise GeometryError(f"{path}: has {pixels.shape} pixels, but {image} has {shape[1:]} (y, x)")
        values = np.unique(pixels)
        if len(values) > 2 or (len(values) == 2 and values[0] != 0) or values[-1] not in {0, 1, 255}:
            raise DataError(f"{path}: holds the values {values[:6].tolist()}; expected 0 and 255")
        position = read_header(path, ["ImagePositionPatient"]).get("ImagePositionPatient")
        if position is not None:
            geometry = series.volume.geometry
            apart = geometry.index_to_lps([(0, 0, index)])[0] - np.array(position, dtype=np.float64)
            if not is_rounding(apart, geometry.affine[:3, :3], 2 * geometry.rounding_mm):
                raise GeometryError(
                    f"{path} and {image} lie {np.linalg.norm(apart):.3g} mm apart; they do not belong together"
                )
        mask[index] = pixels != 0
    return mask
