"""The voxels of MetaImage and NRRD files: which file holds them, and every byte of them decoded.

ITK's readers of these formats do not compare the data with the header: what a damaged stream leaves unfilled is
whatever stood in memory before, such as another patient's image.
"""

from __future__ import annotations

import bz2
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import GeometryError, ImageReadError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.system.foreign_files import open_regular
from oncoseg_core.system.memory_limit import require_image_bytes

Encoding: TypeAlias = Literal["raw", "deflated", "bzip2", "text"]

HEADER_BYTES = 4 * 2**20
"""Most bytes of a header in text: those of ultrasound sequences, with a few lines for each frame, have 1 or 2 MB."""

ROUNDED_DIRECTION = 1e-3
"""How far axes may be from length 1 and from right angles: headers are written with three digits or more."""

_CHUNK = 1 << 20
_MOST_DEFLATED = 1032
"""Bytes that one byte of a deflated stream can become (zlib's technical details)."""

_TEXT_BYTES = 64 * 2**20
_ZLIB_OR_GZIP = zlib.MAX_WBITS + 32
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels of a header lie: ``sizes`` of its axes, the fastest first.

    ``skip`` bytes stand before them in each file, -1 where they are the file's end. ``packed`` is how many bytes the
    compressed stream takes, where the header says so.
    """

    header: Path
    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: Encoding = "raw"
    skip: int = 0
    packed: int | None = None

    def read(self) -> npt.NDArray[np.generic]:
        """All voxels, the slowest axis first, in this machine's byte order.

        Raises:
            ImageReadError: a file is missing, holds other than what the header promises, or is too large.
        """
        _require_sizes(self.sizes, self.header)
        count = math.prod(self.sizes)
        if count * self.dtype.itemsize % len(self.files):
            raise ImageReadError(f"{self.header}: names {len(self.files)} files of voxels, which do not share them")
        share = count * self.dtype.itemsize // len(self.files)
        values: npt.NDArray[Any] | None = None
        for number, file in enumerate(self.files):
            try:
                with open_regular(file) as stream:
                    available = self._seek(stream, share)
                    if values is None:  # only now: a short file with a large claim is damaged, and takes no memory
                        require_image_bytes(
                            count * self.dtype.itemsize, str(self.header), _sizes(self.sizes) + " values"
                        )
                        values = np.empty(count, self.dtype)
                    room = values.view(np.uint8)[number * share : (number + 1) * share].data
                    self._fill(stream, available, room)
            except FileNotFoundError as error:
                raise ImageReadError(
                    f"{self.header}: its voxels are in the file {file.name!r}, which is missing; copy it beside the "
                    "header"
                ) from error
            except (OSError, EOFError, zlib.error, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ImageReadError(
                    f"{file}: its voxels are cut short or damaged ({reason}); copy or download it again"
                ) from error
        assert values is not None  # noqa: S101 - there is a file at least
        if not self.dtype.isnative:
            values = values.byteswap(inplace=True).view(self.dtype.newbyteorder())
        return values.reshape(self.sizes[::-1])

    def _seek(self, stream: BinaryIO, share: int) -> int:
        """Go to the voxels; how many bytes there are, which must be possible ones."""
        size = os.fstat(stream.fileno()).st_size
        start = size - share if self.skip == -1 else self.skip
        available = size - start
        if self.packed is not None and self.encoding != "raw":
            if self.packed > available:
                raise EOFError(f"{max(0, available)} bytes of {self.packed} compressed ones")
            available = self.packed
        if start < 0 or available < 1 or (self.encoding == "raw" and available != share):
            raise EOFError(
                f"{max(0, available if self.skip != -1 else size)} bytes of {share} that the header promises"
            )
        if self.encoding == "deflated" and share > available * _MOST_DEFLATED:
            raise EOFError(f"{available} compressed bytes cannot become {share}")
        stream.seek(start)
        return available

    def _fill(self, stream: BinaryIO, available: int, room: memoryview) -> None:
        if self.encoding == "text":
            _fill_from_text(stream.read(_TEXT_BYTES + 1), room, self.dtype)
            return
        filled = 0
        for chunk in _decoded(stream, available, self.encoding):  # to the very end, where the checksum is
            if filled + len(chunk) > len(room):
                raise EOFError(f"more than the {len(room)} bytes that the header promises")
            room[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        if filled < len(room):
            raise EOFError(f"{filled} bytes of {len(room)} that the header promises")


def detached_files(header: Path, names: Iterable[str]) -> tuple[Path, ...]:
    """The files of voxels that a header names: beside it or below, or content that git-annex keeps for its repository.

    Raises:
        ImageReadError: one lies elsewhere, where a header made by a stranger could name any file of this machine.
    """
    parent = header.parent.resolve()
    places = {parent, header.resolve().parent, *(one / ".git/annex/objects" for one in (parent, *parent.parents))}
    files = []
    for name in names:
        file = header.parent / name.replace("\\", "/")
        try:
            beside = any(file.resolve().is_relative_to(place) for place in places)
        except (OSError, ValueError, RuntimeError):  # a name with a zero byte, or links in a circle
            beside = False
        if not beside:
            raise ImageReadError(
                f"{header}: says that its voxels are in {name[:80]!r}; expected a file beside the header or below: "
                "move it there, and name it without its folder"
            )
        files.append(file)
    if not files:
        raise ImageReadError(f"{header}: names no file of voxels; it is damaged")
    return tuple(files)


def grid_of(
    header: Path, sizes: Sequence[int], steps: npt.NDArray[np.float64], origin: npt.NDArray[np.float64]
) -> Geometry:
    """The grid of two or three axes.

    Args:
        header: the file, for messages.
        sizes: voxels along x, y (and z).
        steps: LPS mm from a voxel to its neighbour along each axis, in columns ``(3, axes)``.
        origin: LPS mm of the first voxel's centre ``(3,)``.

    Raises:
        ImageReadError: a spacing is zero or not finite, or the axes are not at right angles.
    """
    _require_sizes(sizes, header)
    if not (np.isfinite(steps).all() and np.isfinite(origin).all()):
        raise ImageReadError(f"{header}: its spacing, direction or origin is no finite number; correct its header")
    lengths = np.linalg.norm(steps, axis=0)
    if not (lengths > 0).all():
        raise ImageReadError(f"{header}: has a spacing of zero; correct its header")
    axes = steps / lengths
    cosine = float(np.abs(axes.T @ axes - np.eye(len(lengths))).max())
    if cosine > ROUNDED_DIRECTION:
        raise ImageReadError(
            f"{header}: its axes are not at right angles (sheared, cosine {cosine:.3g}), which no format but NIfTI can "
            "hold; resample it"
        )
    affine = np.eye(4)
    affine[:3, : len(lengths)], affine[:3, 3] = steps, origin
    if len(lengths) == 2:
        affine[:3, 2] = np.cross(axes[:, 0], axes[:, 1])
    x, y, z = (*sizes, 1)[:3]
    try:
        return Geometry((z, y, x), affine)
    except GeometryError as error:
        raise ImageReadError(f"{header}: {error}; correct its header") from error


def whole_numbers(text: str, header: Path, field: str) -> tuple[int, ...]:
    """The whole numbers of a header's field.

    Raises:
        ImageReadError: it holds something else, or nothing.
    """
    parts = text.split()
    if not parts or not all(re.fullmatch(r"[+-]?\d{1,18}", part, re.ASCII) for part in parts):
        raise ImageReadError(f"{header}: {field} is {text[:80]!r}; expected whole numbers")
    return tuple(int(part) for part in parts)


def real_numbers(text: str, count: int, header: Path, field: str) -> npt.NDArray[np.float64]:
    """So many numbers of a header's field, NaN among them.

    Raises:
        ImageReadError: it holds others, or more or fewer.
    """
    try:
        values = np.array([float(part) for part in text.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count:
        raise ImageReadError(f"{header}: {field} is {text[:80]!r}; expected {count} numbers")
    return values


def require_spacing(spacing: npt.NDArray[np.float64], header: Path, field: str) -> None:
    """Refuse a spacing that is zero, negative or no number.

    Raises:
        ImageReadError: it is; the message quotes it.
    """
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        quoted = " ".join(f"{value:g}" for value in spacing)
        raise ImageReadError(f"{header}: {field} is {quoted}; expected millimetres above zero: correct its header")


def _decoded(stream: BinaryIO, left: int, encoding: str) -> Iterator[bytes]:
    if encoding == "deflated":
        yield from _inflated(stream, left)
        return
    source: Any = bz2.BZ2File(stream) if encoding == "bzip2" else stream
    while chunk := source.read(_CHUNK):
        yield chunk


def _inflated(stream: BinaryIO, left: int) -> Iterator[bytes]:
    """Unpack zlib or gzip, of one member or several; past a checksum that is right, whatever follows is no voxel."""
    inflater, packed = zlib.decompressobj(_ZLIB_OR_GZIP), b""
    while True:
        if not packed:
            packed = stream.read(min(_CHUNK, left))
            left -= len(packed)
        unpacked = inflater.decompress(packed, _CHUNK)
        if not packed and not unpacked and not inflater.eof:
            raise EOFError("the compressed data ends too early")
        yield unpacked
        packed = inflater.unconsumed_tail
        if inflater.eof:
            packed = inflater.unused_data + stream.read(min(len(_GZIP), left))
            left -= min(len(_GZIP), left)
            if not packed.startswith(_GZIP):
                return
            inflater = zlib.decompressobj(_ZLIB_OR_GZIP)


def _fill_from_text(text: bytes, room: memoryview, dtype: np.dtype[Any]) -> None:
    if len(text) > _TEXT_BYTES:
        raise ValueError("voxels as text, and too many; save the image as raw or compressed")
    values = np.array([float(part) for part in text.split()])
    typed = np.frombuffer(room, dtype)
    if len(values) != len(typed):
        raise EOFError(f"{len(values)} numbers of {len(typed)} that the header promises")
    with np.errstate(invalid="ignore", over="ignore"):
        typed[:] = values.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(typed, values):
        raise ValueError(f"a number that is not of the type {dtype.name}")


def _require_sizes(sizes: Sequence[int], header: Path) -> None:
    if min(sizes) < 1:
        raise ImageReadError(f"{header}: declares axes of {_sizes(sizes)} voxels; it is damaged")


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)
