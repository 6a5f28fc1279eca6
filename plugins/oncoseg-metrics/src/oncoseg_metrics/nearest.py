"""How far each corner of a surface is from the nearest corner of another one, exactly.

A search tree would do (scipy's ``cKDTree`` did). For surfaces that lie near each other, as a prediction's and its
reference's do, this takes a quarter of its time: in each slab a map says how many steps it is along y to the other
surface, and each corner looks at the lines along y around it, nearest lines first, until no further line can be nearer
than what it has found. What is still open after :data:`LINES` lines is left to the tree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from oncoseg_core.system import for_each
from oncoseg_metrics.corners import SLAB

LINES = 256
"""Lines looked at around each corner. Looking at more of them takes as long as asking the tree."""
SPARSE = 500
"""Voxels of a slab for each corner in it, from which on the map takes longer than the tree."""
LEAF = 64
"""Points in a leaf of the search tree: with fewer, surfaces some voxels apart took two times longer."""

Float64 = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Sides = tuple[float, float, float]


def nearest_distances(corners: Places, others: Places, shape: tuple[int, int, int], sides: Sides) -> Float64:
    """The distance of each corner to the nearest of the others, in mm; infinite where there are none.

    Both are ``(n, 3)``, (z, y, x), in the order of their grid, which has that shape; its ``sides`` are in mm.
    """
    if not (len(corners) and len(others)):
        return np.full(len(corners), np.inf)
    lines = _lines(shape, sides)
    planes = [np.ascontiguousarray(places[:, 0]) for places in (corners, others)]  # searched for each slab

    def work(start: int) -> Float64:
        own = corners[slice(*np.searchsorted(planes[0], (start, start + SLAB)))]
        reach = start - lines.z.max(), start + SLAB + lines.z.max()
        near = others[slice(*np.searchsorted(planes[1], reach))]
        return _in_slab(own, near, start, shape, lines, sides)

    slabs = for_each(work, range(0, shape[0], SLAB), math.prod(shape))
    squares = np.concatenate(slabs)
    far = np.flatnonzero(np.isinf(squares))
    if far.size:
        scale = np.asarray(sides)
        _, nearest = cKDTree(others * scale, leafsize=LEAF).query(corners[far] * scale, workers=-1)
        # From whole steps, so that a distance of just the tolerance is not above it by rounding.
        z, y, x = (((corners[far] - others[nearest]) * scale) ** 2).T
        squares[far] = z + x + y  # in the order of _in_slab, whose sums this has to equal
    return np.asarray(np.sqrt(squares))


class _Lines(NamedTuple):
    """Lines along y by their place beside a corner: ``z`` and ``x`` in steps, distance ``squared`` in mm2, rising.

    ``reach`` is the square of the distance within which all of them are here.
    """

    z: Places
    x: Places
    squared: Float64
    reach: float


def _lines(shape: tuple[int, int, int], sides: Sides) -> _Lines:
    reach = LINES * sides[0] * sides[2] / math.pi
    most = [min(int(math.sqrt(reach) / side), size - 1) for side, size in zip(sides, shape, strict=True)]
    z, x = (steps.ravel() for steps in np.mgrid[-most[0] : most[0] + 1, -most[2] : most[2] + 1])
    squared = (z * sides[0]) ** 2 + (x * sides[2]) ** 2
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= reach]
    return _Lines(z[order], x[order], squared[order], reach)


def _in_slab(
    own: Places, others: Places, start: int, shape: tuple[int, int, int], lines: _Lines, sides: Sides
) -> Float64:
    """Squared distances of the corners in a slab to the others in it and within its reach; infinite where unknown."""
    best = np.full(len(own), np.inf)
    margin = int(lines.z.max()), int(lines.x.max())
    grid = SLAB + 2 * margin[0], shape[1], shape[2] + 2 * margin[1]
    if math.prod(grid) > SPARSE * len(own):
        return best
    offset = margin[0] - start, 0, margin[1]
    steps = _steps_along_y(others + offset, grid)
    nothing = _nothing(grid)
    at = np.ravel_multi_index(tuple((own + offset).T), grid)
    beside = (lines.z * grid[1]) * grid[2] + lines.x
    rings = np.flatnonzero(np.diff(lines.squared, prepend=-1.0))  # lines of the same distance
    asking, nearest = np.arange(len(own)), best.copy()
    for begin, end in zip(rings, [*rings[1:], len(lines.squared)], strict=True):
        away = lines.squared[begin]
        going = nearest > away
        if not going.all():
            best[asking[~going]] = nearest[~going]
            asking, at, nearest = asking[going], at[going], nearest[going]
            if not len(asking):
                return best
        along = np.minimum.reduce([steps.take(at + line) for line in beside[begin:end]])
        square = (along * float(sides[1])) ** 2 + away
        square[along == nothing] = np.inf
        np.minimum(nearest, square, out=nearest)
    sure = nearest <= lines.reach
    best[asking[sure]] = nearest[sure]
    return best


def _nothing(grid: tuple[int, int, int]) -> int:
    """Steps that say that there is nothing on a line."""
    return 2 * grid[1]


def _steps_along_y(others: Places, grid: tuple[int, int, int]) -> npt.NDArray[np.signedinteger]:
    """For each place of the grid, how many steps along y it is to the nearest of the others."""
    nothing = _nothing(grid)
    steps = np.full(grid, nothing, dtype=np.int16 if nothing < np.iinfo(np.int16).max else np.int32)
    steps[tuple(others.T)] = 0
    for y in range(1, grid[1]):
        np.minimum(steps[:, y], steps[:, y - 1] + 1, out=steps[:, y])
    for y in range(grid[1] - 2, -1, -1):
        np.minimum(steps[:, y], steps[:, y + 1] + 1, out=steps[:, y])
    return steps
