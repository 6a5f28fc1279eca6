"""Filling contours: which pixels of a grid lie inside.

Written here because the ready-made fills do something else: ``PIL.ImageDraw.polygon`` also paints every pixel that the
border touches, so that a mask grows by up to a pixel all round and thin holes vanish, and it knows no holes at all;
``matplotlib.path.contains_points`` does not say what happens to points on the border.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray

Ring = npt.NDArray[np.float64]
"""A closed contour: its corners ``(n, 2)`` as (x, y); the last is joined to the first."""


def fill_even_odd(rings: Iterable[npt.ArrayLike], shape: tuple[int, int]) -> BoolArray:
    """The pixels ``(y, x)`` whose centre is inside an odd number of the rings, so that a ring in a ring is a hole.

    Coordinates are continuous: pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)`` and has its centre at
    ``(j + 0.5, i + 0.5)``. A centre exactly on a border belongs to the shape on its right (or below), so shapes that
    share a border share no pixel and leave none out. Parts beyond the grid are cut off. Winding does not matter.

    Every edge flips, in each row of centres that it crosses, all pixels right of the crossing; what was flipped an odd
    number of times is inside.
    """
    height, width = shape
    flips = np.zeros((height, width + 1), dtype=np.int32)
    for corners in rings:
        ring = np.asarray(corners, dtype=np.float64).reshape(-1, 2)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 > y1:
                # One direction for both sides of a shared edge, or rounding could put a centre on neither side.
                x0, y0, x1, y1 = x1, y1, x0, y0  # noqa: PLW2901
            first, last = np.clip(np.ceil(np.array([y0, y1]) - 0.5), 0, height).astype(int)
            if first >= last:
                continue
            rows = np.arange(first, last)
            crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)
            flips[rows, columns] += 1  # each row occurs once
    return np.asarray(np.cumsum(flips[:, :width], axis=1) % 2 == 1)


def fill_outline(outline: npt.ArrayLike, shape: tuple[int, int], *, with_border: bool) -> BoolArray:
    """The pixels ``(y, x)`` inside an outline that runs from pixel to pixel, with or without the outline's own.

    Args:
        outline: indices ``(n, 2)`` of the outline's pixels as whole (x, y), pixel 0 being the first; joined by straight
            lines and closed. One or two pixels enclose nothing.
        shape: of the grid, ``(y, x)``.
        with_border: whether the pixels that the outline runs through count as inside.
    """
    pixels = np.asarray(outline, dtype=np.int64).reshape(-1, 2)
    mask = fill_even_odd([pixels + 0.5], shape)
    for (x0, y0), (x1, y1) in zip(pixels, np.roll(pixels, -1, axis=0), strict=True):
        # A line between pixel centres passes through gcd + 1 of them.
        steps = max(1, gcd(int(x1 - x0), int(y1 - y0)))
        xs = x0 + np.arange(steps + 1) * (x1 - x0) // steps
        ys = y0 + np.arange(steps + 1) * (y1 - y0) // steps
        inside = (xs >= 0) & (xs < shape[1]) & (ys >= 0) & (ys < shape[0])
        mask[ys[inside], xs[inside]] = with_border
    return mask
