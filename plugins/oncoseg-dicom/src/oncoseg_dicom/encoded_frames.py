"""One frame of a file as it is stored, without decoding it: what DICOMweb hands to a viewer."""

from __future__ import annotations

import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from oncoseg_core import ImageReadError, OncoSegError
from oncoseg_core.system import display_path, open_regular
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.files import looks_like_dicom, reason
from oncoseg_dicom.series.limits import FRAME_BYTES, BoundedStream
from oncoseg_dicom.series.values import required, whole

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


_DECODED_WHOLE = {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}
"""What cannot be read in part, or not as it is."""


class EncodedFrame(NamedTuple):
    """The bytes of a frame, and the UID of the transfer syntax that they are in."""

    content: bytes
    transfer_syntax: str


class _Layout(NamedTuple):
    """Where the pixels of a file begin, and what of them is a frame."""

    start: int
    frames: int
    frame_bits: int
    transfer_syntax: UID


def read_encoded_frame(path: Path, number: int) -> EncodedFrame:
    """Frame ``number`` (from 1) of a file: compressed as it is stored, or else in little endian.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM, or has no such frame.
    """
    name = display_path(path.name)
    try:
        with open_regular(path) as stream, quiet():
            status = os.fstat(stream.fileno())
            layout = _layout(path, status.st_size, status.st_mtime_ns)
            if not 1 <= number <= layout.frames:
                raise ImageReadError(f"{name}: has {layout.frames} frames and no frame {number}")  # noqa: TRY301
            if layout.transfer_syntax in _DECODED_WHOLE:
                pixels: BinaryIO = BytesIO(_whole_pixels(stream, status.st_size, layout.transfer_syntax, name))
                return EncodedFrame(_native(pixels, layout, number, name), str(ExplicitVRLittleEndian))
            stream.seek(layout.start)
            if layout.transfer_syntax.is_encapsulated:
                content = bytes(get_frame(stream, number - 1, number_of_frames=layout.frames))
                return EncodedFrame(content, str(layout.transfer_syntax))
            return EncodedFrame(_native(stream, layout, number, name), str(ExplicitVRLittleEndian))
    except OncoSegError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged file leads it to
        raise ImageReadError(f"{name}: its frame {number} cannot be read: {reason(error)}") from None


@lru_cache(maxsize=32)
def _layout(path: Path, size: int, modified_ns: int) -> _Layout:
    """The layout of a file that has not changed since: a viewer asks for one frame after the other.

    Raises:
        ImageReadError: it is damaged or not DICOM.
    """
    del modified_ns
    name = display_path(path.name)
    with open_regular(path) as stream:
        if not looks_like_dicom(stream.read(512)):
            raise ImageReadError(f"{name}: is not a DICOM file")
        stream.seek(0)
        header = pydicom.dcmread(_bounded(stream, size, name), stop_before_pixels=True, force=True)
        syntax = UID(header.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
        frames = whole(header, "NumberOfFrames", name) or 1
        start = stream.tell() + (8 if syntax.is_implicit_VR else 12)
        return _Layout(start, frames, 0 if syntax.is_encapsulated else _frame_bits(header, name), syntax)


def _frame_bits(header: Any, name: str) -> int:
    rows, columns, allocated = (
        required(whole(header, keyword, name), keyword, name) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    bits = int(rows * columns * (whole(header, "SamplesPerPixel", name) or 1) * allocated)
    if "YBR_FULL_422" in str(header.get("PhotometricInterpretation")):
        bits = bits * 2 // 3
    if not 0 < bits <= FRAME_BYTES * 8:
        raise ImageReadError(f"{name}: declares a frame of {bits // 8} bytes: damaged, refused")
    return bits


def _native(stream: BinaryIO, layout: _Layout, number: int, name: str) -> bytes:
    """The bytes of a frame of uncompressed pixels; the stream stands where they begin."""
    first, last = (number - 1) * layout.frame_bits, number * layout.frame_bits
    start, stop = first // 8, -(-last // 8)
    stream.seek(start, 1)
    content = stream.read(stop - start)
    if len(content) < stop - start:
        raise ImageReadError(f"{name}: ends within frame {number}: it is cut short")
    if first % 8 == last % 8 == 0:
        return bytes(content)
    # Frames of single bits follow each other without a gap; a frame on its own begins with a byte.
    unpacked = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.packbits(unpacked[first % 8 :][: layout.frame_bits], bitorder="little").tobytes()


def _bounded(stream: BinaryIO, size: int, name: str) -> Any:
    return BoundedStream(stream, size, name, pixels=True)


def _whole_pixels(stream: BinaryIO, size: int, syntax: UID, name: str) -> bytes:
    """The pixels of all frames in little endian, of a file that cannot be read in part or is in big endian."""
    stream.seek(0)
    dataset = pydicom.dcmread(_bounded(stream, size, name), force=True)
    content = next((bytes(dataset[keyword].value) for keyword in _PIXEL_KEYWORDS if keyword in dataset), b"")
    if syntax == ExplicitVRBigEndian and int(dataset.BitsAllocated) > 8:
        return np.frombuffer(content, f">u{int(dataset.BitsAllocated) // 8}").byteswap().tobytes()
    return content
