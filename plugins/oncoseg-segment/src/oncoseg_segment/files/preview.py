"""A picture of structures on the slices that matter: outlines along the voxels' edges, upright, without a name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Geometry, MissingDependencyError, Volume
from oncoseg_core.imaging import COLOURS, draw_edges, draw_slice, new_figure, png_bytes, set_window
from oncoseg_segment.files.outputs import Staging

MOST_STRUCTURES = 12
"""Rows of one picture; of more structures, the first."""

CLOSE_UP = 2.5
"""The side of a close-up as a multiple of the structure's longer side on any of its slices."""

LEAST_CLOSE_UP = 48
"""Pixels that a close-up shows at least."""

Float32 = npt.NDArray[np.float32]
ShownSlice = Callable[[int], Float32]
"""A slice as it is looked at: ``(3, y, x)`` in [0, 1], as stored."""


def key_slices(mask: BoolArray) -> list[tuple[int, str]]:
    """Up to three slices of a structure and what they are: that with the largest area, the first and the last."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    holding = np.flatnonzero(areas)
    if not holding.size:
        return []
    chosen: dict[int, list[str]] = {}
    for index, what in ((int(areas.argmax()), "largest"), (int(holding[0]), "first"), (int(holding[-1]), "last")):
        chosen.setdefault(index, []).append(what)
    if len(holding) == 1:
        return [(int(holding[0]), "the only one")]
    return [(index, " and ".join(what)) for index, what in chosen.items()]


def draw_preview(
    masks: Mapping[str, BoolArray], geometry: Geometry, shown: ShownSlice, *, physical: bool = True
) -> bytes:
    """A PNG with a row for each structure that holds something: the whole slice, then close-ups of its key slices.

    All structures on a slice are outlined, the row's own in a thicker line.

    Args:
        masks: bool ``(z, y, x)`` by name.
        geometry: their grid.
        shown: gives a slice as it is looked at.
        physical: whether the grid says where it lies in the patient, whose sides are then marked.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    rows = [name for name, mask in masks.items() if mask.any()]
    drawn = rows[:MOST_STRUCTURES]
    colours = dict(zip(rows, itertools.cycle(COLOURS)))
    upright = {name: geometry.view.apply(masks[name]) for name in rows}
    panels = {name: key_slices(masks[name]) for name in drawn}
    columns = 1 + max((len(found) for found in panels.values()), default=0)
    figure = new_figure(3.3 * columns, 3.6 * max(1, len(drawn)) + 0.3)
    grid = figure.subplots(max(1, len(drawn)), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    row_mm, column_mm = geometry.view.spacing(*geometry.spacing[1:])
    for axes_of_row, name in zip(grid, drawn, strict=False):
        frame = _close_up(np.any(upright[name], axis=0), row_mm / column_mm)
        for number, axes in enumerate(axes_of_row[: 1 + len(panels[name])]):
            index, what = panels[name][max(0, number - 1)]
            picture = np.moveaxis(geometry.view.apply(shown(index)), 0, -1)
            height, width = picture.shape[:2]
            draw_slice(axes, np.clip(picture, 0, 1), row_mm / column_mm)
            for other in sorted(rows, key=lambda one: one == name):
                draw_edges(axes, upright[other][index], colours[other], rim=other == name)
            set_window(axes, ((0, height), (0, width)) if number == 0 else frame)
            axes.set(xticks=[], yticks=[], facecolor="black")
            axes.set_axis_on()  # for its background: a close-up may reach beyond the slice
            axes.spines[:].set_visible(False)
            if physical:
                _draw_sides(axes, geometry)
            title = f"slice {index}" if number == 0 else f"slice {index}, {what}"
            axes.set_title(_short(name) + "\n" + title if number == 0 else "\n" + title, fontsize=9, parse_math=False)
    if len(rows) > len(drawn):
        figure.supxlabel(f"and {len(rows) - len(drawn)} structures more", fontsize=9)
    if not rows:
        figure.suptitle("no structure to show", fontsize=11)
    return png_bytes(figure)


def stage_preview(
    stage: Staging, path: Path, masks: Mapping[str, BoolArray], volume: Volume, shown: ShownSlice
) -> str | None:
    """Write the preview into a staging; why not, where it cannot be drawn."""
    try:
        png = draw_preview(masks, volume.geometry, shown, physical=volume.physical)
    except MissingDependencyError as error:
        return f"no preview was drawn: {error}"
    stage.write(path, png)
    return None


def _short(name: str, length: int = 36) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _close_up(plane: BoolArray, aspect: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Rows and columns of a square (in mm) around what a mask ``(y, x)`` holds, within the slice where it fits."""
    rows, columns = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    side = max(CLOSE_UP * max(height * aspect, width), LEAST_CLOSE_UP)  # in columns
    side = min(side, max(plane.shape[0] * aspect, plane.shape[1]))
    centre_y, centre_x = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    return _span(centre_y, side / aspect, plane.shape[0]), _span(centre_x, side, plane.shape[1])


def _span(centre: float, side: float, length: int) -> tuple[float, float]:
    """Where a window begins and ends: moved into an axis of that length, or centred on one that is shorter."""
    start = min(max(0.0, centre - side / 2), length - side) if side <= length else (length - side) / 2
    return start, start + side


def _draw_sides(axes: Any, geometry: Geometry) -> None:
    """Letters for the patient's sides at the left and at the top: R L, A P, F H."""
    view, (height, width) = geometry.view, geometry.shape[1:]
    start = np.array(view.point(0, 0, height, width))
    steps = np.array([np.array(view.point(*step, height, width)) - start for step in ((1, 0), (0, 1))])
    # Upright axes in stored pixels, then in LPS.
    right, down = (np.linalg.solve(steps.T, axis) for axis in np.eye(2))
    for axis, place in ((-right, (0.02, 0.5)), (-down, (0.5, 0.98))):
        lps = axis[0] * geometry.direction[:, 0] + axis[1] * geometry.direction[:, 1]
        strongest = int(np.abs(lps).argmax())
        letter = ("LR", "PA", "HF")[strongest][0 if lps[strongest] > 0 else 1]
        left = place[0] < 0.1
        axes.text(
            *place, letter, transform=axes.transAxes, color="white", fontsize=9, fontweight="bold",
            ha="left" if left else "center", va="center" if left else "top",
        )  # fmt: skip
