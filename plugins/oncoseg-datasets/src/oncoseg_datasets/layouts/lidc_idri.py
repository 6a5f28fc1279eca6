"""LIDC-IDRI: chest CT in DICOM, outlines of up to four radiologists in XML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree as ET

import numpy as np
from pydantic import Field

from oncoseg_core import BoolArray, Case, DataError, Settings, Volume
from oncoseg_datasets.dicom_images import Series, read_series
from oncoseg_datasets.folders import files_in, folders_in, folders_named, is_leftover
from oncoseg_datasets.layouts.base import LayoutAdapter
from oncoseg_datasets.polygons import fill_outline
from oncoseg_dicom import read_header

_XML_FOLDERS = ("LIDC-XML-only", "tcia-lidc-xml")
_SAME_PLACE_MM = 1e-3


class LidcSettings(Settings):
    """How the readers of a scan become one mask.

    ``at_least``: a voxel counts where so many readers outlined it (or all of them, where there were fewer): 1 is the
    union, 2 half of the usual four. Unlike pylidc's ``consensus``, which asks for a part of those who saw a nodule,
    this asks for a number of readers, so a nodule that one of four saw is left out by the default.
    ``reader``: take this reader only, 1 being the first in the file. Readers are anonymous and not the same from scan
    to scan.
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

        Reads one header per series. A series without an XML file of its SeriesInstanceUID is unlabelled.

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
        elsewhere = _readings({path for folder in xml_folders for path in folder.rglob("*.xml")})
        for patient in patients:
            for folder in (series for study in folders_in(patient) for series in folders_in(study)):
                files = files_in(folder, (".dcm",))
                if not files:
                    continue
                header = read_header(files[0], ["Modality", "SeriesInstanceUID"])
                if header.get("Modality") != "CT":
                    continue
                readings = elsewhere | _readings(files_in(folder, (".xml",)))
                label = readings.get(str(header.SeriesInstanceUID))
                yield self.case(
                    case_id=f"{patient.name}_{folder.name}",
                    patient_id=patient.name,
                    images=tuple(files),
                    labels=() if label is None else (label,),
                    targets=() if label is None else self.record.targets,
                )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a scan and fill the outlines of its readers."""
        series = read_series(case.images, case.modality)
        if not case.labels:
            return series.volume, {}
        path = case.labels[0]
        sessions = [element for element in _root(path) if _local(element) == "readingSession"]
        reader = self.settings.reader
        if len(sessions) < (reader or 1):
            raise DataError(f"{path}: has {len(sessions)} readers; expected {reader or 'at least 1'}")
        if reader is not None:
            mask = _read_session(sessions[reader - 1], series, path)
        else:
            votes = np.zeros(series.volume.geometry.shape, dtype=np.uint8)
            for session in sessions:
                votes += _read_session(session, series, path)
            mask = votes >= min(self.settings.at_least, len(sessions))
        return series.volume, {target.name: mask for target in case.targets}


def _readings(paths: Iterable[Path]) -> dict[str, Path]:
    """The XML files by the series that they belong to; files of other kinds (readings of radiographs) are left out."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in paths if not is_leftover(path.name)):
        root = _root(path)
        uid = next((e.text for e in root.iter() if _local(e) == "SeriesInstanceUid"), None)
        if _local(root) != "LidcReadMessage" or not uid:
            continue
        if uid.strip() in found:
            raise DataError(f"{found[uid.strip()]} and {path}: are both of one series; keep one")
        found[uid.strip()] = path
    return found


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
    if abs(heights[nearest] - z) > _SAME_PLACE_MM:
        raise DataError(f"{path}: an outline at {z:g} mm, where {series.volume.name} has no slice")
    return nearest
