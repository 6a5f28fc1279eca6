"""An image that looks different from every side, for readers and exporters: a swapped or turned axis cannot hide."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oncoseg_core import BoolArray, Geometry, Volume

SHAPE = (5, 7, 11)
SPACING = (2.5, 0.7, 0.8)
ORIGIN = (-120.5, 33.25, 10.0)


class Phantom(NamedTuple):
    """An image, and masks ``(z, y, x)`` of two structures on it by name."""

    image: Volume
    masks: dict[str, BoolArray]


def phantom() -> Phantom:
    """Five slices of 7 rows and 11 columns, 2.5 by 0.7 by 0.8 mm, in an oblique place; no two voxels are alike.

    Write it in your format with something else than your plugin, the format's own library say, and give the file to
    ``check_reader`` together with the phantom.
    """
    turn, tilt = np.deg2rad(20.0), np.deg2rad(-10.0)
    around_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    around_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    geometry = Geometry.from_parts(SHAPE, SPACING, around_z @ around_x, ORIGIN)
    voxels = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(1, *SHAPE)
    liver, tumour = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    liver[1:3, 1:4, 2:9] = True
    liver[3, 1, 2:5] = True
    tumour[4, 5:7, 9:] = True
    return Phantom(Volume(voxels, geometry, "unknown"), {"liver": liver, "liver tumour": tumour})
