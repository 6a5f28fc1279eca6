"""The map from an intensity interval to [0, 1] that the normalizers share."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from oncoseg_core.system import for_each

Curve = Callable[[npt.NDArray[np.float64]], None]
"""Bends values in [0, 1] in place: rising, 0 to 0 and 1 to 1."""


def to_unit(
    voxels: np.ndarray, low: Sequence[float], high: Sequence[float], curve: Curve | None = None
) -> npt.NDArray[np.float32]:
    """Map ``low`` to 0 and ``high`` to 1, linearly or bent, and clip outside. NaN becomes 0.

    Computed in float64 one plane at a time and rounded once, so integers and floats of equal value agree, and a large
    offset costs no precision. Where an interval is a single value, what lies above it becomes 1 and the rest 0.

    Args:
        voxels: ``(channel, ...)``, any real dtype, byte order and strides; not modified.
        low: one number per channel.
        high: one number per channel, not below ``low``.
        curve: bends what is between; straight when omitted.

    Returns:
        float32, the shape of ``voxels``.
    """
    unit = np.empty(voxels.shape, np.float32)

    def map_plane(index: tuple[int, ...]) -> None:
        place: Any = (*index, ...)
        _map_plane(voxels[place], unit[place], low[index[0]], high[index[0]], curve)

    for_each(map_plane, list(np.ndindex(voxels.shape[: max(1, voxels.ndim - 2)])), voxels.size)
    return unit


def _map_plane(plane: np.ndarray, out: npt.NDArray[np.float32], bottom: float, top: float, curve: Curve | None) -> None:
    if not top > bottom:
        out[...] = plane > top
    elif curve is None and _fits_in_integers(plane.dtype, bottom, top):
        # The same numbers in half the time: differences of such integers are exact, and their quotient lies too far
        # from the middle between two float32 for rounding once or twice to differ.
        whole = np.clip(plane, int(bottom), min(int(top), np.iinfo(plane.dtype).max))
        whole -= plane.dtype.type(bottom)
        out[...] = whole
        out /= np.float32(top - bottom)
    else:
        scaled = plane.astype(np.float64)
        np.clip(scaled, bottom, top, out=scaled)
        scaled -= bottom
        scaled /= top - bottom
        if curve is not None:
            curve(scaled)
        out[...] = scaled
    if plane.dtype.kind == "f":
        missing = np.isnan(out)
        if missing.any():
            out[missing] = 0


def _fits_in_integers(dtype: np.dtype[np.generic], bottom: float, top: float) -> bool:
    """Integers of 16 bits or less that hold all differences of an interval between whole numbers."""
    if dtype.kind not in "iu" or dtype.itemsize > 2 or not (float(bottom).is_integer() and float(top).is_integer()):
        return False
    limits = np.iinfo(cast("np.dtype[np.integer[Any]]", dtype))
    return limits.min <= bottom <= limits.max and top - bottom <= limits.max
