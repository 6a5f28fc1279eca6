"""An atlas's structures as shares of voxels on a grid of a fixed fineness: small, and smooth to interpolate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_atlas.grids import coarser, contour_factors, image_on, part_of
from oncoseg_core import BoolArray, Geometry

Index = tuple[int, int, int]


def index_of(values: Iterable[Any]) -> Index:
    """Three whole numbers ``(z, y, x)`` as plain ones."""
    z, y, x = (int(value) for value in values)
    return z, y, x


class SoftMask(NamedTuple):
    """How much of each voxel a structure fills, 0 to 255, in the box that it fills and one voxel around it.

    ``first`` is the box's first voxel ``(z, y, x)`` on the grid of contours.
    """

    first: Index
    shares: npt.NDArray[np.uint8]

    def image(self, grid: Geometry) -> sitk.Image:
        """At its place; ``grid`` is that of all the atlas's contours."""
        return image_on(self.shares, part_of(grid, self.first, index_of(self.shares.shape)))


def contour_grid(geometry: Geometry, spacing: float) -> Geometry:
    """The grid of a scan's contours: its own axes, blocks of its voxels, one block more on every side."""
    return coarser(geometry, contour_factors(geometry, spacing))


def soft_mask(mask: BoolArray, geometry: Geometry, spacing: float) -> SoftMask | None:
    """A mask ``(z, y, x)`` on the grid of contours; None for an empty one."""
    factors = contour_factors(geometry, spacing)
    places = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not places[0].size:
        return None
    first = [int(one[0]) // factor for one, factor in zip(places, factors, strict=True)]
    last = [int(one[-1]) // factor + 1 for one, factor in zip(places, factors, strict=True)]
    box = tuple(slice(a * factor, b * factor) for a, b, factor in zip(first, last, factors, strict=True))
    part = mask[box]
    full = [(b - a) * factor for a, b, factor in zip(first, last, factors, strict=True)]
    # A structure that reaches the scan's end is cut there, it does not end: its last block counts as full.
    part = np.pad(part, [(0, size - own) for size, own in zip(full, part.shape, strict=True)], mode="edge")
    blocks = part.reshape([n for size, f in zip(full, factors, strict=True) for n in (size // f, f)])
    shares = np.rint(blocks.mean(axis=(1, 3, 5), dtype=np.float32) * 255).astype(np.uint8)
    shares = np.pad(shares, 1)
    for axis, (a, b, size, factor) in enumerate(zip(first, last, mask.shape, factors, strict=True)):
        along = np.moveaxis(shares, axis, 0)
        if a == 0:
            along[0] = along[1]
        if b * factor >= size:
            along[-1] = along[-2]
    # The grid of contours has one block before the image's first; the box got one more on every side.
    return SoftMask(index_of(first), shares)
