"""What the headers of a series' files say, file by file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.filereader import read_file_meta_info

from oncoseg_core import ImageReadError
from oncoseg_dicom import missing_pixels, read_values

Float64 = npt.NDArray[np.float64]

PHASES = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "DiffusionBValue",
)
"""Attributes of which a stack has one value: several are several images."""

KEYWORDS = (
    "PatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPClassUID",
    "Modality",
    "ImageType",
    "ConversionType",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "FrameOfReferenceUID",
    "RescaleSlope",
    "RescaleIntercept",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagesInAcquisition",
    *PHASES,
)

_OF_ALL_IMAGES = {"SOPClassUID", "SeriesInstanceUID", "Rows", "Columns"}


class SliceHeader(NamedTuple):
    """A file's values by keyword, those of :data:`KEYWORDS` that it has; ``pixels``: what is wrong with its pixels.

    ``syntax`` is its transfer syntax; empty where it names none.
    """

    path: Path
    values: dict[str, Any]
    pixels: str | None
    syntax: str = ""

    def text(self, keyword: str) -> str:
        """A value as text; empty where there is none."""
        value = self.values.get(keyword)
        return "" if value is None else "\\".join(map(str, value)) if isinstance(value, list) else str(value)

    def numbers(self, keyword: str, count: int) -> Float64 | None:
        """A value of so many numbers; None where there is none, or another number of them."""
        value = self.values.get(keyword)
        if not isinstance(value, list) or len(value) != count or any(isinstance(one, str) for one in value):
            return None
        return np.array(value, dtype=np.float64)

    @property
    def words(self) -> set[str]:
        """Of the image type, all words: ``CSA MPR`` and ``MIN_IP`` as they are, and their parts."""
        kinds = [part.upper() for part in self.text("ImageType").split("\\")]
        return {*kinds, *(word for kind in kinds for word in kind.split())}


class Headers(NamedTuple):
    """The files of a series that can be read, and how many cannot."""

    slices: tuple[SliceHeader, ...]
    unreadable: int


def read_headers(paths: Iterable[Path]) -> Headers:
    """The headers of files, in their order; pixels are not read."""
    slices, unreadable = [], 0
    for path in paths:
        try:
            one = SliceHeader(path, read_values(path, KEYWORDS), missing_pixels(path), _syntax(path))
        except ImageReadError:
            unreadable += 1
            continue
        if one.pixels == "absent" and not one.values.keys() >= _OF_ALL_IMAGES:
            unreadable += 1  # it ends within its header
        else:
            slices.append(one)
    return Headers(tuple(slices), unreadable)


def _syntax(path: Path) -> str:
    try:
        return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged file leads it to; it names none then
        return ""


def distinct(slices: Sequence[SliceHeader], keyword: str) -> list[str]:
    """The values of an attribute, each once; an absent one is empty."""
    return sorted({one.text(keyword) for one in slices})
