"""NSCLC-Radiomics (Lung1): planning CT in DICOM, contours in a DICOM structure set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Geometry, GeometryError, Target, Volume
from oncoseg_datasets.dicom_images import read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, each_once, made_or_fault, union_of_parts
from oncoseg_dicom import fill_polygons, read_header

_ROIS = {
    "gtv1": 1,
    "lungleft": 2,
    "lungright": 3,
    "lungstotal": 4,
    "spinalcord": 5,
    "heart": 6,
    "esophagus": 7,
}
"""Label values by the name of a region of interest in small letters without ``-``, ``_`` and blanks."""

_OFF_SLICE = 0.1
"""Largest distance of a contour from its slice, as part of the slice distance: rounding in planning systems."""


class NsclcRadiomics(LayoutAdapter):
    """``NSCLC-Radiomics/LUNG1-001/<study>/<series>/1-001.dcm``, one series being the structure set.

    Contours of a region on one slice are filled even-odd: one within another is a hole, and a keyhole stays one. A
    region of another name than those of the record is not a target and left alone; a patient without any is unlabelled
    (LUNG1-128). Both lungs count as lung, or what is called Lungs-Total; one lung alone would be half a label.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per patient, sorted. Reads one header per series, and the structure set.

        Raises:
            DataError: no patient folder is found. A patient without one CT and at most one structure set, or with a
                file that cannot be read, is a bad case.
        """
        root = Path(root)
        bases = folders_named(root, "NSCLC-Radiomics") or ([root] if root.is_dir() else [])
        patients = [
            folder for base in bases for folder in folders_in(base) if re.fullmatch(r"LUNG1-\d{3}", folder.name)
        ]
        if not patients:
            raise self.refusal(root, "NSCLC-Radiomics/LUNG1-001")
        yield from each_once(
            made_or_fault(partial(self._case, patient), partial(self.named_case, patient.name, patient))
            for patient in patients
        )

    def _case(self, patient: Path) -> Case:
        by_modality: dict[str, list[list[Path]]] = {}
        for folder in (series for study in folders_in(patient) for series in folders_in(study)):
            if files := files_in(folder, (".dcm",)):
                by_modality.setdefault(str(read_header(files[0], ["Modality"]).get("Modality")), []).append(files)
        scans, structures = by_modality.get("CT", []), by_modality.get("RTSTRUCT", [])
        if len(scans) != 1 or len(structures) > 1 or any(len(files) != 1 for files in structures):
            raise BadCaseError(
                "unclear" if scans else "missing-image",
                f"{patient}: holds {len(scans)} CT series and {len(structures)} structure sets; expected one CT "
                "and at most one structure set of one file",
            )
        label = structures[0][0] if structures else None
        targets = self._targets(label) if label is not None else ()
        return self.case(
            case_id=patient.name,
            patient_id=patient.name,
            images=tuple(scans[0]),
            labels=(label,) if targets else (),
            targets=targets,
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a scan and fill the contours of its regions."""
        series = read_series(case.images, case.modality)
        if not case.labels:
            return series.volume, {}
        path, geometry = case.labels[0], series.volume.geometry
        structures = read_header(path)
        _require_same_frame(structures, path, series.files[0])
        wanted = frozenset[int]().union(*(target.labels for target in case.targets))
        regions = {int(item.ReferencedROINumber): _contours(item) for item in structures.ROIContourSequence}
        parts = {
            value: _fill(regions[roi], geometry, f"{path}: {name}")
            for value, (roi, name) in _regions(structures, path).items()
            if value in wanted
        }
        return series.volume, union_of_parts(case.targets, parts, np.zeros(geometry.shape, dtype=bool))

    def _targets(self, path: Path) -> tuple[Target, ...]:
        found = set(_regions(read_header(path), path))
        if not ({2, 3} <= found or 4 in found):
            found -= {2, 3}
        return tuple(target for target in self.record.targets if target.labels & found)


def _regions(structures: Any, path: Path) -> dict[int, tuple[int, str]]:
    """The number and name of each region of the record by its label value; one that nobody drew is not annotated."""
    drawn = {int(item.ReferencedROINumber) for item in structures.get("ROIContourSequence") or () if _contours(item)}
    found: dict[int, tuple[int, str]] = {}
    for item in structures.get("StructureSetROISequence") or ():
        name = str(item.get("ROIName", ""))
        value = _ROIS.get(re.sub(r"[-_\s]", "", name.lower()))
        if value is not None and int(item.ROINumber) in drawn:
            if value in found:
                raise DataError(f"{path}: has both {found[value][1]!r} and {name!r}; expected one of them")
            found[value] = (int(item.ROINumber), name)
    return found


def _contours(region: Any) -> list[Any]:
    """The contours of a region; single points, which planning systems use as markers, are none."""
    return [item for item in region.get("ContourSequence") or () if item.get("ContourGeometricType") != "POINT"]


def _require_same_frame(structures: Any, path: Path, image: Path) -> None:
    frame = read_header(image, ["FrameOfReferenceUID"]).get("FrameOfReferenceUID")
    named = {str(item.FrameOfReferenceUID) for item in structures.get("ReferencedFrameOfReferenceSequence") or ()}
    if frame and named and str(frame) not in named:
        raise GeometryError(
            f"{path}: is drawn in another frame of reference than {image.parent}; they do not belong together"
        )


def _fill(contours: list[Any], geometry: Geometry, origin: str) -> BoolArray:
    """The voxels whose centre is inside a region's contours."""
    mask = np.zeros(geometry.shape, dtype=bool)
    rings: dict[int, dict[bytes, np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for contour in contours:
        kind = contour.get("ContourGeometricType")
        if kind not in {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"}:
            raise DataError(f"{origin}: has a contour of the type {kind}; expected CLOSED_PLANAR")
        values = np.array(contour.get("ContourData") or [], dtype=np.float64)
        if values.size < 9 or values.size % 3 or not np.isfinite(values).all():
            raise DataError(
                f"{origin}: has a contour of {values.size} numbers; expected three or more points (x, y, z)"
            )
        points = geometry.lps_to_index(values.reshape(-1, 3))
        index = round(float(points[:, 2].mean()))
        off = float(np.abs(points[:, 2] - index).max())
        if off > _OFF_SLICE or not 0 <= index < geometry.shape[0]:
            raise GeometryError(
                f"{origin}: has a contour {off * geometry.spacing[0]:.3g} mm off the nearest slice ({index + 1} of "
                f"{geometry.shape[0]}); contours and scan are not on one grid"
            )
        # Voxel centres are whole indices here and half pixels in the fill. A contour that is stored twice counts once.
        ring = points[:, :2] + 0.5
        rings.setdefault(index, {})[np.round(ring, 3).tobytes()] = ring
    for index, on_slice in rings.items():
        mask[index] = fill_polygons(on_slice.values(), geometry.shape[1:], border="right")
    return mask
