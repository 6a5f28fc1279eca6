"""What a report repeats of the SEG that it belongs to: its segments' numbers and codes, and the images under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from oncoseg_core import DataError
from oncoseg_core.system import display_path
from oncoseg_dicom.series.series import Series
from oncoseg_dicom.series.values import text

ImageReference = tuple[str, str, int | None]
"""SOP class and instance UID of an image, and its frame (from 1) in an image of several."""


@dataclass(frozen=True)
class ReportedSegment:
    """A segment: ``region`` is where a lesion lies; ``images`` are those that it covers some of, in their order."""

    number: int
    category: Code
    type: Code
    region: Code | None
    images: Sequence[ImageReference]


@dataclass(frozen=True)
class ReportedSeg:
    """A SEG without its pixels, and its segments by label."""

    header: Any = field(repr=False)  # it names the patient
    segments: dict[str, ReportedSegment] = field(default_factory=dict)


def segments_of(path: Path, series: Series) -> ReportedSeg:
    """The segments of a SEG that was drawn on a series.

    Raises:
        DataError: it is no SEG, is of another series' study or frame of reference, or says not what its frames are of.
    """
    name = display_path(path)
    header = pydicom.dcmread(path, stop_before_pixels=True)
    if header.get("SOPClassUID") != SegmentationStorage:
        raise DataError(f"{name}: is no DICOM SEG; a report refers to the segments of one")
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if text(header, keyword) != text(series.header, keyword):
            raise DataError(f"{name}: has another {keyword} than the images; a report is of one series")
    try:
        images = _images_by_segment(header)
        segments = {
            str(item.SegmentLabel): ReportedSegment(
                number=int(item.SegmentNumber),
                category=_code(item.SegmentedPropertyCategoryCodeSequence),
                type=_code(item.SegmentedPropertyTypeCodeSequence),
                region=_code(item.AnatomicRegionSequence) if "AnatomicRegionSequence" in item else None,
                images=tuple(images.get(int(item.SegmentNumber), ())),
            )
            for item in header.SegmentSequence
        }
    except (AttributeError, IndexError, ValueError) as error:
        raise DataError(f"{name}: does not say which images its segments are of ({type(error).__name__})") from None
    return ReportedSeg(header, segments)


def _images_by_segment(header: Dataset) -> dict[int, list[ImageReference]]:
    found: dict[int, dict[ImageReference, None]] = {}
    for frame in header.PerFrameFunctionalGroupsSequence:
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for derived in frame.DerivationImageSequence:
            for source in derived.SourceImageSequence:
                at = source.get("ReferencedFrameNumber")
                image = (str(source.ReferencedSOPClassUID), str(source.ReferencedSOPInstanceUID), at and int(at))
                found.setdefault(number, {})[image] = None
    return {number: list(images) for number, images in found.items()}


def _code(sequence: Sequence[Dataset]) -> Code:
    item = sequence[0]
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
