"""LIDC-IDRI: chest CT in DICOM, outlines of up to four radiologists in XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as ET

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, ImageReadError, Settings, Volume, is_rounding
from oncoseg_datasets.dicom_images import Series, read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named, is_leftover
from oncoseg_datasets.layouts.base import BadCaseError, LayoutAdapter, each_once, with_fault
from oncoseg_datasets.polygons import fill_outline
from oncoseg_dicom import read_header

_XML_FOLDERS = ("LIDC-XML-only", "tcia-lidc-xml")
_CORRECTION = "resubmitted-correction"
"""In the name of a file that replaces another: 161-resubmitted-correction-3-9-12.xml (erratum of 2012-03-21)."""

_PANEL = 4
"""Readers of a scan."""


class LidcSettings(Settings):
    """How the readers of a scan become one mask.

    ``at_least``: a voxel counts where so many readers outlined it (or all of them, where there were fewer): 1 is the
    union, 2 half of the usual four. Unlike pylidc's ``consensus``, which asks for a part of those who saw a nodule,
    this asks for a number of readers, so a nodule that one of four saw is left out by the default.
    ``reader``: take this reader only, 1 being the first in the file. Readers are anonymous and not the same from scan
    to scan. A scan that two panels of four have read counts them one by one and joins what they agree on.
    """

    at_least: Annotated[int, Field(ge=1, le=4)] = 2
    reader: Annotated[int, Field(ge=1, le=4)] | None = None


class LidcIdri(LayoutAdapter):
    """``LIDC-IDRI/LIDC-IDRI-0001/<study>/<series>/1-001.dcm`` with an XML file beside the slices or in LIDC-XML-only.

    An outline (``edgeMap``) runs through the pixels just outside the nodule, so those are not part of it, and one of
    ``inclusion`` FALSE takes its inside and itself out of the nodule. That is how pylidc reads the files
    (``Annotation.boolean_mask`` with its default ``include_contour_points=False``; ``Contour.inclusion``). Nodules
    below 3 mm are single points there, no outlines, and leave no mark, nor do non-nodules. A scan in which nobody
    outlined a nodule is annotated and empty.
    """

    Settings = LidcSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per CT series, sorted by patient; chest radiographs of the same patients are left out.

        Reads one header per series. A series without an XML file of its SeriesInstanceUID is unlabelled. One whose
        header cannot be read or that has several, different readings is a bad case, and so is an XML file that cannot
        be read: it may be that of any series.

        Raises:
            DataError: no patient folder is found.
        """
        root = Path(root)
        bases = folders_named(root, "LIDC-IDRI") or ([root] if root.is_dir() else [])
        patients = [
            folder for base in bases for folder in folders_in(base) if re.fullmatch(r"LIDC-IDRI-\d{4}", folder.name)
        ]
        if not patients:
            raise self.refusal(root, "LIDC-IDRI/LIDC-IDRI-0001")
        # One of these folders lies in the other, so that a file is found from both.
        xml_folders = [folder for name in _XML_FOLDERS for folder in folders_named(root, name)]
        elsewhere = _Readings()
        for path in sorted({path for folder in xml_folders for path in folder.rglob("*.xml")}):
            elsewhere.add(path)
        yield from each_once(self._cases(patients, elsewhere))

    def _cases(self, patients: list[Path], elsewhere: _Readings) -> Iterator[Case]:
        for patient in patients:
            for folder in (series for study in folders_in(patient) for series in folders_in(study)):
                name = f"{patient.name}_{folder.name}"
                files = files_in(folder, (".dcm",))
                beside = _Readings(files_in(folder, (".xml",)))
                if files and (case := self._case(name, patient.name, files, elsewhere, beside)) is not None:
                    yield case
                for path, why in beside.unreadable.items():
                    yield self._unreadable(path, why, patient.name)
        for path, why in elsewhere.unreadable.items():
            yield self._unreadable(path, why, None)

    def _case(self, name: str, patient: str, files: list[Path], elsewhere: _Readings, beside: _Readings) -> Case | None:
        case = self.case(case_id=name, patient_id=patient, images=tuple(files))
        try:
            header = read_header(files[0], ["Modality", "SeriesInstanceUID"])
            if header.get("Modality") != "CT":
                return None
            uid = str(header.get("SeriesInstanceUID", ""))
            label = _one_reading([*beside.of(uid), *elsewhere.of(uid)])
        except BadCaseError as error:
            return with_fault(case, error.kind, str(error))
        except ImageReadError as error:
            return with_fault(case, "unreadable", str(error))
        return case if label is None else case.model_copy(update={"labels": (label,), "targets": self.record.targets})

    def _unreadable(self, path: Path, why: str, patient: str | None) -> Case:
        name = f"{path.parent.name}/{path.name}"
        return with_fault(self.named_case(name, path, patient), "unreadable", why)

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a scan and fill the outlines of its readers."""
        series = read_series(case.images, case.modality)
        if not case.labels:
            return series.volume, {}
        path = case.labels[0]
        panels = _panels(path)
        reader = self.settings.reader
        if len(panels[0]) < (reader or 1):
            raise DataError(f"{path}: has {len(panels[0])} readers; expected {reader or 'at least 1'}")
        mask = np.zeros(series.volume.geometry.shape, dtype=bool)
        needed = min(self.settings.at_least, len(panels[0]))
        for panel in panels if reader is None else []:
            votes = np.zeros(mask.shape, dtype=np.uint8)
            for session in panel:
                votes += _read_session(session, series, path)
            mask |= votes >= needed
        if reader is not None:
            mask = _read_session(panels[0][reader - 1], series, path)
        volume = series.volume
        if reader is None and len(panels) > 1:
            note = f"{path.name}: {len(panels)} panels of readers; each was counted alone, and the masks were joined"
            volume = replace(volume, notes=(*volume.notes, note))
        return volume, {target.name: mask for target in case.targets}


class _Readings:
    """Readings of CT by their series; files of other kinds (readings of radiographs) are left out."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._by_series: dict[str, list[Path]] = {}
        self.unreadable: dict[Path, str] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Path) -> None:
        """Enter a file."""
        if is_leftover(path.name):
            return
        try:
            root = _root(path)
        except DataError as error:
            self.unreadable[path] = str(error)
            return
        uid = next((e.text for e in root.iter() if _local(e) == "SeriesInstanceUid"), None)
        if _local(root) == "LidcReadMessage" and uid:
            self._by_series.setdefault(uid.strip(), []).append(path)

    def of(self, series_uid: str) -> list[Path]:
        """The files of a series."""
        return self._by_series.get(series_uid, [])


