"""The surface of a mask: the corners between its voxels that have both inside and outside around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core.system import for_each

SLAB = 32
"""Planes that are worked on at once: a few MB for each thread, however many slices the scan has."""


class Corners(NamedTuple):
    """``places`` ``(n, 3)`` on the grid of corners, (z, y, x), in their order there; corner 0 lies before voxel 0.

    ``codes`` ``(n,)`` says which of the voxels around are inside: a bit for each of the 8, the highest for the one
    before it on every axis, which is the order of the tables of ``surface-distance``; for one slice, of the 4.
    """

    places: npt.NDArray[np.intp]
    codes: npt.NDArray[np.uint8]


def surface_corners(mask: npt.NDArray[np.bool_], *, flat: bool) -> Corners:
    """Those of a bool mask ``(z, y, x)``; of its contours, where it is ``flat``: an image of one slice."""
    if flat:
        return _slab(mask, ((0, 0), (1, 1), (1, 1)), axes=(2, 1))
    depth = mask.shape[0]
    starts = range(0, depth + 1, SLAB)  # a plane of corners before the first slice, and one after each

    def work(start: int) -> Corners:
        ends = int(start == 0), int(start + SLAB > depth)
        slab = mask[max(start - 1, 0) : start + SLAB]
        return _slab(slab, (ends, (1, 1), (1, 1)), axes=(2, 1, 0), start=start)

    slabs = for_each(work, starts, mask.size)
    return Corners(*(np.concatenate(parts) for parts in zip(*slabs, strict=True)))


def _slab(
    mask: npt.NDArray[np.bool_], margin: tuple[tuple[int, int], ...], axes: tuple[int, ...], start: int = 0
) -> Corners:
    """The corners between the voxels of a slab, with a margin that is outside; they begin in plane ``start``."""
    codes: npt.NDArray[np.uint8] = np.pad(mask, margin).view(np.uint8)
    for axis in axes:  # pairs along x, then of those along y, then of those along z
        before, after = (codes[(slice(None),) * axis + (part,)] for part in (slice(None, -1), slice(1, None)))
        codes = (before << np.uint8(2 ** (2 - axis))) | after
    full = 2 ** (2 ** len(axes)) - 1
    found = np.flatnonzero(codes - np.uint8(1) < full - 1)  # 0 wraps around to 255: neither none nor all
    places = np.column_stack(np.unravel_index(found, codes.shape))
    places[:, 0] += start
    return Corners(places, codes.ravel()[found])
