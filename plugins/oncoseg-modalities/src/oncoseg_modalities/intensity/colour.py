"""Pictures that are stored in colour, and whether they are."""

import numpy as np

_RANGE_PER_ROUNDING = 100


def is_grey(voxels: np.ndarray) -> bool:
    """Whether channels ``(channel, z, y, x)`` all hold the same picture: grey, stored as RGB.

    They may differ by a hundredth of the picture's range (2 of 255 levels): converting to JPEG's colours and back
    rounds that much. Voxels that are not finite in every channel are not looked at.
    """
    first = voxels[0]
    if all(np.array_equal(first, other, equal_nan=first.dtype.kind == "f") for other in voxels[1:]):
        return True
    finite = np.isfinite(voxels).all(axis=0)
    darkest, brightest = voxels.min(axis=0)[finite].astype(np.float64), voxels.max(axis=0)[finite].astype(np.float64)
    if darkest.size == 0:
        return True
    return bool((brightest - darkest).max() * _RANGE_PER_ROUNDING <= brightest.max() - darkest.min())
