"""What the readers of single image files give."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.geometry import Geometry


class StoredImage(NamedTuple):
    """What an image file holds: voxels ``(channel, z, y, x)``, their grid, and what is doubtful about it.

    ``physical`` is False where the file does not tell the millimetres along all three axes. ``handle`` is what writing
    a mask in the same format needs of the header.
    """

    voxels: npt.NDArray[np.generic]
    geometry: Geometry
    physical: bool
    notes: tuple[str, ...] = ()
    handle: Any = None
