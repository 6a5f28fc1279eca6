"""Many atlases' answers made one: how much each is believed where, and how much they agree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_atlas.contours import Index, contour_grid, index_of
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
APART, TOGETHER = 0.1, 0.5
"""Dice below which two atlases mean different structures by a name, and above which the same one."""
SLAB = 16
"""Slices of the grid of contours that are fused at a time."""

Shares = npt.NDArray[np.uint8]


class Fused(NamedTuple):
    """A structure on the image's grid of contours: the share of votes, 0 to 255, in a box that begins at ``first``.

    ``agreement`` is the mean Dice of all pairs of atlases; None of a single one. ``atlases`` took part in it.
    ``apart`` are the keys of those that put it where no other does, while the others agree.
    """

    first: Index
    votes: Shares
    agreement: float | None
    atlases: int
    apart: tuple[str, ...] = ()


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
        shares: Shares = sitk.GetArrayFromImage(on_grid(mask, grid, self.deformed.transform))
        return shares

    def weights(self, grid: Geometry) -> npt.NDArray[np.float32]:
        """How much this atlas is believed at each voxel of a grid; 0 where it was not scanned."""
        weights: npt.NDArray[np.float32] = sitk.GetArrayFromImage(on_grid(self.weight, grid))
        return weights


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
    first, shape = index_of(start), index_of(np.max([box[1] for box in boxes], axis=0) - start)
    votes = np.zeros(shape, np.uint8)
    kept: list[list[BoolArray]] = []
    tally = Tally(len(having))
    for low in range(0, shape[0], SLAB):  # of a whole body, all at once would not fit
        depth = min(SLAB, shape[0] - low)
        part = part_of(grid, (first[0] + low, first[1], first[2]), (depth, shape[1], shape[2]))
        shares = [voter.shares(name, part) for voter in having]
        inside = [share > 127 for share in shares]
        tally.add(inside)
        if fusion == "staple":
            kept.append(inside)
        else:
            votes[low : low + depth] = _weighted(having, shares, part)
    if fusion == "staple" and tally.voters:
        votes = _staple([np.concatenate([slab[voter] for slab in kept]) for voter in tally.voters])
    fused = _trimmed(first, votes, tally)
    return None if fused is None else fused._replace(apart=tuple(having[one].deformed.atlas.key for one in tally.apart))


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
    if len(inside) == 1:
        return inside[0].astype(np.uint8) * np.uint8(255)
    method = sitk.STAPLEImageFilter()
    method.SetForegroundValue(1.0)
    method.SetMaximumIterations(STAPLE_ITERATIONS)
    truth = method.Execute([sitk.GetImageFromArray(one.astype(np.uint8)) for one in inside])
    likely: npt.NDArray[np.float64] = np.nan_to_num(sitk.GetArrayFromImage(truth))
    return np.rint(likely * 255).astype(np.uint8)


class Tally:
    """Counts how large the masks of some atlases are, and how much each pair of them shares, slab by slab."""

    def __init__(self, atlases: int) -> None:
        self._both = np.zeros((atlases, atlases), np.int64)

    def add(self, masks: Sequence[BoolArray]) -> None:
        """Count a slab, one mask of each atlas."""
        for a, b in itertools.combinations_with_replacement(range(len(masks)), 2):
            self._both[a, b] += np.count_nonzero(masks[a] & masks[b])

    @property
    def voters(self) -> list[int]:
        """Which atlases put the structure into the image."""
        return [int(one) for one in np.flatnonzero(np.diag(self._both))]

    @property
    def agreement(self) -> float | None:
        """The mean Dice of all pairs of those that do; None of a single one."""
        pairs = list(itertools.combinations(self.voters, 2))
        return float(np.mean([self._dice(*pair) for pair in pairs])) if pairs else None

    @property
    def apart(self) -> list[int]:
        """Those that share next to nothing with any other, where two or more others agree: of a wrong name, or side."""
        alone = [
            one
            for one in self.voters
            if all(self._dice(*sorted((one, other))) < APART for other in self.voters if other != one)
        ]
        others = itertools.combinations([one for one in self.voters if one not in alone], 2)
        return alone if any(self._dice(*pair) > TOGETHER for pair in others) else []

    def _dice(self, a: int, b: int) -> float:
        return float(2 * self._both[a, b] / (self._both[a, a] + self._both[b, b]))


def _trimmed(first: Index, votes: Shares, tally: Tally) -> Fused | None:
    """Without the margin in which nobody votes; one voxel of it is kept, to be interpolated with."""
    places = [np.flatnonzero(votes.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not places[0].size or votes.max() <= 127:
        return None
    starts = [max(0, int(one[0]) - 1) for one in places]
    box = tuple(slice(a, int(one[-1]) + 2) for a, one in zip(starts, places, strict=True))
    at = index_of([a + b for a, b in zip(first, starts, strict=True)])
    return Fused(at, np.ascontiguousarray(votes[box]), tally.agreement, len(tally.voters))


class FusedMasks(Mapping[str, BoolArray]):
    """The masks bool ``(z, y, x)`` on the image's own grid, each made whenever it is taken."""

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
        mask[box] = _at_least_half(fused.votes, part, part_of(self._geometry, index_of(low), index_of(shape)))
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
