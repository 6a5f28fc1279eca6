"""Lesion-centred zoom: a small object is cut out with its surroundings and given the model's whole input.

SAM3 answers for a CT slice of 512 x 512 pixels with 288 x 288 logits: a nodule of 5 pixels is 3 of them wide. Cut out
of the stored slice, encoded alone and put back, it gets more. Intensities are normalised before, with the statistics of
the whole volume. Light: no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_core.contract.geometry import Fit, Geometry, SliceGrid
from oncoseg_core.contract.interfaces import Settings
from oncoseg_core.contract.prompts import Box, Prompt
from oncoseg_core.contract.records import ModelSpec


class ZoomSettings(Settings):
    """When to zoom, and how far.

    ``when``: ``auto`` where the object's longer side would cover fewer than ``minimum_logits`` logits, or ``always``
    where the prompt points at something. ``context``: the window's side as a multiple of the object's longer side.
    ``magnification``: the most pixels of the model's input that one stored pixel becomes. ``expected_mm``: the size of
    what a click points at; without it, clicks alone are not zoomed to.
    """

    when: Literal["auto", "always"] = "auto"
    minimum_logits: float = Field(default=12.0, gt=0)
    context: float = Field(default=4.0, ge=1)
    magnification: float = Field(default=4.0, ge=1)
    expected_mm: float | None = Field(default=None, gt=0)


@dataclass(frozen=True)
class Window:
    """A part of a stored slice: ``height`` rows from row ``y0``, ``width`` columns from column ``x0``."""

    y0: int
    x0: int
    height: int
    width: int

    def cut(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The window of the last two axes ``(..., y, x)``; a view, no copy."""
        return array[..., self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width]

    def paste(self, part: npt.NDArray[Any], shape: tuple[int, int], outside: float) -> npt.NDArray[Any]:
        """A slice ``(y, x)`` of that shape: the part in the window, one value around it."""
        whole = np.full(shape, outside, dtype=part.dtype)
        self.cut(whole)[...] = part
        return whole

    def cuts(self, mask: npt.NDArray[np.bool_]) -> bool:
        """Whether a mask ``(y, x)`` of the whole slice reaches a side of the window that is no border of the slice."""
        height, width = mask.shape
        part = self.cut(mask)
        return bool(
            (self.y0 > 0 and part[0].any())
            or (self.x0 > 0 and part[:, 0].any())
            or (self.y0 + self.height < height and part[-1].any())
            or (self.x0 + self.width < width and part[:, -1].any())
        )

    def prompt(self, prompt: Prompt) -> Prompt:
        """A prompt on the slice, in pixels of the window."""
        return tuple(hint.mapped(lambda x, y: (x - self.x0, y - self.y0), self.cut) for hint in prompt)

    def grid(self, whole: SliceGrid) -> SliceGrid:
        """From the window to the model's input, where the whole slice would go by that grid."""
        return replace(whole, height=self.height, width=self.width)


def window_for(
    prompt: Prompt, geometry: Geometry, spec: ModelSpec, settings: ZoomSettings, fit: Fit = "letterbox"
) -> Window | None:
    """The window to zoom to for a prompt on a slice of that geometry, or None where the whole slice is to be seen.

    A text or exemplars look for objects everywhere: with an exemplar, or with a text alone, there is no window. All
    other hints lie in it, also the negative ones.

    Args:
        prompt: on the stored slice, in its pixels.
        geometry: the volume's.
        spec: of the model, for the sizes of its input and of its logits.
        settings: when, and how far.
        fit: of the slice into the model's input.
    """
    extent = _extent(prompt, geometry, settings.expected_mm)
    if extent is None:
        return None
    grid = SliceGrid.of(geometry, spec.input_size, fit)
    on_input = grid.box_to_model(extent)
    longer = max(on_input.x1 - on_input.x0, on_input.y1 - on_input.y0)
    if settings.when == "auto" and longer * spec.logits_size / spec.input_size >= settings.minimum_logits:
        return None
    object_side = max(extent.x1 - extent.x0, extent.y1 - extent.y0)
    side = max(settings.context * object_side, spec.input_size / settings.magnification)
    others = (hint.bounds() for hint in prompt if not hint.outlines_object)
    hull = _hull([extent, *(box for box in others if box is not None)])
    x_ends, y_ends = ((math.floor(low), math.ceil(high)) for low, high in ((hull.x0, hull.x1), (hull.y0, hull.y1)))
    side = max(math.ceil(side), x_ends[1] - x_ends[0], y_ends[1] - y_ends[0])
    height, width = geometry.shape[1:]
    y0, rows = _span(side, (extent.y0 + extent.y1) / 2, y_ends, height)
    x0, columns = _span(side, (extent.x0 + extent.x1) / 2, x_ends, width)
    if (rows, columns) == (height, width):
        return None
    return Window(y0, x0, rows, columns)


def _extent(prompt: Prompt, geometry: Geometry, expected_mm: float | None) -> Box | None:
    """The box around what a prompt points at, within the slice; None where that is not known."""
    if any(hint.needs_whole_slice for hint in prompt):
        return None
    height, width = geometry.shape[1:]
    outlines = (hint.bounds() for hint in prompt if hint.outlines_object)
    found = [box for box in outlines if box is not None]
    clicks = [place for hint in prompt if hint.positive for place in hint.clicks()]
    if not found and clicks and expected_mm is not None:
        (x0, y0), (x1, y1) = np.min(clicks, axis=0), np.max(clicks, axis=0)
        _, row_mm, column_mm = geometry.spacing
        x, y = max(0.0, expected_mm / column_mm - (x1 - x0)) / 2, max(0.0, expected_mm / row_mm - (y1 - y0)) / 2
        found.append(Box(float(x0 - x), float(y0 - y), float(x1 + x), float(y1 + y)))
    if not found:
        return None
    return _hull(found).clipped(height, width)


def _hull(boxes: list[Box]) -> Box:
    lows, highs = zip(*(((box.x0, box.y0), (box.x1, box.y1)) for box in boxes), strict=True)
    return Box(*map(min, zip(*lows, strict=True)), *map(max, zip(*highs, strict=True)))


def _span(side: int, centre: float, holds: tuple[int, int], length: int) -> tuple[int, int]:
    """Where a window of ``side`` pixels begins along an axis of ``length`` pixels, and its pixels there.

    As near to the centre as may be, so that it lies within the axis and holds an interval of it.
    """
    if side >= length:
        return 0, length
    start = max(round(centre - side / 2), holds[1] - side, 0)
    return min(start, holds[0], length - side), side
