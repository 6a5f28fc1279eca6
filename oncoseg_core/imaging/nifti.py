"""NIfTI-1 and NIfTI-2 in one file, compressed or not: voxels, and a label image that lies where its image does.

Read here and not by ITK, which fills a cut-short file with zeros, turns NaN into zero and adds an intercept to a slope
of zero. Where the voxels lie is the work of :mod:`oncoseg_core.imaging.nifti_grid`.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import GeometryError, ImageReadError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.imaging.nifti_grid import grid_of
from oncoseg_core.imaging.stored_image import StoredImage
from oncoseg_core.system.memory_limit import require_image_bytes

HEADER_1 = np.dtype(
    [("sizeof_hdr", "i4"), ("unused", "V36"), ("dim", "i2", 8), ("intent", "f4", 3), ("intent_code", "i2"),
     ("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8), ("vox_offset", "f4"),
     ("scl_slope", "f4"), ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"), ("xyzt_units", "u1"),
     ("cal", "V24"), ("texts", "V104"), ("qform_code", "i2"), ("sform_code", "i2"), ("quatern", "f4", 3),
     ("qoffset", "f4", 3), ("srow", "f4", (3, 4)), ("intent_name", "V16"), ("magic", "S4")]
)  # fmt: skip
HEADER_2 = np.dtype(
    [("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"), ("dim", "i8", 8),
     ("intent", "f8", 3), ("pixdim", "f8", 8), ("vox_offset", "i8"), ("scl_slope", "f8"), ("scl_inter", "f8"),
     ("unused", "V48"), ("texts", "V104"), ("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", 3),
     ("qoffset", "f8", 3), ("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4"), ("more", "V36")]
)  # fmt: skip
"""The headers of nifti1.h and nifti2.h; what is not read here is left together."""

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI datatype codes of one real number per voxel."""

COLOURS = {128: 3, 2304: 4}
"""Codes of colours, and their bytes per voxel."""

CHUNK = 1 << 20


def read_nifti(path: Path, *, channels_last_axis: bool = False) -> StoredImage:
    """Read a whole file in one pass, in this machine's byte order; its header is the ``handle``.

    Args:
        path: the file; whether it is compressed is seen in its content.
        channels_last_axis: take a fourth axis as channels.

    Raises:
        ImageReadError: it is no NIfTI file, has other axes or values than an image, tells no place, or is cut short.
    """
    with _unpacked(path) as stream:
        header = _read_header(stream, path)
        channels, shape = _axes(header, path, channels_last_axis=channels_last_axis)
        colours = COLOURS.get(int(header["datatype"]), 1)
        geometry, physical, notes = grid_of(header, shape, path)
        kind = _kind(header, path)
        count = math.prod(shape) * channels * colours
        if not _is_gzip(path) and path.stat().st_size < count * kind.itemsize:
            raise ImageReadError(f"{path}: is cut short: its header promises {count * kind.itemsize} voxel bytes")
        require_image_bytes(count * kind.itemsize, str(path), f"{count} values")
        stored = np.empty(count, kind)
        _fill(stored, stream, path)
    if not kind.isnative:
        stored = stored.byteswap(inplace=True).view(kind.newbyteorder())
    if colours > 1:
        voxels = np.moveaxis(stored.reshape(*shape, colours), -1, 0)
        return StoredImage(voxels, geometry, physical, notes, header)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 and math.isfinite(intercept) and intercept != 0:
        notes = (*notes, f"its intercept {intercept:g} stands beside a slope of 0, which says that values are unscaled")
    voxels = _scaled(stored.reshape(channels, *shape), slope, intercept, path)
    return StoredImage(voxels, geometry, physical, notes, header)


def write_label(path: Path, label: npt.NDArray[Any], image_header: np.void) -> None:
    """Write a label ``(z, y, x)`` of uint8 or uint16 as NIfTI-1 with the place that its image's header tells.

    Both forms and their codes are the image's, so that every reader sees the label where it sees the image. No text of
    that header is copied.
    """
    header = np.zeros((), HEADER_1)
    header["sizeof_hdr"], header["magic"], header["vox_offset"], header["scl_slope"] = 348, b"n+1", 352, 1
    header["datatype"], header["bitpix"] = {1: (2, 8), 2: (512, 16)}[label.itemsize]
    header["dim"] = (max(2, min(3, int(image_header["dim"][0]))), *label.shape[::-1], 1, 1, 1, 1)
    header["pixdim"] = (*image_header["pixdim"][:4], 1, 1, 1, 1)
    header["xyzt_units"] = int(image_header["xyzt_units"]) & 7
    for field in ("qform_code", "sform_code", "quatern", "qoffset", "srow"):
        header[field] = image_header[field]
    with path.open("wb") as file:
        packed = gzip.GzipFile("", "wb", 6, file, 0) if path.name.lower().endswith(".gz") else file
        packed.write(header.tobytes() + bytes(4))
        packed.write(np.ascontiguousarray(label).data)
        if packed is not file:
            packed.close()


