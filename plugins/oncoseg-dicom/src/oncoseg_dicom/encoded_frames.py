"""One frame of a file as it is stored, without decoding it: what DICOMweb hands to a viewer."""

from __future__ import annotations

import os
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


class EncodedFrame(NamedTuple):
    """The bytes of a frame, and the UID of the transfer syntax that they are in."""

    content: bytes
    transfer_syntax: str


def read_encoded_frame(path: Path, number: int) -> EncodedFrame:
    """Frame ``number`` (from 1) of a file: compressed as it is stored, or else in little endian.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM, or has no such frame.
    """
    name = display_path(path.name)
    try:
        with open_regular(path) as stream, quiet():
            return _read(stream, number, name)
    except OncoSegError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises whatever a damaged file leads it to
        raise ImageReadError(f"{name}: its frame {number} cannot be read: {reason(error)}") from None


def _read(stream: BinaryIO, number: int, name: str) -> EncodedFrame:
    if not looks_like_dicom(stream.read(512)):
        raise ImageReadError(f"{name}: is not a DICOM file")
    stream.seek(0)
    size = os.fstat(stream.fileno()).st_size
    header = pydicom.dcmread(_bounded(stream, size, name), stop_before_pixels=True, force=True)
    frames = whole(header, "NumberOfFrames", name) or 1
    if not 1 <= number <= frames:
        raise ImageReadError(f"{name}: has {frames} frames and no frame {number}")
    syntax = UID(header.file_meta.get("TransferSyntaxUID") or "1.2.840.10008.1.2")
    if syntax.is_encapsulated:
        return EncodedFrame(_encapsulated(stream, number, frames), str(syntax))
    stored: Any = stream
    if syntax in {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}:
        stored = _whole_pixels(stream, size, syntax, name)
    else:
        _skip_element_header(stream, implicit=syntax.is_implicit_VR)
    return EncodedFrame(_native(stored, header, number, name), str(ExplicitVRLittleEndian))


def _skip_element_header(stream: BinaryIO, *, implicit: bool) -> None:
    stream.seek(8 if implicit else 12, 1)


def _encapsulated(stream: BinaryIO, number: int, frames: int) -> bytes:
    _skip_element_header(stream, implicit=False)
    return bytes(get_frame(stream, number - 1, number_of_frames=frames))


def _native(stored: Any, header: Any, number: int, name: str) -> bytes:
    """The bytes of a frame of uncompressed pixels that begin where ``stored`` stands, a stream or bytes."""
    rows, columns, allocated = (
        required(whole(header, keyword, name), keyword, name) for keyword in ("Rows", "Columns", "BitsAllocated")
    )
    bits = rows * columns * (whole(header, "SamplesPerPixel", name) or 1) * allocated
    if "YBR_FULL_422" in str(header.get("PhotometricInterpretation")):
        bits = bits * 2 // 3
    if not 0 < bits <= FRAME_BYTES * 8:
        raise ImageReadError(f"{name}: declares a frame of {bits // 8} bytes: damaged, refused")
    first, last = (number - 1) * bits, number * bits
    start, stop = first // 8, -(-last // 8)
    if isinstance(stored, bytes):
        content = stored[start:stop]
    else:
        stored.seek(start, 1)
        content = stored.read(stop - start)
    if len(content) < stop - start:
        raise ImageReadError(f"{name}: ends within frame {number}: it is cut short")
    if first % 8 == last % 8 == 0:
        return bytes(content)
    # Frames of single bits follow each other without a gap; a frame on its own begins with a byte.
    unpacked = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    return np.packbits(unpacked[first % 8 :][:bits], bitorder="little").tobytes()


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
