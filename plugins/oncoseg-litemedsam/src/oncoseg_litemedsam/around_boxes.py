"""Masks of many boxes on one image, each where its box is: to choose among them takes no more, and half of the time."""

from __future__ import annotations

import math
from typing import Any

import torch

from oncoseg_litemedsam.shared_image import Looked, upscaled

MARGIN = 8
"""Pixels of the input around a box. Of 792 boxes around clicks on real scans no mask reached further than 4."""

TOKEN = 4
"""Pixels of the input, and of the logits, to a side of an image token."""

ELSEWHERE = -10.0
"""The logit of what is not computed."""


def logits_around(decoder: Any, prompt: Looked, corners: tuple[float, float, float, float]) -> torch.Tensor:
    """A prompt's logits ``(4 h, 4 w)`` around its box, ``ELSEWHERE`` beyond.

    Where the mask reaches the rim of that part, all are computed.

    Args:
        decoder: SAM's ``MaskDecoder``.
        prompt: what became of the box.
        corners: of the box, ``(x0, y0, x1, y1)`` in pixels of the input.
    """
    height, width = prompt.tokens.shape[:2]
    x0, y0, x1, y1 = corners
    rows, columns = _tokens(y0, y1, height), _tokens(x0, x1, width)
    part = upscaled(decoder, prompt, rows, columns)
    if _reaches_rim(part > 0, rows, columns, height, width):
        return upscaled(decoder, prompt)
    logits = part.new_full((TOKEN * height, TOKEN * width), ELSEWHERE)
    logits[TOKEN * rows.start : TOKEN * rows.stop, TOKEN * columns.start : TOKEN * columns.stop] = part
    return logits


def _tokens(low: float, high: float, number: int) -> slice:
    """The tokens of one axis that a box and its margin touch."""
    return slice(max(0, int(low - MARGIN) // TOKEN), min(number, math.ceil((high + MARGIN) / TOKEN)))


def _reaches_rim(mask: torch.Tensor, rows: slice, columns: slice, height: int, width: int) -> bool:
    """Whether a part's mask touches a side of the part beyond which the image goes on."""
    sides = (
        (rows.start > 0, mask[0]),
        (rows.stop < height, mask[-1]),
        (columns.start > 0, mask[:, 0]),
        (columns.stop < width, mask[:, -1]),
    )
    return any(goes_on and bool(side.any()) for goes_on, side in sides)
