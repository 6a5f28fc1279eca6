"""The linear map from an intensity interval to [0, 1] that the normalizers share."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def to_unit(voxels: np.ndarray, low: Sequence[float], high: Sequence[float]) -> npt.NDArray[np.float32]:
    """Map ``low`` to 0 and ``high`` to 1, linearly, and clip outside.

    Computed in float64 one plane at a time and rounded once, so integers and floats of equal value agree, and a large
    offset costs no precision. Where an interval is a single value, what lies above it becomes 1 and the rest 0.

    Args:
        voxels: ``(channel, ...)``, any real dtype, byte order and strides; not modified.
        low: one number per channel.
        high: one number per channel, not below ``low``.

    Returns:
        float32, the shape of ``voxels``.
    """
    unit = np.empty(voxels.shape, np.float32)
    for index in np.ndindex(voxels.shape[: max(1, voxels.ndim - 2)]):
        bottom, top = low[index[0]], high[index[0]]
        plane = voxels[(*index, ...)]
        if top > bottom:
            scaled = np.clip(plane, bottom, top, dtype=np.float64)
            scaled -= bottom
            scaled /= top - bottom
            unit[(*index, ...)] = scaled
        else:
            unit[(*index, ...)] = plane > top
    return unit
