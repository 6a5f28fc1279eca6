"""The directions of rows and columns: ``ImageOrientationPatient`` as far as its digits can be trusted."""

from __future__ import annotations

import numpy as np

from oncoseg_core import half_digit
from oncoseg_dicom.series.series import Float64

_EXACT = 1e-6
"""Off by less (the length from 1, the cosine from 0), cosines were not rounded: they are in float32 or exact, as 0.6
and 0.8 are."""

_LEAST = 1e-4
"""What is always taken for rounding: a twentieth of a voxel over 512."""

COARSEST_COSINE = 5e-4
"""Half of the last of three decimals: cosines with fewer leave the place of a voxel open."""


def cosine_rounding(cosines: Float64) -> float:
    """How far rounding moved each of six cosines at most; 0 where they are of unit length and at right angles."""
    return half_digit(cosines, COARSEST_COSINE) if _off(cosines) > _EXACT else 0.0


def directions(cosines: Float64) -> tuple[Float64, Float64] | None:
    """The unit vectors along a row and down a column that six cosines mean; None where they are no two directions.

    Cosines that were rounded are not of unit length, nor quite at right angles: as they stand they would stretch and
    shear the grid. What their decimals allow is put right, at equal cost to both; more is no rounding.
    """
    row, column = cosines[:3], cosines[3:]
    off = _off(cosines)
    if off <= _EXACT:
        return row, column
    # Halves of a digit move a length by sqrt(3) of them at most, and the cosine between two directions by twice that.
    if off > max(_LEAST, 2 * np.sqrt(3) * half_digit(cosines, COARSEST_COSINE)):
        return None
    row, column = row / np.linalg.norm(row), column / np.linalg.norm(column)
    # The sum and the difference of two unit vectors are at right angles, and so is what halves their angles.
    middle, across = row + column, row - column
    middle, across = middle / np.linalg.norm(middle), across / np.linalg.norm(across)
    return (middle + across) / np.sqrt(2), (middle - across) / np.sqrt(2)


def _off(cosines: Float64) -> float:
    row, column = cosines[:3], cosines[3:]
    lengths = max(abs(float(np.linalg.norm(one)) - 1) for one in (row, column))
    return max(lengths, abs(float(row @ column)))
