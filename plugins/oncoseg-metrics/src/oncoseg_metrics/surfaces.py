"""Distances between the surfaces of two masks, in mm, each piece of surface counted by its area.

The definition is that of DeepMind's ``surface-distance`` (Nikolov et al., JMIR 2021): surfaces run through the corners
between voxels, and each corner that has both inside and outside around it carries the area of the surface there
(marching cubes). One slice alone (z = 1) has contours and their length. Boundaries of other libraries give other
values: MONAI's and SimpleITK's are the outermost voxels' centres, which lie half a voxel inside.

The areas are the library's tables. Distances are searched here, among the corners only and within the block that holds
the objects: the library fills two distance maps, and its code for empty masks does not run with numpy 2.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from surface_distance import lookup_tables

from oncoseg_metrics.corners import surface_corners
from oncoseg_metrics.nearest import nearest_distances
from oncoseg_metrics.pairs import Pair, cropped

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
        z, y, x = map(float, spacing)  # whatever kind of numbers in whatever kind of sequence
        found = _measure(block, (z, y, x), flat=flat)
        _last.clear()
        _last[key] = found
    return _last[key]


_last: dict[bytes, SurfaceDistances] = {}


@functools.lru_cache(maxsize=16)
def _areas_of_codes(spacing: tuple[float, float, float], *, flat: bool) -> Float64:
    """The surface at a corner, in mm2, by its code; of a slice the length of the contour there, in mm."""
    if flat:
        return np.asarray(lookup_tables.create_table_neighbour_code_to_contour_length(spacing[1:]))
    return np.asarray(lookup_tables.create_table_neighbour_code_to_surface_area(spacing))


def _measure(block: Pair, spacing: tuple[float, float, float], *, flat: bool) -> SurfaceDistances:
    areas = _areas_of_codes(spacing, flat=flat)
    one, other = (surface_corners(mask, flat=flat) for mask in block)
    z, y, x = block.prediction.shape
    grid = (1 if flat else z + 1), y + 1, x + 1
    return SurfaceDistances(
        Surface(nearest_distances(one.places, other.places, grid, spacing), areas[one.codes]),
        Surface(nearest_distances(other.places, one.places, grid, spacing), areas[other.codes]),
    )
