"""How far rounding in files may move voxels: the one rule for what is a difference of grids and what is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

ROUNDED_MM = 0.05
"""Half of a tenth of a millimetre: the coarsest rounding of positions that DICOM files are known for."""

LEAST, MOST = 0.05, 0.25
"""Parts of a voxel: less (and less than ``ROUNDED_MM``) is always one place, more never, whatever the digits say."""


def half_digit(values: npt.ArrayLike, coarsest: float = ROUNDED_MM) -> float:
    """How far rounding moved values, at most: half of their last decimal (in float32 or float64) or ``coarsest``."""
    array = np.abs(np.asarray(values, dtype=np.float64))
    noise = array * 2.0**-23
    for decimals in range(1, 8):
        if (np.abs(array - np.round(array, decimals)) <= noise).all():
            return min(coarsest, 0.5 * 10.0**-decimals)
    return float(noise.max())


def rounding_in_voxels(steps: Float64, rounding_mm: float, drift: npt.ArrayLike = 0.0) -> Float64:
    """The largest difference along index x, y and z that is still rounding, in voxels ``(3,)`` or ``(n, 3)``.

    ``steps`` ``(3, 3)`` are LPS mm to the next voxel along x, y and z, in columns; ``rounding_mm`` is how far each LPS
    coordinate may be off, and ``drift`` what else adds up from the first voxel to others, in voxels.
    """
    least = np.minimum(LEAST, ROUNDED_MM / np.linalg.norm(steps, axis=0))
    reach = np.abs(np.linalg.inv(steps)).sum(axis=1)
    return np.asarray(np.minimum(MOST, least + rounding_mm * reach + drift), dtype=np.float64)


def is_rounding(offsets: npt.ArrayLike, steps: Float64, rounding_mm: float) -> npt.NDArray[np.bool_]:
    """Whether places that lie LPS mm ``(…, 3)`` apart are one place: ``(…)``, as :func:`rounding_in_voxels` says."""
    voxels = np.abs(np.asarray(offsets, dtype=np.float64) @ np.linalg.inv(steps).T)
    return np.asarray((voxels <= rounding_in_voxels(steps, rounding_mm)).all(axis=-1), dtype=np.bool_)
