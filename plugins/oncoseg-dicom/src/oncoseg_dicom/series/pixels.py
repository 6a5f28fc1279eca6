"""Decoding pixels: slice by slice into one array, with the meaning that the header gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from oncoseg_core import Header, ImageReadError, MissingDependencyError, OncoSegError, Volume
from oncoseg_core.system import display_path, require_image_bytes
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.series.decoding import DecodingProcess, decoder_reason
from oncoseg_dicom.series.files import FileOpener, file_name, looks_like_dicom, secrets_of
from oncoseg_dicom.series.frames import frame_headers
from oncoseg_dicom.series.headers import combined, header_of
from oncoseg_dicom.series.limits import require_bounded_pixels, require_bounded_series
from oncoseg_dicom.series.modality import ENHANCED
from oncoseg_dicom.series.series import DicomFile, Series
from oncoseg_dicom.series.values import number, printable, text, whole

Array = npt.NDArray[Any]

_EIGHT_BITS = {"gdcm", "pillow"}
"""Decoders of pydicom that take JPEG Extended of 8 bits only."""


def read_voxels(series: Series) -> Volume:
    """Read a series' pixels: voxels ``(1, z, y, x)`` rescaled, or ``(3, z, y, x)`` of colours, with their headers.

    The series becomes the volume's handle, so that structures can be read and written on it without a second search.

    Raises:
        ImageReadError: a file is damaged, or changed since its header was read.
        MissingDependencyError: its compression needs a library that is not installed.
    """
    places: dict[DicomFile, dict[int, int]] = {}
    for z, plane in enumerate(series.planes):
        places.setdefault(plane.file, {})[(plane.frame or 1) - 1] = z
    secrets, typed = secrets_of(series.header), series.source
    voxels = np.empty((0, *series.geometry.shape), np.uint8)
    headers = []
    with quiet(), FileOpener(typed) as opener, DecodingProcess() as decoding:
        encoded = sum(opener.size(file) for file in places)
        require_bounded_series(_stored_bytes(series), encoded, display_path(series.source, secrets))
        for file, indices in places.items():
            name = file_name(file, secrets, typed)
            dataset = opener.dataset(file, pixels=True, secrets=secrets)
            for index, values in _frames(dataset, opener.size(file), decoding, name):
                if values.shape[1:] != (series.rows, series.columns):
                    raise ImageReadError(f"{name}: its pixels do not have the size that its header told")
                dtype = _wider(voxels.dtype, values.dtype) if len(voxels) else values.dtype
                if not len(voxels) or dtype != voxels.dtype:
                    count = len(values) * math.prod(series.geometry.shape) * dtype.itemsize
                    require_image_bytes(count, display_path(series.source, secrets), "voxels")
                if not len(voxels):
                    voxels = np.zeros((len(values), *series.geometry.shape), values.dtype)
                if len(values) != len(voxels):
                    raise ImageReadError(f"{name}: has {len(values)} channels, the slices before it {len(voxels)}")
                voxels = voxels.astype(dtype, copy=False)
                if index in indices:
                    voxels[:, indices.pop(index)] = values
            if indices:
                raise ImageReadError(f"{name}: lacks {len(indices)} of its frames; it is cut short")
            headers.append(_values_header(dataset, len(voxels)))
    series.require_unchanged()
    header = combined(headers, display_path(typed))
    return Volume(
        voxels,
        series.geometry,
        series.modality,
        series.source,
        series.physical,
        headers=(header,),
        notes=series.notes,
        handle=series,
    )


def _stored_bytes(series: Series) -> int:
    """What the pixels take as stored, by the header of the first slice."""
    bits = [whole(series.header, keyword, "a slice") or 1 for keyword in ("SamplesPerPixel", "BitsAllocated")]
    return math.prod(series.geometry.shape) * math.prod(bits) // 8


def read_frame(path: Path) -> tuple[Array, Header]:
    """The pixels of an image of one frame, of any class and wherever it lies: a film, a photograph, a mask.

    Returns:
        The pixels as for :func:`read_voxels`, ``(1, y, x)`` or ``(3, y, x)``, and what the header says of their values.

    Raises:
        ImageReadError: it is missing, damaged or not DICOM, or holds several frames.
        MissingDependencyError: its compression needs a library that is not installed.
    """
    file = DicomFile(path)
    name = file_name(file, typed=path)
    with quiet(), FileOpener(path) as opener, DecodingProcess() as decoding:
        if not looks_like_dicom(opener.start(file, 512)):
            raise ImageReadError(f"{name}: is not a DICOM file")
        dataset = opener.dataset(file, pixels=True)
        if (whole(dataset, "NumberOfFrames", name) or 1) > 1:
            raise ImageReadError(f"{name}: holds several frames; expected one image")
        ((_, values),) = _frames(dataset, opener.size(file), decoding, name)
        return values, _values_header(dataset, len(values))


def _values_header(dataset: Any, channels: int) -> dict[str, Any]:
    photometric = "RGB" if channels == 3 else text(dataset, "PhotometricInterpretation")
    return {"PhotometricInterpretation": photometric} | header_of(dataset)


def _frames(dataset: Any, encoded: int, decoding: DecodingProcess, name: str) -> Iterator[tuple[int, Array]]:
    """A file's frames by their index: ``(channel, y, x)``, rescaled, colours as red, green and blue."""
    if "PixelData" not in dataset:
        raise ImageReadError(f"{name}: has no pixels: it is cut short, or damaged")
    syntax = _transfer_syntax(dataset)
    decoder = _decoder(syntax, dataset, name)
    count = whole(dataset, "NumberOfFrames", name) or 1
    enhanced = frame_headers(dataset, count, name) if text(dataset, "SOPClassUID") in ENHANCED else None
    try:
        if syntax.is_compressed:
            require_bounded_pixels(dataset, encoded, name)
        else:
            _require_all_pixels(dataset, name)
        in_python = not syntax.is_compressed or syntax == RLELossless
        decoded = decoder.iter_array(dataset) if in_python else decoding.frames(dataset, syntax, name)
        for index, (values, properties) in enumerate(decoded):
            header = enhanced[index] if enhanced is not None else dataset
            yield index, _pixel_values(values, properties, dataset, header, name)
    except (OncoSegError, GeneratorExit):
        raise
    except Exception as error:  # noqa: BLE001 - pydicom passes on whatever its decoders raise on damaged data
        raise ImageReadError(f"{name}: its pixels cannot be read: {decoder_reason(f'{error}')}") from None


