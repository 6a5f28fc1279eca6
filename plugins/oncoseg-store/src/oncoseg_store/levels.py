"""Floating-point slices that hold few evenly spaced values: whole numbers that were scaled, or only saved as floats.

Stored as codes into a list of their values they take a third of the space: compressed as floats they would be up to
twice the size of their ``.nii.gz``. Nothing is rounded: a slice whose values are not all found again bit for bit stays
as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MOST_LEVELS = 1 << 16
SAMPLES = 1 << 14
"""Values that are looked at for the distance of the levels."""


class Levels(NamedTuple):
    """``values[codes]`` is the slice, bit for bit."""

    codes: npt.NDArray[Any]
    values: npt.NDArray[np.floating[Any]]


def few_levels(plane: npt.NDArray[np.floating[Any]]) -> Levels | None:
    """Codes and values of a C-contiguous float32 or float64 array; None where it has no few, evenly spaced levels."""
    low, high = float(plane.min()), float(plane.max())
    if not np.isfinite(low) or not np.isfinite(high):
        return None
    flat = plane.reshape(-1)
    step = _distance(flat[:: max(1, flat.size // SAMPLES) | 1])
    if step is None or high - low > (MOST_LEVELS - 2) * step:
        return None
    codes: npt.NDArray[Any] = np.rint((plane - np.float64(low)) / step).astype(np.uint16)
    if codes.max() < 1 << 8:
        codes = codes.astype(np.uint8)
    bits = plane.view(f"u{plane.dtype.itemsize}")
    values = np.zeros(int(codes.max()) + 1, bits.dtype)
    values[codes] = bits
    return Levels(codes, values.view(plane.dtype)) if np.array_equal(values[codes], bits) else None


def _distance(sample: npt.NDArray[np.floating[Any]]) -> float | None:
    """The distance of neighbouring levels; 1 if there is one level only, None if there are too many."""
    values = np.unique(sample).astype(np.float64)
    gaps = np.diff(values)
    if not gaps.size:
        return 1.0
    smallest = gaps.min()
    if not smallest > (values[-1] - values[0]) / MOST_LEVELS:
        return None
    # The smallest gap is inexact by the rounding of two values; over the whole range that of two is negligible.
    steps = np.rint(gaps / smallest).sum()
    return float((values[-1] - values[0]) / steps)
