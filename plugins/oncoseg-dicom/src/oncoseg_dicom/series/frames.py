"""The single slices of an object: where each lies, whether it has a file of its own or is a frame of many."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oncoseg_core import ImageReadError
from oncoseg_dicom.series.headers import marks_of
from oncoseg_dicom.series.modality import ENHANCED
from oncoseg_dicom.series.series import DicomFile, Float64
from oncoseg_dicom.series.values import number, numbers, required, text, texts, whole

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

TELLS_APART = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "StackID",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "DiffusionBValue",
    "TriggerTime",
    "ImageType",
    "FrameType",
    "ConvolutionKernel",
)
"""Attributes by which images at one place differ, the more telling ones first."""

_MOST_ITEMS = 400_000
"""Most items within the functional groups: 10,000 frames have about 12 each; one costs about a kilobyte of memory."""

_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, eq=False)
class Frame:
    """A slice as its header tells it; LPS mm; None is not told.

    ``name`` is its file's for messages, ``short`` the same within the folder or archive that is read. ``number`` counts
    from 1 in a multi-frame object. ``marks`` must be the same for all slices of a series
    (:func:`~oncoseg_dicom.series.headers.marks_of`).
    """

    file: DicomFile
    name: str
    short: str
    number: int | None
    sop_class_uid: str
    sop_instance_uid: str
    frame_of_reference: str
    rows: int
    columns: int
    position: Float64 | None
    orientation: Float64 | None
    spacing: Float64 | None
    thickness: float | None
    apart: Mapping[str, str]
    marks: Mapping[str, str]
    instance_number: int | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name} frame {self.number}"


def frames_of(file: DicomFile, header: Any, name: str, short: str) -> Iterator[Frame]:
    """The slices of a file whose header was read; ``name`` and ``short`` are its own for messages.

    Raises:
        ImageReadError: an attribute is missing or wrong, or the frames are a film in time.
    """
    count = whole(header, "NumberOfFrames", name) or 1
    rows, columns = (required(whole(header, key, name), key, name) for key in ("Rows", "Columns"))
    if rows < 1 or columns < 1 or count < 1:
        raise ImageReadError(f"{name}: has {count} frames of {rows} x {columns} pixels; the file is damaged")
    groups: list[Any]
    if text(header, "SOPClassUID") in ENHANCED:
        groups = list(frame_headers(header, count, name))
    elif count > 1:
        raise ImageReadError(
            f"{name}: holds {count} frames that follow each other in time, or have no place in the body; "
            "expected one image: export the frame that is meant"
        )
    else:
        groups = [header]
    for index, frame in enumerate(groups):
        yield Frame(
            file=file,
            name=name,
            short=short,
            number=None if frame is header else index + 1,
            sop_class_uid=text(header, "SOPClassUID"),
            sop_instance_uid=text(header, "SOPInstanceUID"),
            frame_of_reference=text(header, "FrameOfReferenceUID"),
            rows=rows,
            columns=columns,
            position=numbers(frame, "ImagePositionPatient", 3, name),
            orientation=numbers(frame, "ImageOrientationPatient", 6, name),
            spacing=numbers(frame, "PixelSpacing", 2, name),
            thickness=number(frame, "SliceThickness", name) or number(frame, "SpacingBetweenSlices", name),
            apart={key: "\\".join(texts(frame, key)) for key in TELLS_APART},
            marks=marks_of(frame),
            instance_number=_instance_number(header),
        )


def _instance_number(header: Any) -> int | None:
    value = text(header, "InstanceNumber")
    return int(value) if re.fullmatch(r"[+-]?\d{1,11}", value, re.ASCII) else None


class FrameHeader:
    """The attributes of one frame: its own functional groups, then those that all share, then the object's."""

    def __init__(self, own: Any, shared: list[Any], header: Any) -> None:
        self._items = [*_macros(own), *shared]
        self._header = header

    def get(self, keyword: str, default: Any = None) -> Any:
        """An attribute by its keyword, as ``pydicom.Dataset.get``."""
        for item in self._items:
            if keyword in item:
                return item.get(keyword, default)
        return self._header.get(keyword, default)


def frame_headers(header: Any, count: int, name: str) -> list[FrameHeader]:
    """What an enhanced object tells of each of its frames.

    Raises:
        ImageReadError: the functional groups are missing, damaged, or not one per frame.
    """
    for keyword in (SHARED, PER_FRAME):
        _require_bounded_items(header, keyword, name)
    try:
        own = list(header.get(PER_FRAME) or [])
        shared = [macro for item in header.get(SHARED) or [] for macro in _macros(item)]
        if len(own) == count:
            return [FrameHeader(one, shared, header) for one in own]
    except RecursionError:
        raise ImageReadError(f"{name}: its sequences are nested too deeply; it is damaged") from None
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged sequence leads it to
        raise ImageReadError(f"{name}: its functional groups cannot be read: {type(error).__name__}") from None
    if not own:
        raise ImageReadError(f"{name}: has no functional groups, which would tell where its {count} frames lie")
    raise ImageReadError(f"{name}: declares {count} frames but describes {len(own)}; the file is damaged")


def _macros(item: Any) -> list[Any]:
    """The first items of all sequences of a functional group."""
    return [element.value[0] for element in item if element.VR == "SQ" and len(element.value)]


def _require_bounded_items(header: Any, keyword: str, name: str) -> None:
    raw = header.get_item(keyword) if keyword in header else None
    value = getattr(raw, "value", None)
    if isinstance(value, bytes) and value.count(_ITEM) > _MOST_ITEMS:
        raise ImageReadError(f"{name}: {keyword} has more than {_MOST_ITEMS} items; the file is damaged")
