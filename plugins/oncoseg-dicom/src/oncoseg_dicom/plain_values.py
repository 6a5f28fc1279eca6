"""A file's header as plain values that rules can compare, and whether its pixels are all there; nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from oncoseg_core import ImageReadError
from oncoseg_core.system import open_regular
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import FileOpener, file_name, looks_like_dicom, reason
from oncoseg_dicom.series.limits import BoundedStream
from oncoseg_dicom.series.series import DicomFile
from oncoseg_dicom.series.values import printable, whole

Plain: TypeAlias = str | int | float | list[str | int | float]

_DECIMALS = {"DS", "IS"}
_UNDEFINED = 0xFFFFFFFF
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_PIXELS = {(0x7FE0, 0x0008), (0x7FE0, 0x0009), (0x7FE0, 0x0010)}


def read_values(path: Path, keywords: Iterable[str] | None = None) -> dict[str, Plain]:
    """The header's values by keyword: texts, numbers, lists of them; empty, private and nested ones are left out.

    Args:
        path: the file.
        keywords: only these; all when omitted.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM.
    """
    file = DicomFile(path)
    with FileOpener(path) as opener, quiet():
        if not looks_like_dicom(opener.start(file, 512)):
            raise ImageReadError(f"{file_name(file, typed=path)}: is not a DICOM file")
        chosen = None if keywords is None else list(keywords)
        header = opener.dataset(file, chosen)
        present = [keyword for tag in list(header.keys()) if (keyword := keyword_for_tag(tag))]
        values = {keyword: _plain(header, keyword) for keyword in present if chosen is None or keyword in chosen}
    return {keyword: value for keyword, value in values.items() if value is not None}


def _plain(header: Any, keyword: str) -> Plain | None:
    """A value, None where it is missing, empty, nested, bytes, or cannot be decoded."""
    try:
        value = header.get(keyword)
        if value is None or isinstance(value, (bytes, pydicom.Sequence)):
            return None
        single = isinstance(value, (str, int, float, PersonName))
        values = [one for each in ([value] if single else value) if (one := _scalar(each)) is not None]
        if dictionary_VR(keyword) in _DECIMALS and any(isinstance(one, str) for one in values):
            return None  # pydicom hands on what is no number
        if single:
            return values[0] if values else None
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        return None
    return values or None


def _scalar(value: Any) -> str | int | float | None:
    if isinstance(value, (str, PersonName)):
        return printable(str(value)) or None
    return int(value) if isinstance(value, int) else float(value)


def missing_pixels(path: Path) -> Literal["absent", "cut short"] | None:
    """What is wrong with a file's pixels by their length alone; None where they are all there.

    Raises:
        ImageReadError: it is missing, damaged before its pixels, or not DICOM.
    """
    file = DicomFile(path)
    name = file_name(file, typed=path)
    try:
        with open_regular(path) as stream, quiet():
            size = stream.seek(0, 2)
            stream.seek(0)
            if not looks_like_dicom(stream.read(512)):
                raise ImageReadError(f"{name}: is not a DICOM file")  # noqa: TRY301
            stream.seek(0)
            bounded: Any = BoundedStream(stream, size, name, pixels=True)
            header = pydicom.dcmread(bounded, stop_before_pixels=True, force=True)
            syntax = UID(header.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
            if syntax == DeflatedExplicitVRLittleEndian:
                return _missing_inflated(path)
            return _missing_from(stream, size, syntax, _least_bytes(header, name))
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise ImageReadError(f"{name}: cannot be read as DICOM: {reason(error)}") from None


def _least_bytes(header: Any, name: str) -> int:
    """What uncompressed pixels have at least; 0 where the header does not say."""
    sizes = [whole(header, keyword, name) for keyword in ("Rows", "Columns", "BitsAllocated")]
    rows, columns, bits = (0 if size is None else size for size in sizes)
    return rows * columns * bits * (whole(header, "NumberOfFrames", name) or 1) // 8


def _missing_from(stream: BinaryIO, size: int, syntax: UID, least: int) -> Literal["absent", "cut short"] | None:
    """As :func:`missing_pixels`, of a stream that stands where the pixels' element begins."""
    order: Literal["little", "big"] = "little" if syntax.is_little_endian else "big"
    start = stream.read(8)
    if len(start) < 8 or _tag(start, order) not in _PIXELS:
        return "absent" if not start or len(start) == 8 else "cut short"
    explicit = stream.read(4) if not syntax.is_implicit_VR else start[4:8]
    length = int.from_bytes(explicit, order)
    if length == _UNDEFINED:
        return _missing_fragments(stream, size)
    if stream.tell() + length > size or length < least:
        return "cut short"
    return None if length else "absent"


def _missing_fragments(stream: BinaryIO, size: int) -> Literal["absent", "cut short"] | None:
    """Of encapsulated frames: whether the list of fragments comes to its end, and holds any."""
    filled = 0
    while True:
        start = stream.read(8)
        if len(start) < 8:
            return "cut short"
        tag, length = _tag(start, "little"), int.from_bytes(start[4:8], "little")
        if tag == _END:
            return None if filled > 1 else "absent"  # the first is the table of offsets
        if tag != _ITEM or stream.tell() + length > size:
            return "cut short"
        stream.seek(length, 1)
        filled += 1


def _missing_inflated(path: Path) -> Literal["absent", "cut short"] | None:
    """Of a deflated object, which has to be inflated whole."""
    with FileOpener(path) as opener:
        dataset = opener.dataset(DicomFile(path), pixels=True)
        if not dataset.get("PixelData"):
            return "absent"
        return "cut short" if len(dataset.PixelData) < _least_bytes(dataset, path.name) else None


def _tag(start: bytes, order: Literal["little", "big"]) -> tuple[int, int]:
    return int.from_bytes(start[:2], order), int.from_bytes(start[2:4], order)
