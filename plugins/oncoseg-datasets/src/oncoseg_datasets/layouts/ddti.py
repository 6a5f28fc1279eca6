"""DDTI thyroid ultrasound: outlines in XML as the dataset's page gives them, or masks as a later release has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Volume
from oncoseg_core.imaging import read_volume
from oncoseg_datasets.folders import ANY, files_in, folders_named
from oncoseg_datasets.layouts.base import BadCaseError, made_or_fault, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName, natural
from oncoseg_datasets.layouts.picture_folders import PictureFolders
from oncoseg_dicom import fill_polygons

_IMAGE = re.compile(r"(?P<patient>\d+)_(?P<number>\d+)", re.IGNORECASE)
_NODULE = 1


class _Description(NamedTuple):
    """What an XML file says: the outlines of each image ``(n, 2)`` in pixels (x, y), and the TI-RADS class."""

    outlines: dict[str, list[np.ndarray[Any, np.dtype[np.float64]]]]
    tirads: str | None


class Ddti(PictureFolders):
    """``1.xml`` with ``1_1.jpg``, ``1_2.jpg`` … of one patient; or the release of 637 images, ``1_or_data``.

    An image can show several nodules; their outlines are filled and joined. One that nobody outlined is unlabelled: all
    images were chosen because they show a nodule, so none is empty. A case's category is its TI-RADS class.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per image, by patient and number. An image whose XML file is missing or damaged is a bad case.

        Raises:
            DataError: neither release is there.
        """
        root = Path(root)
        if folders_named(root, self.layout.parts[0].images):
            yield from super().discover(root)
            return
        images, files = FilesByName(), FilesByName()
        for folder in folders_named(root, ANY):
            for path in files_in(folder, (".jpg", ".jpeg", ".png")):
                if _IMAGE.fullmatch(path.stem):
                    images.add(path.stem, path)
            for path in files_in(folder, (".xml",)):
                if path.stem.isdigit():
                    files.add(path.stem, path)
        if not images or not files:
            raise self.refusal(root, "1.xml with 1_1.jpg, or the folder 1_or_data of the release of 637 images")
        for name in sorted(images, key=natural):
            patient = name.partition("_")[0]
            case = made_or_fault(
                partial(self._outlined, name, images[name], files.get(patient)),
                partial(self.named_case, name, images[name], patient),
            )
            yield with_fault(case, "twice", images.clashes.get(name) or files.clashes.get(patient))

    def _outlined(self, name: str, image: Path, file: Path | None) -> Case:
        patient, _, number = name.partition("_")
        if file is None:
            raise BadCaseError("missing-label", f"{image}: has no {patient}.xml with its outlines")
        description = _read(file)
        drawn = bool(description.outlines.get(number))
        return self.case(
            case_id=name,
            patient_id=patient,
            images=(image,),
            labels=(file,) if drawn else (),
            targets=self.record.targets if drawn else (),
            category=description.tirads,
        )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read an image and fill its outlines, or read its mask."""
        if not case.labels or case.labels[0].suffix.lower() != ".xml":
            return super().load(case)
        volume = read_volume(case.images, case.modality)
        empty = np.zeros(volume.geometry.shape, dtype=bool)
        parts = {_NODULE: empty.copy()}
        for outline in _read(case.labels[0]).outlines[case.case_id.partition("_")[2]]:
            parts[_NODULE][0] |= fill_polygons([outline], volume.geometry.shape[1:], border="right")
        return volume, union_of_parts(case.targets, parts, empty)


def _read(path: Path) -> _Description:
    """Read an XML file.

    Raises:
        DataError: it is not XML, or an outline is cut short or has fewer than three points.
    """
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - expat expands no external entities
    except (OSError, ET.ParseError) as error:
        raise DataError(f"{path}: cannot be read as XML: {error}") from error
    outlines: dict[str, list[np.ndarray[Any, np.dtype[np.float64]]]] = {}
    for mark in root.iter("mark"):
        number = (mark.findtext("image") or "").strip()
        outlines.setdefault(number, []).extend(_outlines((mark.findtext("svg") or "").strip(), path, number))
    return _Description(outlines, (root.findtext("tirads") or "").strip() or None)


def _outlines(text: str, path: Path, number: str) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """The outlines of one mark, a JSON list of objects with ``points``; none where nothing was drawn."""
    if not text:
        return []
    try:
        drawn = [[(float(point["x"]), float(point["y"])) for point in each["points"]] for each in json.loads(text)]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{path}: the outlines of image {number} are no list of points ({type(error).__name__}: {error}); the file "
            "is damaged, mend it"
        ) from error
    outlines = [np.array(points, dtype=np.float64).reshape(-1, 2) for points in drawn if points]
    if any(len(points) < 3 or not np.isfinite(points).all() for points in outlines):
        raise DataError(f"{path}: an outline of image {number} has fewer than three points; expected a closed line")
    return outlines
