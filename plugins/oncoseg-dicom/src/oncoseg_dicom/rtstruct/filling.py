"""From contours to voxels: which voxels' centres they enclose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]

AT_ONCE = 1 << 20
"""Crossings that are worked on at once: what bounds the memory."""


def fill(mask: BoolArray, points: Points, lengths: Ints, planes: Ints) -> None:
    """Set those voxels ``(z, y, x)`` of an empty mask whose centres lie inside an odd number of rings.

    So a ring in a ring is a hole, a bridge that is walked to and fro encloses nothing, and winding does not matter. A
    centre exactly on a border belongs to the shape on its right or below it. Parts beyond the grid are cut off.

    Every side flips, in each column of centres that it crosses, all pixels below the crossing; what was flipped an odd
    number of times is inside.

    Args:
        mask: C-contiguous, nothing in it set; changed in place.
        points: (x, y) ``(n, 2)`` of the rings, one after the other; pixel ``(i, j)`` covers ``[j, j+1) x [i, i+1)``.
        lengths: the points of each ring.
        planes: the slice of each ring.
    """
    _, height, width = mask.shape
    cells = mask.view(np.uint8)
    flat = cells.reshape(-1)
    sides = _sides(points, lengths, width)
    base = planes[sides.rings] * (height * width)
    for chosen, columns in _pieces(sides.first, sides.counts):
        rows = sides.rows(chosen, columns, height)
        within = rows < height
        # Counted modulo 256, which keeps odd from even; much faster than flipping a bit.
        np.add.at(flat, (base[chosen] + rows * width + columns)[within], np.uint8(1))
    for plane, (left, top), (right, bottom) in _boxes(points, lengths, planes, (width, height)):
        part = cells[plane, top:bottom, left:right]
        np.bitwise_xor.accumulate(part, axis=0, out=part)
        part &= 1


def voxels_of_each(points: Points, lengths: Ints, size: tuple[int, int]) -> Ints:
    """How many voxels of its slice each ring encloses on its own, by the rule of :func:`fill`.

    Where the sum is that of the voxels that all together enclose an odd number of times, no voxel is in two rings.

    Args:
        points: (x, y) ``(n, 2)`` of the rings, one after the other.
        lengths: the points of each ring.
        size: rows and columns of a slice.
    """
    height, width = size
    found = np.zeros(len(lengths), dtype=np.int64)
    sides = _sides(points, lengths, width)
    total = np.cumsum(np.bincount(sides.rings, weights=sides.counts, minlength=len(lengths)))
    last = np.searchsorted(sides.rings, np.arange(len(lengths)), side="right")
    begin = side = 0
    while begin < len(lengths):  # whole rings, some at a time
        done = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + AT_ONCE, side="right")))
        part = np.arange(side, last[end - 1])
        chosen = np.repeat(part, sides.counts[part])
        nth = np.arange(len(chosen)) - np.repeat(np.cumsum(sides.counts[part]) - sides.counts[part], sides.counts[part])
        columns = sides.first[chosen] + nth
        rows = sides.rows(chosen, columns, height)
        # A ring crosses a column an even number of times; between the first and the second, and so on, is its inside.
        keys = np.sort(((sides.rings[chosen] - begin) * width + columns) * (height + 1) + rows)
        rings, rows = keys[::2] // (width * (height + 1)), keys % (height + 1)
        found[begin:end] = np.bincount(rings, weights=rows[1::2] - rows[::2], minlength=end - begin).astype(np.int64)
        begin, side = end, int(last[end - 1])
    return found


def fill_polygons(
    rings: Iterable[npt.ArrayLike], shape: tuple[int, int], *, border: Literal["below", "right"] = "below"
) -> BoolArray:
    """The pixels ``(y, x)`` of one slice whose centres are inside an odd number of rings; otherwise as :func:`fill`.

    Args:
        rings: closed contours, each its corners ``(n, 2)`` as (x, y); the last is joined to the first.
        shape: of the slice, ``(y, x)``.
        border: to which shape a centre exactly on a slanted border belongs: to the one below it, as in structure sets
            that are read here, or to the one on its right. On a vertical border it is always the one on the right, on a
            horizontal one the one below. Either way shapes that share a border share no pixel and leave none out.
    """
    corners = [ring for ring in (np.asarray(one, dtype=np.float64).reshape(-1, 2) for one in rings) if len(ring)]
    by_rows = border == "right"
    mask = np.zeros((1, *(shape[::-1] if by_rows else shape)), dtype=bool)
    if corners:
        points = np.concatenate(corners)
        lengths = np.array([len(ring) for ring in corners])
        fill(mask, np.ascontiguousarray(points[:, ::-1]) if by_rows else points, lengths, np.zeros_like(lengths))
    return np.ascontiguousarray(mask[0].T if by_rows else mask[0])


def draw(mask: BoolArray, points: Points, lengths: Ints, planes: Ints) -> None:
    """Set the voxels that rings run through from centre to centre; arguments as for :func:`fill`."""
    _, height, width = mask.shape
    flat = mask.reshape(-1)
    starts = points - 0.5
    run = points[_following(lengths)] - points
    steps = np.maximum(np.ceil(np.abs(run).max(axis=1) - 1e-3), 1).astype(np.int64)
    base = np.repeat(planes, lengths) * (height * width)
    for sides, step in _pieces(np.zeros_like(steps), steps):
        x, y = np.rint(starts[sides] + run[sides] * (step / steps[sides])[:, None]).astype(np.int64).T
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        flat[(base[sides] + y * width + x)[within]] = True


class _Sides(NamedTuple):
    """The sides of rings that cross columns of centres: their ring, the first such column and how many there are."""

    rings: Ints
    first: Ints
    counts: Ints
    starts: Points
    slopes: npt.NDArray[np.float64]

    def rows(self, chosen: Ints, columns: Ints, height: int) -> Ints:
        """The first row of centres on or below the crossing of each chosen side with a column; 0 to ``height``."""
        x, y = self.starts.T
        crossings = y[chosen] + (columns + 0.5 - x[chosen]) * self.slopes[chosen]
        return np.asarray(np.clip(np.ceil(crossings - 0.5), 0, height), dtype=np.int64)


def _sides(points: Points, lengths: Ints, width: int) -> _Sides:
    columns_of = np.clip(np.ceil(points[:, 0] - 0.5), 0, width).astype(np.int64)
    following = _following(lengths)
    # Sides that cross no column of centres, such as those along one, are done with.
    crossing = np.flatnonzero(columns_of != columns_of[following])
    following = following[crossing]
    # One direction for both ways along a side, or rounding could put a centre on neither side.
    swap = points[crossing, 0] > points[following, 0]
    starts, ends = np.where(swap, following, crossing), np.where(swap, crossing, following)
    run = points[ends] - points[starts]
    first = columns_of[starts]
    rings = np.repeat(np.arange(len(lengths)), lengths)[crossing]
    return _Sides(rings, first, columns_of[ends] - first, points[starts], run[:, 1] / run[:, 0])


def _following(lengths: Ints) -> Ints:
    """The number of the point that follows each point in its ring."""
    following = np.arange(1, int(lengths.sum()) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths
    return following


def _pieces(first: Ints, counts: Ints) -> Iterator[tuple[Ints, Ints]]:
    """For each side, its whole numbers from ``first`` on, ``counts`` of them: sides and numbers, some at a time."""
    total = np.cumsum(counts)
    begin = 0
    while begin < len(counts):
        done = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + AT_ONCE, side="right")))
        sides = np.repeat(np.arange(begin, end), counts[begin:end])
        yield sides, first[sides] + np.arange(len(sides)) - (total[sides] - counts[sides] - done)
        begin = end


def _boxes(
    points: Points, lengths: Ints, planes: Ints, size: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Of each slice that has rings: its number and the corners (x, y) of the box around all of them, on the grid."""
    begins = np.cumsum(lengths) - lengths
    low = np.minimum.reduceat(points, begins, axis=0)
    high = np.maximum.reduceat(points, begins, axis=0)
    for plane in np.unique(planes):
        of_it = planes == plane
        left, top = np.clip(np.floor(low[of_it].min(axis=0)), 0, size).astype(int)
        # At least the first row, which crossings above the grid are counted in.
        right, bottom = np.clip(np.ceil(high[of_it].max(axis=0)) + 1, 1, size).astype(int)
        yield int(plane), (int(left), int(top)), (int(right), int(bottom))
