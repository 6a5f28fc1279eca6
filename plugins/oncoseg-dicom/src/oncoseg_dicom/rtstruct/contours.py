"""From voxels to contours: rings along the voxels' edges that every reader fills to the same voxels again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from oncoseg_core import BoolArray
from oncoseg_dicom.rtstruct.keyholes import holes_of, join, landings
from oncoseg_dicom.rtstruct.outlines import Ints, Points, outline_of
from oncoseg_dicom.rtstruct.smoothing import Smoothing, smooth

Extent: TypeAlias = tuple[slice, slice, slice]

BLOCK_VOXELS = 1 << 20
"""Voxels that are traced at once: what bounds the memory."""


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed contours, one after the other.

    ``points`` ``(n, 2)`` are (x, y) in continuous pixels: pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``;
    the last point of a ring is joined to its first. ``lengths`` are the points of each ring, ``planes`` the slice that
    it lies on. ``moved_mm`` is how far smoothing moved any point.
    """

    points: Points
    lengths: Ints
    planes: Ints
    moved_mm: float = 0.0


def trace(
    mask: BoolArray, extent: Extent | None = None, *, keyhole: bool = True, smoothing: Smoothing | None = None
) -> Iterator[Rings]:
    """Trace a mask ``(z, y, x)``, a block of slices at a time, in the order of z. Cost follows the object's extent.

    Args:
        mask: not modified.
        extent: the smallest box that holds all of it, if that is known.
        keyhole: join each hole to the ring around it, so that one ring says it all; otherwise holes are rings of their
            own. An island in a hole is always a ring of its own.
        smoothing: how far points may move to even out the steps; which voxels are enclosed never changes.
    """
    extent = extent or extent_of(mask)
    if extent is None:
        return
    box = mask[extent]
    corner = [part.start for part in extent]
    size = max(1, BLOCK_VOXELS // (box.shape[1] * box.shape[2]))
    for start in range(0, len(box), size):
        outline, moved_mm, bridged = outline_of(box[start : start + size]), 0.0, False
        if not outline.corners.size:
            continue
        nodes, lengths = outline.walk()
        if keyhole:
            holes = holes_of(outline, nodes[np.cumsum(lengths) - lengths])
            bridged = holes.size > 0
        if bridged:
            outline, ends = landings(outline, holes)
        if smoothing is not None:
            outline, moved_mm = smooth(outline, smoothing)
        if bridged:
            outline = join(outline, holes, ends)
        if len(outline.points) > len(nodes):
            nodes, lengths = outline.walk()
        slices, _, _ = outline.places(outline.corners[nodes[np.cumsum(lengths) - lengths]])
        yield Rings(outline.points[nodes] + corner[:0:-1], lengths, corner[0] + start + slices, moved_mm)


def extent_of(mask: BoolArray) -> Extent | None:
    """The smallest box ``(z, y, x)`` that holds all of a mask; None for an empty one."""
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    if not planes.size:
        return None
    z = slice(int(planes[0]), int(planes[-1]) + 1)
    flat: BoolArray = np.logical_or.reduce(mask[z], axis=0)
    y, x = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return z, slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)
