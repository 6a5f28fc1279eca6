"""Box-shaped masks for annotations that say where an object is but not its shape. They are weak: never true masks."""

from __future__ import annotations

import numpy as np

from oncoseg_core import BoolArray, DataError


def box_mask(shape: tuple[int, int], x0: float, y0: float, x1: float, y1: float, origin: str) -> BoolArray:
    """A bool mask ``(y, x)`` of the pixels whose centre lies in the box; pixel ``j`` covers ``[j, j+1)``.

    What reaches over the image's edge is cut off (readers draw beyond it). A box thinner than a pixel marks the pixel
    it lies in, so that no finding is lost.

    Raises:
        DataError: the box is upside down, not finite, or wholly outside the image.
    """
    height, width = shape
    rows, columns = _pixels(y0, y1, height, origin), _pixels(x0, x1, width, origin)
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def _pixels(start: float, end: float, size: int, origin: str) -> slice:
    if not (np.isfinite(start) and np.isfinite(end)) or end < start:
        raise DataError(f"{origin}: a box from {start:g} to {end:g}; expected an end that is not before its start")
    if end <= 0 or start >= size:
        raise DataError(f"{origin}: a box from {start:g} to {end:g} lies outside the image of {size} pixels")
    first, last = int(np.ceil(start - 0.5)), int(np.ceil(end - 0.5))
    if last <= first:
        first = int(np.floor((start + end) / 2))
        last = first + 1
    first, last = min(max(first, 0), size - 1), min(max(last, 1), size)
    return slice(first, max(last, first + 1))
