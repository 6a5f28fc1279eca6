"""Masks on disk: packed bits of the part that is not empty, in one compressed ``.npz`` a case, without pickle."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, DataError
from oncoseg_core.system import atomic_write

Packed = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]
"""The shape, and the first and last index along each axis (nine numbers); and the bits of that box."""

_DAMAGED = (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a ``.npz`` raises where bits of it were lost."""


def pack(mask: BoolArray) -> Packed:
    """Reduce a mask ``(z, y, x)`` to the bits of its bounding box."""
    starts, stops = [], []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        starts.append(int(found[0]) if found.size else 0)
        stops.append(int(found[-1]) + 1 if found.size else 0)
    box = mask[tuple(slice(low, high) for low, high in zip(starts, stops, strict=True))]
    return np.array([*mask.shape, *starts, *stops], dtype=np.int32), np.packbits(box)


def unpack(packed: Packed) -> BoolArray:
    """The mask again.

    Raises:
        DataError: the numbers do not fit each other.
    """
    place, bits = packed
    if place.shape != (9,) or bits.dtype != np.uint8 or (place < 0).any():
        raise DataError("a saved mask is damaged")
    shape, starts, stops = (tuple(int(v) for v in place[i : i + 3]) for i in (0, 3, 6))
    sides = tuple(high - low for low, high in zip(starts, stops, strict=True))
    number = int(np.prod(sides))
    if (
        min(sides) < 0
        or any(high > size for high, size in zip(stops, shape, strict=True))
        or bits.size != -(-number // 8)
    ):
        raise DataError("a saved mask is damaged")
    mask = np.zeros(shape, dtype=bool)
    box = np.unpackbits(bits, count=number).astype(bool).reshape(sides)
    mask[tuple(slice(low, high) for low, high in zip(starts, stops, strict=True))] = box
    return mask


def digest(packed: Packed) -> str:
    """What identifies a mask and its grid: 16 characters of a SHA-256."""
    return hashlib.sha256(packed[0].tobytes() + packed[1].tobytes()).hexdigest()[:16]


def save_masks(path: Path, masks: Mapping[str, Packed], spacing: tuple[float, float, float]) -> None:
    """Write masks by name, with the spacing ``(z, y, x)`` in mm of their grid, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    arrays = {f"{name}{part}": array for name, pair in masks.items() for part, array in zip("#@", pair, strict=True)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, spacing=np.array(spacing), **arrays)  # type: ignore[arg-type]
    atomic_write(path, buffer.getvalue())


def load_masks(path: Path) -> tuple[dict[str, Packed], tuple[float, float, float]]:
    """The masks by name, and the spacing.

    Raises:
        DataError: the file is missing, or is not what was saved.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [name[:-1] for name in arrays.files if name.endswith("#")]
            z, y, x = (float(value) for value in arrays["spacing"])
            return {name: (arrays[f"{name}#"], arrays[f"{name}@"]) for name in names}, (z, y, x)
    except _DAMAGED as error:
        raise DataError(f"{path}: masks cannot be read ({error}); score the case again") from error