def _one_reading(paths: list[Path]) -> Path | None:
    """The file to read where a series has several: any of equal ones, or the one that was submitted again to correct.

    Raises:
        BadCaseError: they differ, and none is called a correction.
    """
    if len(paths) < 2 or len({_sessions_text(path) for path in paths}) == 1:
        return paths[0] if paths else None
    corrections = [path for path in paths if _CORRECTION in path.name]
    if len({_sessions_text(path) for path in corrections}) != 1:
        raise BadCaseError(
            "twice",
            f"{paths[0]} and {paths[1]}: are both of one series, and differ; keep the one that counts",
        )
    return corrections[0]


def _sessions_text(path: Path) -> tuple[str, ...]:
    """What a file's readers said, the same however the file is laid out."""
    sessions = (element for element in _root(path) if _local(element) == "readingSession")
    return tuple(sorted(ET.canonicalize(ET.tostring(each), strip_text=True) for each in sessions))


def _panels(path: Path) -> list[list[ET.Element]]:
    """The reading sessions by panels of four, in the file's order.

    LIDC-IDRI-0566 was read by two panels; a reader may have been in both, and must not count twice towards
    ``at_least``. A last panel of fewer readers counts for nothing where more have to agree.
    """
    sessions = [element for element in _root(path) if _local(element) == "readingSession"]
    return [sessions[start : start + _PANEL] for start in range(0, len(sessions), _PANEL)] or [[]]


def _root(path: Path) -> ET.Element:
    try:
        return ET.parse(path).getroot()  # noqa: S314 - expat expands no external entities
    except (OSError, ET.ParseError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error


def _local(element: ET.Element) -> str:
    """An element's name without its namespace (``{http://www.nih.gov}roi``)."""
    return element.tag.rpartition("}")[2]


def _child(element: ET.Element, name: str) -> str:
    return next(((child.text or "").strip() for child in element if _local(child) == name), "")


def _read_session(session: ET.Element, series: Series, path: Path) -> BoolArray:
    """What one reader outlined, all nodules joined."""
    mask = np.zeros(series.volume.geometry.shape, dtype=bool)
    for nodule in session:
        if _local(nodule) != "unblindedReadNodule":
            continue
        included: dict[int, BoolArray] = {}
        excluded: dict[int, BoolArray] = {}
        for roi in (child for child in nodule if _local(child) == "roi"):
            outline = _outline(roi, path)
            if len(outline) < 3:
                continue
            inclusion = _child(roi, "inclusion").upper()
            if inclusion not in {"TRUE", "FALSE"}:
                raise DataError(f"{path}: inclusion is {inclusion!r}; expected TRUE or FALSE")
            index = _slice_of(roi, series, path)
            filled = fill_outline(outline, mask.shape[1:], with_border=inclusion == "FALSE")
            side = included if inclusion == "TRUE" else excluded
            side[index] = side[index] | filled if index in side else filled
        for index, filled in included.items():
            mask[index] |= filled & ~excluded[index] if index in excluded else filled
    return mask


def _outline(roi: ET.Element, path: Path) -> list[tuple[int, int]]:
    try:
        return [(int(_child(e, "xCoord")), int(_child(e, "yCoord"))) for e in roi if _local(e) == "edgeMap"]
    except ValueError:
        raise DataError(f"{path}: an edgeMap without whole xCoord and yCoord") from None


def _slice_of(roi: ET.Element, series: Series, path: Path) -> int:
    """The slice that an outline is on: by its image's UID, or by its height where the file has no such UID."""
    uid = _child(roi, "imageSOP_UID")
    if uid in series.sop_instance_uids:
        return series.sop_instance_uids.index(uid)
    height = _child(roi, "imageZposition")
    try:
        z = float(height)
    except ValueError:
        raise DataError(f"{path}: an outline on no image of the series (imageZposition {height!r})") from None
    geometry = series.volume.geometry
    heights = geometry.index_to_lps([(0, 0, index) for index in range(geometry.shape[0])])[:, 2]
    nearest = int(np.abs(heights - z).argmin())
    off = (0.0, 0.0, heights[nearest] - z)
    if not is_rounding(off, geometry.affine[:3, :3], 0.0):
        raise DataError(f"{path}: an outline at {z:g} mm, where {series.volume.name} has no slice")
    return nearest
