"""Pictures for people: a slice before and after adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import Box
from oncoseg_core.imaging import (
    PREDICTION,
    PROMPT,
    REFERENCE,
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
    box: Box | None
    spacing: tuple[float, float]
    title: str
    before_label: str
    after_label: str


def draw_overlay(overlay: Overlay) -> bytes:
    """The whole slice with the prompt, then the object before and after adaptation, against the reference."""
    figure = new_figure(12, 4.6)
    whole, before, after = figure.subplots(1, 3)
    window = window_around(overlay.reference | overlay.before | overlay.after)
    row_mm, column_mm = overlay.spacing
    for axes in (whole, before, after):
        draw_slice(axes, overlay.image, row_mm / column_mm)
        if overlay.box is not None:
            _draw_box(axes, overlay.box)
    for axes, mask, colour, label in (
        (before, overlay.before, PREDICTION, overlay.before_label),
        (after, overlay.after, AFTER, overlay.after_label),
    ):
        draw_outline(axes, overlay.reference, REFERENCE, width=2.0)
        draw_outline(axes, mask, colour, "--", width=2.0)
        set_window(axes, window)
        axes.set_title(label, fontsize=12)
    whole.set_title("whole slice with the box given", fontsize=12)
    figure.suptitle(overlay.title, fontsize=13)
    entries = {
        "reference": (REFERENCE, "-"),
        "untouched model": (PREDICTION, "--"),
        "adapted model": (AFTER, "--"),
        "box given": ("#888888", ":"),
    }
    draw_legend(figure, entries, ncols=4, frameon=False, fontsize=11)
    return png_bytes(figure)


def _draw_box(axes: Any, box: Box) -> None:
    from matplotlib.patches import Rectangle

    size = box.x1 - box.x0, box.y1 - box.y0
    axes.add_patch(Rectangle((box.x0, box.y0), *size, fill=False, edgecolor=PROMPT, linestyle=":", linewidth=1.4))
