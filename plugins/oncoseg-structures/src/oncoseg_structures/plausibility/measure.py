"""What the plausibility of a mask is judged by: one pass over it, then its bounding box only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from oncoseg_core import BoolArray, Geometry

LEAST_PART = 0.01
"""Parts of less than that share of a structure do not count."""


class Measured(NamedTuple):
    """A structure's measures; ``slices``, ``centre`` and ``extent`` are None for an empty one.

    ``slices`` are the first and the last slice index; ``centre`` is in LPS mm (x to the patient's left, y to the back,
    z to the head), weighted by the volume of each voxel; ``extent`` the least and the most LPS x in mm. ``parts`` are
    connected over faces, edges and corners (26 neighbours), None where they were not counted. ``faces`` are the sides
    of the image that it reaches: ``z-``, ``z+``, ``y-``, ``y+``, ``x-``, ``x+`` by array axis. ``outside`` is the share
    of it outside the body, None where there is no body to compare with. ``same`` are structures that have nearly the
    same voxels, with the intersection over the union.
    """

    voxels: int
    volume_ml: float
    slices: tuple[int, int] | None = None
    centre: tuple[float, float, float] | None = None
    extent: tuple[float, float] | None = None
    parts: int | None = 0
    faces: tuple[str, ...] = ()
    outside: float | None = None
    same: tuple[tuple[str, float], ...] = ()

    @property
    def cut_off(self) -> bool:
        """Whether it reaches a side of the image, so that a part of the organ may lie beyond."""
        return bool(self.faces)


def measure_mask(
    mask: BoolArray, geometry: Geometry, body: BoolArray | None = None, count_parts: bool = True
) -> Measured:
    """Measure a mask bool ``(z, y, x)`` on its grid.

    ``body`` is the mask of the outer contour on the same grid, where there is one.
    """
    box = bounding_box(mask)
    if box is None:
        return Measured(voxels=0, volume_ml=0.0)
    inside = mask[box]
    rows = inside.sum(axis=2, dtype=np.int64)  # (z, y)
    columns = inside.sum(axis=1, dtype=np.int64)  # (z, x)
    counts = rows.sum(axis=1)
    volumes = counts * geometry.voxel_mm3[box[0]]
    held = np.flatnonzero(counts)
    centres = np.column_stack(
        [
            (columns @ np.arange(box[2].start, box[2].stop))[held] / counts[held],
            (rows @ np.arange(box[1].start, box[1].stop))[held] / counts[held],
            held + box[0].start,
        ]
    )
    centre = np.average(geometry.index_to_lps(centres), axis=0, weights=volumes[held])
    corners = [(x, y, z) for z in _ends(box[0]) for y in _ends(box[1]) for x in _ends(box[2])]
    left_right = geometry.index_to_lps(corners)[:, 0]
    return Measured(
        voxels=int(counts.sum()),
        volume_ml=float(volumes.sum()) / 1000,
        slices=(box[0].start, box[0].stop - 1),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        extent=(float(left_right.min()), float(left_right.max())),
        parts=_parts(inside) if count_parts else None,
        faces=_faces(box, mask.shape),
        outside=None if body is None else float((inside & ~body[box]).sum() / counts.sum()),
    )


class Shared:
    """Finds structures that share voxels: one number a voxel, that of the last structure there."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._owner = np.zeros(shape, dtype=np.uint16)
        self._names, self._sizes = [""], [0]

    def add(self, name: str, mask: BoolArray, least: float) -> tuple[tuple[str, float], ...]:
        """Those before it with which its intersection is at least that part of their union."""
        box = bounding_box(mask)
        if box is None:
            return ()
        inside, owner = mask[box], self._owner[box]
        counts = np.bincount(owner[inside], minlength=len(self._names))
        size = int(counts.sum())
        shares = [(other, float(counts[at] / (size + self._sizes[at] - counts[at]))) for at, other in self._numbered()]
        owner[inside] = len(self._names)
        self._names.append(name)
        self._sizes.append(size)
        return tuple((other, share) for other, share in shares if share >= least)

    def _numbered(self) -> list[tuple[int, str]]:
        return list(enumerate(self._names))[1:]


def bounding_box(mask: BoolArray) -> tuple[slice, slice, slice] | None:
    """The slices ``(z, y, x)`` of an array around a mask; None where it is empty."""
    along_z = np.flatnonzero(np.any(mask, axis=(1, 2)))
    if not len(along_z):
        return None
    z = slice(int(along_z[0]), int(along_z[-1]) + 1)
    plane = np.any(mask[z], axis=0)
    along_y, along_x = np.flatnonzero(np.any(plane, axis=1)), np.flatnonzero(np.any(plane, axis=0))
    return z, slice(int(along_y[0]), int(along_y[-1]) + 1), slice(int(along_x[0]), int(along_x[-1]) + 1)


def _ends(part: slice) -> tuple[int, int]:
    return part.start, part.stop - 1


def _parts(inside: BoolArray) -> int:
    labels, count = ndimage.label(inside, structure=np.ones((3, 3, 3), dtype=bool))
    if count <= 1:
        return int(count)
    sizes = np.bincount(labels.ravel())[1:]
    return int((sizes >= LEAST_PART * sizes.sum()).sum())


def _faces(box: tuple[slice, slice, slice], shape: tuple[int, ...]) -> tuple[str, ...]:
    """The sides of the image that are reached; a grid of one slice has no first and last."""
    reached = []
    for axis, part, size in zip("zyx", box, shape, strict=True):
        if size == 1:
            continue
        reached += [f"{axis}-"] if part.start == 0 else []
        reached += [f"{axis}+"] if part.stop == size else []
    return tuple(reached)
