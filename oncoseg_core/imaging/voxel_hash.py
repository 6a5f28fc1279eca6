"""What identifies a scan by its content: the same voxels have one hash, whatever file, format or tool they come from.

It finds a scan that two datasets hold under two names, which training on one and scoring on the other must not meet.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.geometry import Geometry

BLOCK_BYTES = 16 << 20
"""About how much of a volume is copied at a time, where it is stored in another order than it is hashed in."""

_WHOLE = ("<u1", "<i2", "<i4")


def content_hash(voxels: npt.NDArray[Any], geometry: Geometry) -> str:
    """SHA-256 over a volume's values as numbers, in the patient's own order of axes.

    The same for any dtype and byte order that holds the values exactly, for any memory layout, and for any of the 48
    ways to store the axes (permuted, reversed), as long as the geometry says which. Spacing and place do not count, nor
    does the sign of a zero or the kind of a NaN.

    Args:
        voxels: ``(channel, z, y, x)`` of any real dtype, as :meth:`DatasetAdapter.load` returns it, not calibrated.
        geometry: the volume's grid.
    """
    turned = geometry.to_lps(voxels)
    digest = hashlib.sha256(f"oncoseg voxels 1 {turned.shape}".encode())
    thickness = max(1, BLOCK_BYTES // max(1, turned[:, :1].nbytes))
    for first in range(0, turned.shape[1], thickness):
        block = np.ascontiguousarray(turned[:, first : first + thickness])
        for index in range(block.shape[1]):
            plane = _smallest(block[:, index])
            digest.update(plane.dtype.str.encode())
            digest.update(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _smallest(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same numbers in the first dtype of a fixed list that holds them all: it depends on the numbers alone."""
    low, high = plane.min().item(), plane.max().item()
    whole = plane.dtype.kind in "biu" or bool(np.array_equal(np.rint(plane), plane))  # False where there is a NaN
    if whole:
        for name in _WHOLE:
            limits = np.iinfo(name)
            if limits.min <= low and high <= limits.max:
                return plane.astype(name, copy=False)
    if plane.dtype.kind in "iu" and not _exact_as_float(plane):
        return plane.astype("<i8" if high <= np.iinfo(np.int64).max else "<u8", copy=False)
    wide = plane.astype("<f8") + 0.0  # -0.0 becomes 0.0
    wide[np.isnan(wide)] = np.nan
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else wide


def _exact_as_float(plane: npt.NDArray[Any]) -> bool:
    """Whether float64 holds each of these whole numbers: its lowest bits are zero beyond 53 significant ones."""
    wide = plane.astype(np.float64)
    beyond = float(2**63 if plane.dtype.kind == "i" else 2**64)  # rounded up to it, and not to be turned back
    if (wide >= beyond).any():
        return False
    return bool(np.array_equal(wide.astype(plane.dtype), plane))
