"""Masks as run lengths, in the coding of the SIIM-ACR pneumothorax challenge."""

from __future__ import annotations

import numpy as np

from oncoseg_core import BoolArray, DataError

EMPTY = "-1"
"""How the challenge writes that an image was read and nothing was found."""


def decode_relative(text: str, height: int, width: int, origin: str) -> BoolArray:
    """A bool mask ``(y, x)`` from pairs of numbers: pixels to skip since the last run's end, then pixels in the run.

    Pixels are counted column by column, from the top left. The coding is that of the challenge's ``mask_functions.py``
    (``rle2mask(...).T``), as torchxrayvision's ``SIIM_Pneumothorax_Dataset`` reads it too.

    Args:
        text: the numbers, separated by blanks, or ``-1`` for an empty mask.
        height: of the image.
        width: of the image.
        origin: what the text is of, for messages.

    Raises:
        DataError: the text is not such pairs, or a run leaves the image.
    """
    if text.strip() == EMPTY:
        return np.zeros((height, width), dtype=bool)
    try:
        numbers = np.array([int(part) for part in text.split()], dtype=np.int64)
    except ValueError:
        numbers = np.array([], dtype=np.int64)
    if numbers.size == 0 or numbers.size % 2 or (numbers < 0).any():
        raise DataError(f"{origin}: run lengths are pairs of whole numbers or {EMPTY}, found {text.strip()[:40]!r}")
    ends = np.cumsum(numbers)
    if ends[-1] > height * width:
        raise DataError(f"{origin}: a run ends at pixel {ends[-1]}, but the image has {height} x {width}")
    # +1 where a run starts, -1 where it ends: the running sum is the mask. Runs may touch or be empty.
    steps = np.zeros(height * width + 1, dtype=np.int32)
    np.add.at(steps, ends[0::2], 1)
    np.add.at(steps, ends[1::2], -1)
    return np.ascontiguousarray((np.cumsum(steps[:-1]) > 0).reshape(width, height).T)
