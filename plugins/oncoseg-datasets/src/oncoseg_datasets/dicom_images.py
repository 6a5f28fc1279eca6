"""Reading DICOM images: one film, or one series of slices sorted along the normal of its planes.

Small on purpose: single-frame grey images and evenly spaced series, which is what the datasets here consist of.
Everything that is not that is refused with the files named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import Geometry, GeometryError, Header, ImageReadError, MissingDependencyError, Volume

HEADER_KEYWORDS = (
    "BitsStored",
    "Modality",
    "PhotometricInterpretation",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PresentationLUTShape",
    "RescaleType",
    "Units",
    "WindowCenter",
    "WindowWidth",
)
"""Attributes that say what the values mean; none of them is about the patient."""

_SAME_DIRECTION = 1e-3
"""Cosines that differ by no more are the same orientation: rounding in the files."""

_OFF_GRID, _ROUNDING_MM = 0.1, 0.05
"""How far a slice may lie from its place on an even grid: part of the slice distance, and what rounding to a tenth of a
millimetre adds. One missing slice moves some slice by half the distance or more."""

_SIDEWAYS_MM = 0.1
"""Largest drift of the slices across the normal, over the whole series. More is a tilted gantry: a sheared volume."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series in memory. The tuples are in the order of the volume's z axis."""

    volume: Volume
    files: tuple[Path, ...]
    instance_numbers: tuple[int | None, ...]
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Slice:
    path: Path
    header: Any
    along: float


