"""Pictures for people: a slice before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import Box
from oncoseg_core.imaging import (
    PREDICTION_COLOUR,
    PROMPT_COLOUR,
    REFERENCE_COLOUR,
    draw_legend,
    draw_outline,
    draw_slice,
    new_figure,
    png_bytes,
    set_window,
    window_around,
)

AFTER = "#3aa0ff"


@dataclass(frozen=True, eq=False)
class Overlay:
    """One slice turned upright: ``image`` in [0, 1] and masks, all ``(y, x)``; ``spacing`` is (row, column) mm."""

    image: npt.NDArray[np.float32]
    reference: npt.NDArray[np.bool_]
    before: npt.NDArray[np.bool_]
    after: npt.NDArray[np.bool_]
    boxes: Sequence[Box]
    spacing: tuple[float, float]
    title: str
    before_label: str
    after_label: str


def draw_overlay(slices: Overlay) -> bytes:
    """The whole slice with the prompt, then the object before and after adaptation, against the reference."""
    figure = new_figure(12, 4.6)
    whole, before, after = figure.subplots(1, 3)
    window = window_around(slices.reference | slices.before | slices.after)
    row_mm, column_mm = slices.spacing
    for axes in (whole, before, after):
        draw_slice(axes, slices.image, row_mm / column_mm)
        for box in slices.boxes:
            _draw_box(axes, box)
    for axes, mask, colour, label in (
        (before, slices.before, PREDICTION_COLOUR, slices.before_label),
        (after, slices.after, AFTER, slices.after_label),
    ):
        draw_outline(axes, slices.reference, REFERENCE_COLOUR, width=2.0)
        draw_outline(axes, mask, colour, "--", width=2.0)
        set_window(axes, window)
        axes.set_title(label, fontsize=12)
    plural = "es" * (len(slices.boxes) != 1)
    whole.set_title(f"whole slice with the box{plural} given" if slices.boxes else "whole slice", fontsize=12)
    figure.suptitle(slices.title, fontsize=13)
    entries = {
        "reference": (REFERENCE_COLOUR, "-"),
        "untouched model": (PREDICTION_COLOUR, "--"),
        "adapted model": (AFTER, "--"),
        **({f"box{plural} given": ("#888888", ":")} if slices.boxes else {}),
    }
    draw_legend(figure, entries, ncols=4, frameon=False, fontsize=11)
    return png_bytes(figure)


def _draw_box(axes: Any, box: Box) -> None:
    from matplotlib.patches import Rectangle

    size = box.x1 - box.x0, box.y1 - box.y0
    axes.add_patch(
        Rectangle((box.x0, box.y0), *size, fill=False, edgecolor=PROMPT_COLOUR, linestyle=":", linewidth=1.4)
    )
