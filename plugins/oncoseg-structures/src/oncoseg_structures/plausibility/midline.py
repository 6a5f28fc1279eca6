"""Where the middle of the patient is, from left to right: LPS x in mm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from oncoseg_core import Geometry
from oncoseg_structures.plausibility.measure import Measured

IN_THE_MIDDLE = ("SpinalCord", "SpinalCanal", "Brainstem", "Sacrum", "OpticChiasm", "Pituitary")
"""Structures that lie in the middle of every patient, the surest first."""
MOST_VOXELS = 500_000
"""Of the image, thinned out, that are looked at for the body."""
TISSUE_HU = -300.0
"""Above it a voxel of a CT is of the body, or of the table."""


class Midline(NamedTuple):
    """``x`` in LPS mm, what it is the middle ``of``, and how far off it may be in mm.

    ``sure`` where a structure of the midline says it.
    """

    x: float
    of: str
    sure: bool = False
    off_mm: float = 10.0


def find_midline(
    measured: Mapping[str, Measured],
    geometry: Geometry,
    voxels: npt.NDArray[Any] | None = None,
    tissue: float = TISSUE_HU,
) -> Midline | None:
    """The middle by a structure of the midline, else by the outer contour, else by the body in a CT; else None.

    A body that the field of view cuts on both sides has its middle near that of the image; cut on one side it has none.
    ``voxels`` are ``(z, y, x)`` in the unit of ``tissue``, above which one is of the body.
    """
    for name in IN_THE_MIDDLE:
        one = measured.get(name)
        if one is not None and one.centre is not None and not _sides_reached(one.faces, geometry):
            return Midline(one.centre[0], name, sure=True)
    body = measured.get("External") or measured.get("Body")
    if body is not None and body.extent is not None:
        return _middle(body.extent, "the outer contour", _sides_reached(body.faces, geometry))
    return _middle_of_body(voxels, geometry, tissue) if voxels is not None else None


def _middle(extent: tuple[float, float], of: str, sides_reached: int) -> Midline | None:
    if sides_reached == 1:
        return None
    return Midline(sum(extent) / 2, of, off_mm=40.0 if sides_reached else 10.0)


def _sideways(geometry: Geometry) -> str:
    """The array axis that runs from side to side."""
    return "xyz"[int(np.abs(geometry.direction[0]).argmax())]


def _sides_reached(faces: tuple[str, ...], geometry: Geometry) -> int:
    return sum(face[0] == _sideways(geometry) for face in faces)


def _middle_of_body(voxels: npt.NDArray[Any], geometry: Geometry, tissue: float) -> Midline | None:
    step = max(1, round((voxels.size / MOST_VOXELS) ** (1 / 3)))
    thinned = voxels[::step, ::step, ::step]
    labels, count = ndimage.label(thinned > tissue)
    if not count:
        return None
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    axis = "zyx".index(_sideways(geometry))
    cut = sum(bool(largest.take(end, axis=axis).any()) for end in (0, -1))
    z, y, x = (places * step for places in np.nonzero(largest))
    sides = geometry.index_to_lps(np.column_stack([x, y, z]))[:, 0]
    least, most = np.percentile(sides, (0.5, 99.5))
    return _middle((float(least), float(most)), "the body in the image", cut)