def lies_there(image_header: np.void, geometry: Geometry) -> bool:
    """Whether a header tells this grid."""
    grid = grid_of(image_header, geometry.shape, Path("image"))[0]
    try:
        geometry.require_same_grid(grid, "image", "header")
    except GeometryError:
        return False
    return geometry.slice_origins is None


def _read_header(stream: BinaryIO, path: Path) -> np.void:
    start = stream.read(4)
    both = (HEADER_1, HEADER_2)
    layouts = [*(one.newbyteorder("<") for one in both), *(one.newbyteorder(">") for one in both)]
    known = [each for each in layouts if start == np.array(each.itemsize, each["sizeof_hdr"]).tobytes()]
    if not known:
        raise ImageReadError(f"{path}: cannot be read: its content is not NIfTI")
    layout = known[0]
    content = start + stream.read(layout.itemsize - 4)
    if len(content) < layout.itemsize:
        raise ImageReadError(f"{path}: is cut short within its header; copy or download it again")
    header = cast("np.void", np.frombuffer(content, layout)[0])
    if not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
        raise ImageReadError(
            f"{path}: cannot be read: its header is not that of NIfTI in one file (its magic is wrong)"
        )
    offset = max(int(header["vox_offset"]) if math.isfinite(header["vox_offset"]) else 0, layout.itemsize)
    skipped = offset - layout.itemsize
    if len(stream.read(min(skipped, 1 << 28))) < skipped:
        raise ImageReadError(f"{path}: is cut short before its voxels; copy or download it again")
    return header


def _axes(header: np.void, path: Path, *, channels_last_axis: bool) -> tuple[int, tuple[int, int, int]]:
    """How many channels, and the shape ``(z, y, x)``."""
    count = int(header["dim"][0])
    sizes = [int(size) for size in header["dim"][1 : 1 + max(0, min(count, 7))]]
    if not 1 <= count <= 7 or min(sizes) < 1:
        raise ImageReadError(f"{path}: declares axes of {' x '.join(map(str, sizes)) or count}; it is damaged")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    several = len(sizes) == 5 and sizes[3] == 1  # values per voxel (nifti1.h, dim)
    if not (len(sizes) in {2, 3} or several or (len(sizes) == 4 and channels_last_axis)):
        raise ImageReadError(
            f"{path}: has {len(sizes)} axes ({' x '.join(map(str, sizes))}); expected 2 or 3: "
            "give one file per channel or time point"
        )
    x, y, z = (*sizes, 1)[:3]
    return (sizes[-1] if len(sizes) > 3 else 1), (z, y, x)


def _kind(header: np.void, path: Path) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in {32, 1792, 2048}:
        raise ImageReadError(f"{path}: holds complex numbers; expected real intensities")
    kind = "u1" if code in COLOURS else TYPES.get(code)
    if kind is None:
        raise ImageReadError(
            f"{path}: has values of NIfTI datatype {code}, which is not read; save it as int16 or float32"
        )
    return np.dtype(kind).newbyteorder(header.dtype["sizeof_hdr"].byteorder)


def _fill(stored: npt.NDArray[Any], stream: BinaryIO, path: Path) -> None:
    room = stored.view(np.uint8).data
    filled = 0
    while chunk := stream.read(CHUNK):  # to the very end, where the gzip's checksum is
        usable = chunk[: len(room) - filled]
        room[filled : filled + len(usable)] = usable
        filled += len(usable)
    if filled < len(room):
        raise ImageReadError(
            f"{path}: is cut short: {filled} bytes of {len(room)} voxel bytes; copy or download it again"
        )


def _scaled(stored: npt.NDArray[Any], slope: float, intercept: float, path: Path) -> npt.NDArray[Any]:
    """Values as the header means them: as stored where the slope is 0 or no number, as nifti1.h and nibabel say."""
    if slope == 0 or not math.isfinite(slope) or (slope, intercept) == (1, 0):
        return stored
    if not math.isfinite(intercept):
        raise ImageReadError(f"{path}: its values have the intercept {intercept}; correct its header")
    values = np.empty(stored.shape, np.float64 if stored.dtype == np.float64 else np.float32)
    for channel, planes in zip(values, stored, strict=True):
        for value, plane in zip(channel, planes, strict=True):  # by plane: in double precision without its memory
            value[...] = plane.astype(np.float64) * slope + intercept
    return values


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked; what is wrong with them as an ``ImageReadError``."""
    unpacked, damage = _gzip()
    try:
        with cast("BinaryIO", unpacked(os.fspath(path)) if _is_gzip(path) else path.open("rb")) as stream:
            yield stream
    except (OSError, EOFError, damage) as error:
        raise ImageReadError(f"{path}: is cut short or damaged ({error}); copy or download it again") from error


def _gzip() -> tuple[Callable[[str], Any], type[Exception]]:
    """What unpacks a gzip, and what it raises of a damaged one: isal where it is installed, which is faster."""
    try:
        from isal import igzip, igzip_lib
    except ModuleNotFoundError:
        return gzip.GzipFile, zlib.error
    return igzip.IGzipFile, cast("type[Exception]", igzip_lib.IsalError)
