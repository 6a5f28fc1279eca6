"""Many atlases' answers made one: how much each is believed where, and how much they agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_atlas.contours import Index, contour_grid
from oncoseg_atlas.grids import geometry_of, image_on, on_grid, part_of
from oncoseg_atlas.prepared import Prepared
from oncoseg_atlas.registering import Deformed
from oncoseg_atlas.settings import Fusion
from oncoseg_core import BoolArray, Geometry

COARSE = 4
"""Voxels of the working grid between the points at which it is looked up where a structure comes to lie."""
PATCH = 2.0
"""Voxels of the working grid: standard deviation of the neighbourhood in which atlas and image are compared."""
LEAST_DIFFERENCE = 1e-3
"""Mean squared difference, of intensities in [0, 1], that is no better than any smaller one."""
POWER = 2.0
STAPLE_ITERATIONS = 30

Shares = npt.NDArray[np.uint8]


class Fused(NamedTuple):
    """A structure on the image's grid of contours: the share of votes, 0 to 255, in a box that begins at ``first``.

    ``agreement`` is the mean Dice of all pairs of atlases; None of a single one. ``atlases`` took part in it.
    """

    first: Index
    votes: Shares
    agreement: float | None
    atlases: int


class Voter:
    """A registered atlas, ready to say where its structures lie in the image."""

    def __init__(self, target: Prepared, deformed: Deformed, fusion: Fusion) -> None:
        self.deformed = deformed
        image = target.image
        size = [-(-one // COARSE) + 1 for one in image.GetSize()]
        spacing = [one * COARSE for one in image.GetSpacing()]
        moved = sitk.GetArrayFromImage(
            sitk.TransformToDisplacementField(
                deformed.transform, sitk.sitkVectorFloat64, size, image.GetOrigin(), spacing, image.GetDirection()
            )
        )
        places = np.indices(moved.shape[:3])[::-1].reshape(3, -1).T * spacing + image.GetOrigin()
        self._points = places
        self._index = deformed.atlas.grid.lps_to_index(places + moved.reshape(-1, 3))
        self._reach = np.array(spacing) * 1.5
        self.weight = _weight(target, deformed, local=fusion == "local")

    def box(self, name: str, grid: Geometry) -> npt.NDArray[np.int64] | None:
        """Where a structure may lie on a grid in the image: first and last voxel ``(2, z y x)``; None for nowhere."""
        mask = self.deformed.atlas.masks[name]
        first = np.array(mask.first[::-1])
        last = first + np.array(mask.shares.shape[::-1])
        margin = self._reach / np.array(self.deformed.atlas.grid.spacing[::-1])
        near = ((self._index >= first - margin) & (self._index <= last + margin)).all(axis=1)
        if not near.any():
            return None
        low, high = self._points[near].min(axis=0) - self._reach, self._points[near].max(axis=0) + self._reach
        corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
        index = grid.lps_to_index(corners)[:, ::-1]
        size = np.array(grid.shape)
        start = np.clip(np.floor(index.min(axis=0)), 0, size).astype(int)
        stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, size).astype(int)
        return np.stack([start, stop]) if (stop > start).all() else None

    def shares(self, name: str, grid: Geometry) -> Shares:
        """How much of each voxel of a grid the structure fills, by this atlas, 0 to 255."""
        mask = self.deformed.atlas.masks[name].image(self.deformed.atlas.grid)
        return sitk.GetArrayFromImage(on_grid(mask, grid, self.deformed.transform))

    def weights(self, grid: Geometry) -> npt.NDArray[np.float32]:
        """How much this atlas is believed at each voxel of a grid; 0 where it was not scanned."""
        return sitk.GetArrayFromImage(on_grid(self.weight, grid))


def _weight(target: Prepared, deformed: Deformed, *, local: bool) -> sitk.Image:
    """On the working grid: 1 where the atlas was scanned, or more the more alike it and the image are around there."""
    grid = geometry_of(target.image)
    shown = on_grid(deformed.atlas.scan.scanned, grid, deformed.transform, nearest=True)
    if not local:
        return sitk.Cast(shown, sitk.sitkFloat32)
    warped = on_grid(deformed.atlas.scan.image, grid, deformed.transform)
    difference = sitk.SmoothingRecursiveGaussian((target.image - warped) ** 2, PATCH * target.image.GetSpacing()[0])
    likely = (1.0 / (sitk.Abs(difference) + LEAST_DIFFERENCE)) ** POWER
    return sitk.Mask(likely, shown)


def fuse(name: str, voters: Sequence[Voter], grid: Geometry, fusion: Fusion) -> Fused | None:
    """What the atlases that have a structure make of it; None where none puts it into the image."""
    having = [voter for voter in voters if name in voter.deformed.atlas.masks]
    boxes = [box for voter in having if (box := voter.box(name, grid)) is not None]
    if not boxes:
        return None
    start = np.min([box[0] for box in boxes], axis=0)
    stop = np.max([box[1] for box in boxes], axis=0)
    z, y, x = (int(one) for one in stop - start)
    first = (int(start[0]), int(start[1]), int(start[2]))
    part = part_of(grid, first, (z, y, x))
    shares = [voter.shares(name, part) for voter in having]
    inside = [share > 127 for share in shares]
    seen = [one for one in inside if one.any()]
    if not seen:
        return None
    votes = _staple(seen) if fusion == "staple" and len(seen) > 1 else _weighted(having, shares, part)
    return _trimmed(first, votes, agreement(seen), len(seen))


def _weighted(voters: Sequence[Voter], shares: Sequence[Shares], grid: Geometry) -> Shares:
    total = np.zeros(grid.shape, np.float32)
    weights = np.zeros(grid.shape, np.float32)
    for voter, share in zip(voters, shares, strict=True):
        weight = voter.weights(grid)
        total += weight * share
        weights += weight
    np.divide(total, weights, out=total, where=weights > 0)
    return np.rint(total).astype(np.uint8)


def _staple(inside: Sequence[BoolArray]) -> Shares:
    method = sitk.STAPLEImageFilter()
    method.SetForegroundValue(1.0)
    method.SetMaximumIterations(STAPLE_ITERATIONS)
    truth = method.Execute([sitk.GetImageFromArray(one.astype(np.uint8)) for one in inside])
    return np.rint(np.nan_to_num(sitk.GetArrayFromImage(truth)) * 255).astype(np.uint8)


def agreement(masks: Sequence[BoolArray]) -> float | None:
    """The mean Dice of all pairs of masks; None of a single mask."""
    if len(masks) < 2:
        return None
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    pairs = itertools.combinations(range(len(masks)), 2)
    dice = [2 * np.count_nonzero(masks[a] & masks[b]) / (sizes[a] + sizes[b]) for a, b in pairs]
    return float(np.mean(dice))


def _trimmed(first: Index, votes: Shares, agreed: float | None, atlases: int) -> Fused | None:
    """Without the margin in which nobody votes; one voxel of it is kept, to be interpolated with."""
    places = [np.flatnonzero(votes.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not places[0].size or votes.max() <= 127:
        return None
    starts = [max(0, int(one[0]) - 1) for one in places]
    box = tuple(slice(a, int(one[-1]) + 2) for a, one in zip(starts, places, strict=True))
    z, y, x = (a + b for a, b in zip(first, starts, strict=True))
    return Fused((z, y, x), np.ascontiguousarray(votes[box]), agreed, atlases)


class FusedMasks(Mapping[str, BoolArray]):
    """The masks bool ``(z, y, x)`` on the image's own grid, each made whenever it is taken: 32 of them would not fit."""

    def __init__(self, geometry: Geometry, spacing: float, fused: Mapping[str, Fused | None]) -> None:
        self._geometry, self._fused = geometry, dict(fused)
        self._grid = contour_grid(geometry, spacing)

    def __getitem__(self, name: str) -> BoolArray:
        fused = self._fused[name]
        mask = np.zeros(self._geometry.shape, dtype=bool)
        if fused is None:
            return mask
        z, y, x = fused.votes.shape
        part = part_of(self._grid, fused.first, (z, y, x))
        factors = [max(1, round(a / b)) for a, b in zip(self._grid.spacing, self._geometry.spacing, strict=True)]
        low = [max(0, (a - 2) * f) for a, f in zip(fused.first, factors, strict=True)]
        high = [
            min(size, (a + n + 1) * f)
            for a, n, f, size in zip(fused.first, fused.votes.shape, factors, mask.shape, strict=True)
        ]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        shape = tuple(b - a for a, b in zip(low, high, strict=True))
        mask[box] = _at_least_half(fused.votes, part, part_of(self._geometry, _index(low), _index(shape)))
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._fused)

    def __len__(self) -> int:
        return len(self._fused)


def _at_least_half(votes: Shares, place: Geometry, grid: Geometry) -> BoolArray:
    # As float: interpolated bytes are cut off, not rounded, and contours would shrink.
    image = sitk.Cast(image_on(votes, place), sitk.sitkFloat32)
    inside: BoolArray = sitk.GetArrayFromImage(on_grid(image, grid)) > 127.5
    return inside


def _index(values: Sequence[Any]) -> Index:
    z, y, x = (int(value) for value in values)
    return z, y, x
