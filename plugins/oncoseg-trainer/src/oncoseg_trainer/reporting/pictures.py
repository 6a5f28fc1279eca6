"""Pictures for people: a slice before and after adaptation. PNG bytes, drawn with matplotlib."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from oncoseg_core import Box

REFERENCE, BEFORE, AFTER, PROMPT = "#35c46a", "#ff9f1c", "#3aa0ff", "#ffffff"
"""Told apart with red-green blindness too: the lines also differ in style."""


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
    figure = Figure(figsize=(12, 4.6), dpi=100, layout="constrained")
    whole, before, after = figure.subplots(1, 3)
    rows, columns = _window(overlay)
    row_mm, column_mm = overlay.spacing
    for axes in (whole, before, after):
        axes.imshow(
            overlay.image,
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect=row_mm / column_mm,
            interpolation="nearest",
            extent=(0, overlay.image.shape[1], overlay.image.shape[0], 0),
        )
        axes.set_axis_off()
    if overlay.box is not None:
        for axes in (whole, before, after):
            axes.add_patch(_rectangle(overlay.box))
    for axes, mask, colour, label in (
        (before, overlay.before, BEFORE, overlay.before_label),
        (after, overlay.after, AFTER, overlay.after_label),
    ):
        _outline(axes, overlay.reference, REFERENCE, "-")
        _outline(axes, mask, colour, "--")
        axes.set_xlim(columns)
        axes.set_ylim(rows[1], rows[0])
        axes.set_title(label, fontsize=12)
    whole.set_title("whole slice with the box given", fontsize=12)
    figure.suptitle(overlay.title, fontsize=13)
    figure.legend(
        handles=[
            Line2D([], [], color=REFERENCE, label="reference"),
            Line2D([], [], color=BEFORE, linestyle="--", label="untouched model"),
            Line2D([], [], color=AFTER, linestyle="--", label="adapted model"),
            Line2D([], [], color="#888888", linestyle=":", label="box given"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=11,
    )
    return _png(figure)


def _window(overlay: Overlay) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rows and columns to show around the object: twice its extent, and no less than 24 pixels."""
    shown = overlay.reference | overlay.before | overlay.after
    limits = []
    for axis, size in ((1, shown.shape[0]), (0, shown.shape[1])):
        found = np.flatnonzero(shown.any(axis=axis))
        low, high = (int(found[0]), int(found[-1]) + 1) if found.size else (0, size)
        half = max(high - low, 12)
        middle = (low + high) / 2
        limits.append((max(0.0, middle - half), min(float(size), middle + half)))
    return limits[0], limits[1]


def _outline(axes: Any, mask: npt.NDArray[np.bool_], colour: str, style: str) -> None:
    """Draw the border of a mask, halfway between the centres of the pixels inside and outside."""
    if not mask.any():
        return
    padded = np.pad(mask, 1).astype(np.float32)
    xs, ys = (np.arange(size) - 0.5 for size in reversed(padded.shape))
    axes.contour(xs, ys, padded, levels=[0.5], colors=[colour], linestyles=[style], linewidths=2.0)


def _rectangle(box: Box) -> Rectangle:
    return Rectangle(
        (box.x0, box.y0), box.x1 - box.x0, box.y1 - box.y0, fill=False, edgecolor=PROMPT, linestyle=":", linewidth=1.4
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
