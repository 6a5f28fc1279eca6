"""One prepared case in one file: slices, each compressed by itself with a checksum, then everything else.

Layout: the slices of the image (all channels of one z together, each followed by the list of its values where it is
stored as :mod:`~oncoseg_store.levels`), then those of each mask (packed to bits; a slice
without a voxel takes no bytes), then a :mod:`~oncoseg_store.packed` block with the table of slices, and
at the
very end its place. A slice is read by its place, not through a memory map: a disk that goes away in the middle of a run
is then an error that names the file, where a map would kill the process.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import blosc2
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from oncoseg_core import BoolArray, DataError, Geometry, Volume
from oncoseg_core.system import atomic_path, open_regular
from oncoseg_store.levels import few_levels
from oncoseg_store.packed import pack, unpack, well_formed

SUFFIX = ".case"
LARGEST_SLICE = 2**31 - 1 - 1024
"""Bytes that blosc2 compresses in one piece."""

_SMALLEST_PIECE = 32
"""Bytes of the header of what blosc2 compressed."""

_END = struct.Struct("<QQ8s")
_END_MAGIC = b"oncocase"
Place: TypeAlias = tuple[int, int, int]
"""Where a piece begins, its size and its checksum."""

NOTHING: Place = (0, 0, 0)


def write_case_file(path: Path, volume: Volume, masks: Mapping[str, BoolArray], facts: Mapping[str, Any]) -> None:
    """Write a case, whole or not at all.

    Args:
        path: the file; its folder is made.
        volume: calibrated; of any real dtype.
        masks: bool ``(z, y, x)`` on the image's grid, by target.
        facts: whatever else belongs to the case, as plain JSON values.

    Raises:
        DataError: a slice is larger than 2 GB, a mask is not on the image's grid, or the values are no real numbers.
        StorageError: it cannot be written.
    """
    voxels, origins = volume.voxels, volume.geometry.slice_origins
    _check(volume, masks)
    tables: dict[str, npt.NDArray[Any]] = {}
    counts = np.zeros((len(masks), voxels.shape[1]), dtype=np.int64)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        little = voxels.dtype.newbyteorder("<")
        pieces = [_append_plane(stream, np.ascontiguousarray(voxels[:, z], little)) for z in range(voxels.shape[1])]
        tables["image"] = np.array([piece for piece, _ in pieces], dtype=np.uint64)
        tables["values"] = np.array([values for _, values in pieces], dtype=np.uint64)
        for number, mask in enumerate(masks.values()):
            places = []
            for z, plane in enumerate(mask):
                counts[number, z] = np.count_nonzero(plane)
                full = counts[number, z] > 0
                places.append(_append(stream, np.packbits(plane), blosc2.Filter.NOFILTER) if full else NOTHING)
            tables[f"mask {number}"] = np.array(places, dtype=np.uint64)
        tables["foreground"] = counts
        tail = pack(
            {
                "dtype": little.str,
                "channels": voxels.shape[0],
                "shape": volume.geometry.shape,
                "affine": volume.geometry.affine.tolist(),
                "slice_origins": None if origins is None else origins.tolist(),
                "modality": volume.modality,
                "source": None if volume.source is None else str(volume.source),
                "physical": volume.physical,
                "channel_names": volume.channel_names,
                "targets": list(masks),
                **facts,
            },
            tables,
        )
        place = stream.tell()
        stream.write(tail)
        stream.write(_END.pack(place, len(tail), _END_MAGIC))


def _check(volume: Volume, masks: Mapping[str, BoolArray]) -> None:
    if volume.voxels.dtype.kind not in "biuf" or volume.voxels.dtype.itemsize > 8:
        raise DataError(f"{volume.name}: values are real numbers of up to 64 bits, found {volume.voxels.dtype}")
    size = volume.voxels[:, 0].nbytes
    if size > LARGEST_SLICE:
        raise DataError(f"{volume.name}: a slice takes {size} bytes; the store holds slices of up to {LARGEST_SLICE}")
    for target, mask in masks.items():
        if mask.shape != volume.geometry.shape or mask.dtype != bool:
            raise DataError(
                f"{volume.name}: the mask of {target!r} is {mask.dtype} of shape {mask.shape}, expected bool "
                f"{volume.geometry.shape}"
            )


def _append_plane(stream: BinaryIO, plane: npt.NDArray[Any]) -> tuple[Place, Place]:
    """Write a slice of the image, as it is or as codes and their values."""
    if plane.dtype.kind != "f" or plane.dtype.itemsize < 4:
        return _append(stream, plane, blosc2.Filter.BITSHUFFLE), NOTHING
    levels = few_levels(plane)
    if levels is None:
        return _append(stream, plane, blosc2.Filter.SHUFFLE), NOTHING
    codes = _append(stream, levels.codes, blosc2.Filter.BITSHUFFLE)
    return codes, _append(stream, levels.values, blosc2.Filter.SHUFFLE)


def _append(stream: BinaryIO, array: npt.NDArray[Any], order: blosc2.Filter) -> Place:
    """Compress and write a piece."""
    piece = blosc2.compress2(
        array,
        codec=blosc2.Codec.ZSTD,
        clevel=1,
        filters=[order],
        filters_meta=[0],
        typesize=array.dtype.itemsize,
        nthreads=1,
    )
    place = stream.tell()
    stream.write(piece)
    return place, len(piece), isal_zlib.crc32(piece)


class CaseFile:
    """A case's file, opened: everything but the slices is in memory.

    Raises:
        DataError: the file is missing, cut short or damaged, or of another version of the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open_regular(path) as stream:
                self._bytes = size = stream.seek(0, 2)
                stream.seek(max(0, size - _END.size))
                end = stream.read()
                place, length, magic = _END.unpack(end) if len(end) == _END.size else (0, 0, b"")
                if magic != _END_MAGIC or place + length + _END.size != size:
                    raise DataError(f"{path}: is cut short or damaged; prepare the dataset again")
                stream.seek(place)
                tail = stream.read(length)
        except FileNotFoundError as error:
            raise DataError(
                f"{path}: is gone; was the dataset prepared anew meanwhile? Start again, or prepare it again"
            ) from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        self.facts, self._tables = unpack(tail, str(path))
        with well_formed(str(path)):
            origins = self.facts.get("slice_origins")  # files from before there were any lack the key
            z, y, x = map(operator.index, self.facts["shape"])
            self.geometry = Geometry(
                (z, y, x),
                np.array(self.facts["affine"], dtype=np.float64),
                None if origins is None else np.array(origins),
            )
            self.shape: tuple[int, int, int, int] = (operator.index(self.facts["channels"]), *self.geometry.shape)
            self.dtype = np.dtype(self.facts["dtype"])
            self.targets: list[str] = list(self.facts["targets"])
            self._plane = (self.shape[0], *self.shape[2:])
            self._require_tables()

    def _require_tables(self) -> None:
        slices, names = self.shape[1], ["image", "values", *(f"mask {number}" for number in range(len(self.targets)))]
        if (
            self.dtype.kind not in "biuf"
            or not 0 < self.dtype.itemsize * math.prod(self._plane) <= LARGEST_SLICE
            or any(self._tables[name].shape != (slices, 3) for name in names)
            or any(table.dtype.kind not in "iu" for table in self._tables.values())
            or self.foreground.shape != (len(self.targets), slices)
        ):
            raise ValueError("tables of other sizes")

    @property
    def foreground(self) -> npt.NDArray[np.int64]:
        """Voxels of each target on each slice: ``(target, z)``, in the order of ``targets``."""
        return self._tables["foreground"]

    def image_slice(self, index: int) -> npt.NDArray[np.generic]:
        """All channels of one slice: ``(channel, y, x)``, read-only.

        Raises:
            DataError: the file is damaged, or cannot be read.
        """
        data = self._piece("image", index)
        if self._tables["values"][index][1]:
            values = np.frombuffer(self._piece("values", index), self.dtype)
            size = len(data) // math.prod(self._plane)
            with well_formed(str(self.path)):
                plane: npt.NDArray[np.generic] = values[np.frombuffer(data, f"<u{size}")].reshape(self._plane)
            plane.setflags(write=False)
            return plane
        if len(data) != self.dtype.itemsize * math.prod(self._plane):
            raise self._damaged("image", index)
        return np.frombuffer(data, self.dtype).reshape(self._plane)

    def mask_slice(self, target: str, index: int) -> BoolArray:
        """One target's mask on one slice: bool ``(y, x)``.

        Raises:
            DataError: the file is damaged, or cannot be read.
        """
        size = self._plane[1:]
        name = f"mask {self.targets.index(target)}"
        if not self._tables[name][index][1]:
            return np.zeros(size, dtype=bool)
        bits = np.frombuffer(self._piece(name, index), np.uint8)
        if len(bits) != -(-size[0] * size[1] // 8):
            raise self._damaged(name, index)
        return np.unpackbits(bits, count=size[0] * size[1]).view(bool).reshape(size)

    def _piece(self, name: str, index: int) -> bytes:
        place, size, checksum = (int(number) for number in self._tables[name][index])
        if place + size > self._bytes:
            raise self._damaged(name, index)
        try:
            with open_regular(self.path) as stream:
                stream.seek(place)
                piece = stream.read(size)
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: is gone; was the dataset prepared anew meanwhile? Start again") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if len(piece) != size or isal_zlib.crc32(piece) != checksum:
            raise self._damaged(name, index)
        if size < _SMALLEST_PIECE or blosc2.get_cbuffer_sizes(piece)[0] > LARGEST_SLICE:
            raise self._damaged(name, index)
        data: bytes = blosc2.decompress2(piece, nthreads=1)
        return data

    def _damaged(self, name: str, index: int) -> DataError:
        return DataError(
            f"{self.path}: slice {index} of its {name} is damaged (the checksum is wrong): delete the file and prepare "
            "the dataset again"
        )
