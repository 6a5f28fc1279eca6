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
    """``x`` in LPS mm, and what it is the middle ``of``; ``sure`` where a structure of the midline says it."""

    x: float
    of: str
    sure: bool


def find_midline(
    measured: Mapping[str, Measured],
    geometry: Geometry,
    voxels: npt.NDArray[Any] | None = None,
    tissue: float = TISSUE_HU,
) -> Midline | None:
    """The middle by a structure of the midline, else by the outer contour, else by the body in a CT; else None.

    ``voxels`` are ``(z, y, x)`` in the unit of ``tissue``, above which one is of the body.
    """
    for name in IN_THE_MIDDLE:
        one = measured.get(name)
        if one is not None and one.centre is not None and not _reaches_sides(one.faces, geometry):
            return Midline(one.centre[0], name, sure=True)
    body = measured.get("External") or measured.get("Body")
    if body is not None and body.extent is not None and not _reaches_sides(body.faces, geometry):
        return Midline(sum(body.extent) / 2, "the outer contour", sure=False)
    return _middle_of_body(voxels, geometry, tissue) if voxels is not None else None


def _sideways(geometry: Geometry) -> str:
    """The array axis that runs from side to side."""
    return "xyz"[int(np.abs(geometry.direction[0]).argmax())]


def _reaches_sides(faces: tuple[str, ...], geometry: Geometry) -> bool:
    return any(face[0] == _sideways(geometry) for face in faces)


def _middle_of_body(voxels: npt.NDArray[Any], geometry: Geometry, tissue: float) -> Midline | None:
    step = max(1, round((voxels.size / MOST_VOXELS) ** (1 / 3)))
    thinned = voxels[::step, ::step, ::step]
    labels, count = ndimage.label(thinned > tissue)
    if not count:
        return None
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    axis = "zyx".index(_sideways(geometry))
    if largest.take(0, axis=axis).any() or largest.take(-1, axis=axis).any():
        return None  # the field of view cuts the patient
    z, y, x = (places * step for places in np.nonzero(largest))
    sides = geometry.index_to_lps(np.column_stack([x, y, z]))[:, 0]
    least, most = np.percentile(sides, (0.5, 99.5))
    return Midline(float(least + most) / 2, "the body in the image", sure=False)