def read_header(path: Path, keywords: Sequence[str] | None = None) -> Any:
    """A file's attributes without its pixels, as pydicom's ``Dataset``; only those named, if any are.

    Raises:
        ImageReadError: it is missing or not DICOM.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        tags = None if keywords is None else list(keywords)
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    except InvalidDicomError:
        raise ImageReadError(f"{path}: is not a DICOM file, or lacks its preamble") from None
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise ImageReadError(f"{path}: cannot be read as DICOM: {error}") from error


def read_film(path: Path, modality: str) -> Volume:
    """A radiograph or mammogram: voxels ``(1, 1, y, x)`` as stored, rescaled, on a grid without millimetres.

    The distance of a film's pixels in the body is not known (``ImagerPixelSpacing`` is that at the detector), so the
    volume is not physical and its spacing reads 1.

    Raises:
        ImageReadError: it cannot be read, or is not one grey frame.
        MissingDependencyError: its compression needs a library that is not installed.
    """
    header = read_header(path)
    pixels = _read_pixels(path)
    geometry = Geometry.from_parts((1, *pixels.shape))
    return Volume(pixels[np.newaxis, np.newaxis], geometry, modality, path, physical=False, headers=(_plain(header),))


def read_series(files: Iterable[Path], modality: str) -> Series:
    """A series of slices: voxels ``(1, z, y, x)`` rescaled slice by slice, z growing along the planes' normal.

    Args:
        files: one file per slice, in any order.
        modality: what the intensities are.

    Raises:
        ImageReadError: a file cannot be read, or is not one grey frame with a place in the body, or belongs to another
            series than the first.
        GeometryError: slices differ in orientation, size or pixel spacing, lie at one place, leave a gap, or are
            shifted against each other.
        MissingDependencyError: their compression needs a library that is not installed.
    """
    headers = [(path, read_header(path)) for path in files]
    if not headers:
        raise ImageReadError("a series without a file; expected one DICOM file per slice")
    _require_one_series(headers)
    first = headers[0][1]
    orientation = _numbers(first, "ImageOrientationPatient", 6, headers[0][0])
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    slices = sorted(
        (_Slice(path, header, float(normal @ _position(header, path))) for path, header in headers),
        key=lambda one: (one.along, one.path.name),
    )
    step = _step(slices, normal)
    spacing = _numbers(first, "PixelSpacing", 2, headers[0][0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * spacing[1], column * spacing[0], normal * step
    affine[:3, 3] = _position(slices[0].header, slices[0].path)
    planes = [_read_pixels(one.path) for one in slices]
    voxels = np.empty((1, len(planes), *planes[0].shape), np.result_type(*{plane.dtype for plane in planes}))
    for index, plane in enumerate(planes):
        voxels[0, index] = plane
    volume = Volume(
        voxels,
        Geometry((len(planes), *planes[0].shape), affine),
        modality,
        slices[0].path.parent,
        headers=(_plain(first),),
    )
    numbers = tuple(_instance_number(one.header) for one in slices)
    return Series(volume, tuple(o.path for o in slices), numbers, tuple(str(o.header.SOPInstanceUID) for o in slices))


def _require_one_series(headers: Sequence[tuple[Path, Any]]) -> None:
    path, first = headers[0]
    for other_path, other in headers:
        if other.get("SeriesInstanceUID") != first.get("SeriesInstanceUID"):
            raise ImageReadError(f"{path} and {other_path} are of two series; expected one series in a folder")
        if (other.get("Rows"), other.get("Columns")) != (first.get("Rows"), first.get("Columns")):
            raise GeometryError(
                f"{other_path} has {other.get('Rows')} x {other.get('Columns')} pixels, but {path} has "
                f"{first.get('Rows')} x {first.get('Columns')}: a scout image among the slices? Move it out"
            )
        for keyword, count in (("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
            here, there = _numbers(first, keyword, count, path), _numbers(other, keyword, count, other_path)
            if np.abs(here - there).max() > _SAME_DIRECTION:
                raise GeometryError(
                    f"{other_path} has {keyword} {there.tolist()}, but {path} has {here.tolist()}: "
                    "a scout image among the slices? Move it out"
                )


def _step(slices: Sequence[_Slice], normal: npt.NDArray[np.float64]) -> float:
    """The distance of neighbouring slices in mm, once it is sure that they are evenly spaced along the normal."""
    if len(slices) == 1:
        thickness = slices[0].header.get("SpacingBetweenSlices") or slices[0].header.get("SliceThickness")
        return float(thickness) if thickness else 1.0
    along = np.array([one.along for one in slices])
    steps = np.diff(along)
    mean = float((along[-1] - along[0]) / (len(slices) - 1))
    same = np.flatnonzero(steps <= max(mean, 0.01) * _OFF_GRID)
    if same.size:
        one, two = slices[same[0]].path, slices[same[0] + 1].path
        raise GeometryError(
            f"{one} and {two} lie at one place ({along[same[0]]:g} mm along the normal), {same.size} such pairs in "
            "all: keep one file of each"
        )
    off = float(np.abs(along - along[0] - mean * np.arange(len(slices))).max())
    if off > mean * _OFF_GRID + _ROUNDING_MM:
        usual = float(np.median(steps))
        worst = int(np.abs(steps - usual).argmax())
        raise GeometryError(
            f"{slices[worst].path} and {slices[worst + 1].path} are {steps[worst]:.4g} mm apart, but other slices "
            f"{usual:.4g} mm (off an even grid by up to {off:.3g} mm): complete the series, or resample it"
        )
    travel = _position(slices[-1].header, slices[-1].path) - _position(slices[0].header, slices[0].path)
    sideways = float(np.linalg.norm(travel - normal * (travel @ normal)))
    if sideways > _SIDEWAYS_MM:
        raise GeometryError(
            f"{slices[0].path} and {slices[-1].path} are shifted by {sideways:.3g} mm across their normal: the gantry "
            "was tilted; resample the series to a straight grid first"
        )
    return mean


def _read_pixels(path: Path) -> npt.NDArray[np.generic]:
    """The pixels ``(y, x)`` of a grey frame, rescaled: whole numbers where slope and intercept are, else float32."""
    import pydicom

    dataset = pydicom.dcmread(path)
    if dataset.get("SamplesPerPixel", 1) != 1 or int(dataset.get("NumberOfFrames") or 1) != 1:
        raise ImageReadError(f"{path}: holds colours or several frames; expected one grey image")
    try:
        pixels: npt.NDArray[np.generic] = dataset.pixel_array
    except RuntimeError as error:  # pydicom: no installed library decodes this transfer syntax
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise MissingDependencyError(
            f"{path}: its compression ({syntax}) cannot be read: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    except Exception as error:  # pydicom passes on whatever its decoders raise on damaged data
        raise ImageReadError(f"{path}: its pixels cannot be read: {error}") from error
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if (slope, intercept) == (1.0, 0.0):
        return pixels
    if slope.is_integer() and intercept.is_integer():
        return _smallest(pixels.astype(np.int64) * int(slope) + int(intercept))
    return (pixels.astype(np.float64) * slope + intercept).astype(np.float32)


def _smallest(values: npt.NDArray[np.int64]) -> npt.NDArray[np.generic]:
    """As int16, which holds all Hounsfield units, or int32."""
    fits = np.iinfo(np.int16).min <= values.min() and values.max() <= np.iinfo(np.int16).max
    return values.astype(np.int16 if fits else np.int32)


def _position(header: Any, path: Path) -> npt.NDArray[np.float64]:
    return _numbers(header, "ImagePositionPatient", 3, path)


def _numbers(header: Any, keyword: str, count: int, path: Path) -> npt.NDArray[np.float64]:
    values = header.get(keyword)
    if values is None or isinstance(values, (str, float)) or len(values) != count:
        raise ImageReadError(f"{path}: has no {keyword} of {count} numbers; expected a slice with a place in the body")
    return np.array([float(value) for value in values])


def _instance_number(header: Any) -> int | None:
    number = header.get("InstanceNumber")
    return None if number is None else int(number)


def _plain(header: Any) -> Header:
    """The attributes that say what the values mean, as text, numbers and lists of them."""
    found: dict[str, Any] = {}
    for keyword in HEADER_KEYWORDS:
        value = header.get(keyword)
        if value is None or value == "":
            continue
        if isinstance(value, (str, int)):
            found[keyword] = str(value) if isinstance(value, str) else int(value)
        elif hasattr(value, "__iter__"):
            found[keyword] = [float(one) for one in value]
        else:
            found[keyword] = float(value)
    return found
