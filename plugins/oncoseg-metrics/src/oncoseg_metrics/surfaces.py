"""Distances between the surfaces of two masks, in mm, each piece of surface counted by its area.

The definition is that of DeepMind's ``surface-distance`` (Nikolov et al., JMIR 2021): surfaces run through the corners
between voxels, and each corner that has both inside and outside around it carries the area of the surface there
(marching cubes). One slice alone (z = 1) has contours and their length. Boundaries of other libraries give other
values: MONAI's and SimpleITK's are the outermost voxels' centres, which lie half a voxel inside.

The areas are the library's tables. Distances are searched here, among the corners only and within the block that holds
the objects: the library fills two distance maps, and its code for empty masks does not run with numpy 2.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from surface_distance import lookup_tables

from oncoseg_metrics.pairs import Pair, cropped

LEAF = 64
"""Points in a leaf of the search tree: for surfaces that are some voxels apart, fewer make the search two times slower."""

Float64 = npt.NDArray[np.float64]


class Surface(NamedTuple):
    """The corners of one mask's surface: distance of each to the other surface in mm, and its area in mm2 (or mm)."""

    distances: Float64
    areas: Float64


class SurfaceDistances(NamedTuple):
    """Both ways. A mask without a voxel has no surface, and the other one's distances to it are infinite."""

    prediction: Surface
    reference: Surface


def surface_distances(pair: Pair, spacing: tuple[float, float, float]) -> SurfaceDistances | None:
    """The distances of two masks ``(z, y, x)`` on a grid of that spacing in mm; None where both are empty.

    Three scores of one pair ask for it in turn: the last pair's is kept, by the content of its masks.
    """
    block = cropped(pair)
    if block is None:
        return None
    flat = pair.prediction.shape[0] == 1
    digest = hashlib.blake2b(repr((block.prediction.shape, spacing, flat)).encode())
    for mask in block:
        digest.update(np.packbits(mask).tobytes())
    key = digest.digest()
    if key not in _last:
        found = _measure(block, spacing, flat=flat)
        _last.clear()
        _last[key] = found
    return _last[key]


_last: dict[bytes, SurfaceDistances] = {}


def _measure(block: Pair, spacing: tuple[float, float, float], *, flat: bool) -> SurfaceDistances:
    if flat:
        block, sides = Pair(block.prediction[0], block.reference[0]), spacing[1:]
        areas = lookup_tables.create_table_neighbour_code_to_contour_length(sides)
    else:
        sides = spacing
        areas = lookup_tables.create_table_neighbour_code_to_surface_area(sides)
    corners, codes = zip(*(_corners(mask) for mask in block), strict=True)
    prediction, reference = (areas[code] for code in codes)
    return SurfaceDistances(
        Surface(_nearest(corners[0], corners[1], sides), prediction),
        Surface(_nearest(corners[1], corners[0], sides), reference),
    )


def _corners(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """Corners ``(n, axes)`` with inside and outside around them, and which of the voxels around are inside.

    A corner's code has a bit for each of the 4 or 8 voxels around it, the highest for the one before it on every axis,
    which is the order of the library's tables.
    """
    codes: npt.NDArray[np.uint8] = np.pad(mask, 1).view(np.uint8)
    for axis in reversed(range(mask.ndim)):  # pairs along x, then of those along y, then of those along z
        before, after = (
            codes[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None))
        )
        codes = (before << np.uint8(2 ** (mask.ndim - 1 - axis))) | after
    full = 2 ** (2**mask.ndim) - 1
    places = np.flatnonzero(codes - np.uint8(1) < full - 1)  # 0 wraps around to 255: neither none nor all
    return np.column_stack(np.unravel_index(places, codes.shape)), codes.ravel()[places]


def _nearest(corners: npt.NDArray[np.intp], others: npt.NDArray[np.intp], spacing: tuple[float, ...]) -> Float64:
    """The distance of each corner to the nearest of the others, in mm."""
    if not len(others):
        return np.full(len(corners), np.inf)
    if not len(corners):
        return np.zeros(0)
    sides = np.asarray(spacing)
    _, nearest = cKDTree(others * sides, leafsize=LEAF).query(corners * sides, workers=-1)
    # From whole steps, so that a distance of just the tolerance is not above it by rounding.
    return np.asarray(np.sqrt((((corners - others[nearest]) * sides) ** 2).sum(axis=1)))
