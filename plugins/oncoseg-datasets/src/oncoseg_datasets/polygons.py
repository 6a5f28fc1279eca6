"""Filling outlines that run from pixel to pixel, with or without the pixels that they run through.

A border of whole pixels is an annotators' convention; contours in continuous coordinates are filled by
:func:`oncoseg_dicom.fill_polygons`.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray
from oncoseg_dicom import fill_polygons


def fill_outline(outline: npt.ArrayLike, shape: tuple[int, int], *, with_border: bool) -> BoolArray:
    """The pixels ``(y, x)`` inside an outline that runs from pixel to pixel, with or without the outline's own.

    Args:
        outline: indices ``(n, 2)`` of the outline's pixels as whole (x, y), pixel 0 being the first; joined by straight
            lines and closed. One or two pixels enclose nothing.
        shape: of the grid, ``(y, x)``.
        with_border: whether the pixels that the outline runs through count as inside.
    """
    pixels = np.asarray(outline, dtype=np.int64).reshape(-1, 2)
    mask = fill_polygons([pixels + 0.5], shape, border="right")
    for (x0, y0), (x1, y1) in zip(pixels, np.roll(pixels, -1, axis=0), strict=True):
        # A line between pixel centres passes through gcd + 1 of them.
        steps = max(1, gcd(int(x1 - x0), int(y1 - y0)))
        xs = x0 + np.arange(steps + 1) * (x1 - x0) // steps
        ys = y0 + np.arange(steps + 1) * (y1 - y0) // steps
        inside = (xs >= 0) & (xs < shape[1]) & (ys >= 0) & (ys < shape[0])
        mask[ys[inside], xs[inside]] = with_border
    return mask