def _decoder(syntax: UID, dataset: Any, name: str) -> Decoder:
    """What decodes a transfer syntax.

    Raises:
        ImageReadError: it is none of images.
        MissingDependencyError: no installed library does.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageReadError(f"{name}: its transfer syntax ({printable(syntax.name)}) is not one of images") from None
    twelve_bits = syntax == JPEGExtended12Bit and (whole(dataset, "BitsStored", name) or 8) > 8
    if not decoder.is_available or (twelve_bits and set(decoder.available_plugins) <= _EIGHT_BITS):
        raise MissingDependencyError(
            f"{name}: its compression ({syntax.name}) is not decoded here; pip install pylibjpeg with "
            "pylibjpeg-openjpeg or pylibjpeg-libjpeg (GPL), or decompress the files first"
        )
    return decoder


def _require_all_pixels(dataset: Any, name: str) -> None:
    """Refuse pixels of another size than the header declares: with one column more or less, all would be askew."""
    declared, found = get_expected_length(dataset), len(dataset.PixelData)
    if found < declared or len(set(dataset.PixelData[declared:])) > 1:  # some writers pad with zeros
        raise ImageReadError(
            f"{name}: has {found} bytes of pixels, but its header declares {declared}; it is cut short, or damaged"
        )


def _pixel_values(values: Array, properties: Any, dataset: Any, header: Any, name: str) -> Array:
    """A decoded frame as ``(channel, y, x)``; ``properties`` are what the decoder says of it."""
    kind, bits = str(properties["photometric_interpretation"]), int(properties["bits_stored"])
    if kind in {"MONOCHROME1", "MONOCHROME2"} and values.ndim == 2:
        return _rescaled(values, dataset, header, name)[np.newaxis]
    if kind == "PALETTE COLOR" and values.ndim == 2:
        values = apply_color_lut(values, dataset)
        # Tables of 16 bits that hold 8 are a known fault (PS3.3, C.7.6.3.1.5 tells readers to expect them).
        kind, bits = "RGB", 8 if values.max() <= 255 else 8 * values.itemsize
    if kind == "RGB" and values.ndim == 3 and values.shape[2] == 3:
        # Of finer colours, the upper 8 bits, which are what a screen shows.
        return np.moveaxis((values >> max(0, bits - 8)).astype(np.uint8), -1, 0)
    raise ImageReadError(f"{name}: its pixels are {kind} of shape {values.shape}; expected grey values or colours")


def _rescaled(values: Array, dataset: Any, header: Any, name: str) -> Array:
    """Stored values to what they mean: by a table, or by slope and intercept; whole numbers where they are."""
    if dataset.get("ModalityLUTSequence"):
        return _smallest(apply_modality_lut(values.astype(np.int32), dataset))
    slope, intercept = number(header, "RescaleSlope", name), number(header, "RescaleIntercept", name)
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise ImageReadError(f"{name}: RescaleSlope is 0: every value would be the same; the file is damaged")
    if (slope, intercept) == (1.0, 0.0):
        return _smallest(values)
    if slope.is_integer() and intercept.is_integer() and max(abs(slope), abs(intercept)) < 2**31:
        return _smallest(values.astype(np.int64) * int(slope) + int(intercept))
    return (values.astype(np.float64) * slope + intercept).astype(np.float32)


def _smallest(values: Array) -> Array:
    """Whole numbers as they are in a byte, else as int16, which holds all Hounsfield units, or int32."""
    if values.dtype == np.uint8:
        return values
    low, high = int(values.min()), int(values.max())
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float64)


def _wider(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """What holds values of both; numbers with fractions stay float32, though numpy would have float64 for int32."""
    if "f" in (one.kind, other.kind) and np.dtype(np.float64) not in (one, other):
        return np.dtype(np.float32)
    return np.result_type(one, other)


def _transfer_syntax(dataset: Any) -> UID:
    """As the file says; of one without meta information, as it was parsed."""
    syntax = text(dataset.file_meta, "TransferSyntaxUID")
    if syntax:
        return UID(syntax)
    implicit, little = dataset.original_encoding
    found = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = found
    return found
