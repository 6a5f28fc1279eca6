"""Drawing slices for people: a grey slice turned upright, the outlines of masks, a window around an object.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import MissingDependencyError
from oncoseg_core.contract.volume import BoolArray

Limits = tuple[tuple[float, float], tuple[float, float]]
"""First and last row, first and last column, in continuous pixels."""

REFERENCE_COLOUR = "#35c46a"
PREDICTION_COLOUR = "#ff9f1c"
PROMPT_COLOUR = "#ffffff"
"""Distinct with red-green blindness too: the lines also differ in style."""

COLOURS = ("#ffb000", "#00c2ff", "#ff5fa2", "#7ee787", "#c297ff", "#ff7b00", "#fff275", "#5eead4")
"""Of structures, in turn."""


def new_figure(width: float, height: float, dpi: int = 100) -> Any:
    """An empty matplotlib figure, in inches, which needs no display.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "drawing needs the library 'matplotlib', which is not installed: pip install 'oncoseg-core[pictures]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def texts_as_written(figure: Any) -> Any:
    """The figure, with names as they are: matplotlib takes what stands between two dollar signs for a formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        if "$" in text.get_text():
            text.set_parse_math(False)
    return figure


def png_bytes(figure: Any) -> bytes:
    """A figure as a PNG."""
    buffer = io.BytesIO()
    texts_as_written(figure).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_slice(axes: Any, image: npt.NDArray[Any], aspect: float) -> None:
    """Draw a slice ``(y, x)`` or ``(y, x, 3)`` in [0, 1] in continuous pixels; ``aspect`` is row over column height."""
    height, width = image.shape[:2]
    axes.imshow(
        image, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest", extent=(0, width, height, 0)
    )
    axes.set_axis_off()


def draw_outline(axes: Any, mask: BoolArray, colour: str, style: str = "-", width: float = 1.8) -> None:
    """Draw the border of a mask ``(y, x)`` halfway between the pixels inside and outside, with cut corners."""
    if mask.any():
        padded = np.pad(mask, 1).astype(np.float32)  # an object at the border has a closed outline
        xs, ys = (np.arange(size) - 0.5 for size in reversed(padded.shape))
        axes.contour(xs, ys, padded, levels=[0.5], colors=[colour], linestyles=[style], linewidths=width)


def draw_edges(axes: Any, mask: BoolArray, colour: str, *, rim: bool = False) -> None:
    """Draw the border of a mask ``(y, x)`` along the edges of its pixels; a dark rim helps on bright tissue."""
    from matplotlib.collections import LineCollection

    lines = outline_edges(mask)
    if rim:
        axes.add_collection(LineCollection(lines, colors="black", linewidths=2.6, alpha=0.5, capstyle="projecting"))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.4 if rim else 0.8, capstyle="projecting"))


def draw_legend(figure: Any, entries: Mapping[str, tuple[str, str]], **options: Any) -> None:
    """A legend below the figure: ``label: (colour, line style)``."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linestyle=style, label=label) for label, (colour, style) in entries.items()]
    figure.legend(handles=handles, loc="outside lower center", **options)


def set_window(axes: Any, limits: Limits) -> None:
    """Show these rows and columns only, the first row on top."""
    (top, bottom), (left, right) = limits
    axes.set(xlim=(left, right), ylim=(bottom, top))


def window_around(mask: BoolArray) -> Limits:
    """Twice the extent of an object ``(y, x)``, and no less than 24 pixels; everything of an empty mask."""
    limits = []
    for axis, size in ((1, mask.shape[0]), (0, mask.shape[1])):
        occupied = np.flatnonzero(mask.any(axis=axis))
        low, high = (int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else (0, size)
        half, middle = max(high - low, 12), (low + high) / 2
        limits.append((max(0.0, middle - half), min(float(size), middle + half)))
    return limits[0], limits[1]


def outline_edges(mask: BoolArray) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The edges between a mask ``(y, x)`` and what is around it: straight lines in continuous pixels, ``(x, y)``."""
    padded = np.pad(mask, 1)
    lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
    across = padded[1:] != padded[:-1]  # row i: the line y = i, over padded columns
    for y, first, last in _runs(across):
        lines.append(((first - 1, y), (last - 1, y)))
    down = (padded[:, 1:] != padded[:, :-1]).T
    for x, first, last in _runs(down):
        lines.append(((x, first - 1), (x, last - 1)))
    return lines


def _runs(edges: BoolArray) -> list[tuple[int, int, int]]:
    """Row, first column and the column after the last of each run of True."""
    padded = np.pad(edges, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    rows, firsts = np.nonzero(steps == 1)
    _, lasts = np.nonzero(steps == -1)
    return [(int(row), int(first), int(last)) for row, first, last in zip(rows, firsts, lasts, strict=True)]
