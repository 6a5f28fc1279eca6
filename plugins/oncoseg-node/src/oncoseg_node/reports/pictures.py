"""Pictures of a structure: three planes through it, upright, in the patient's proportions, its outline in its colour.

Each is one SVG: the slices are small JPEGs within it, outlines are lines along the voxels' edges. So a page holds 32
structures in a few megabytes, stays sharp in print, and needs no other library to be drawn.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from oncoseg_core import BoolArray, Geometry, Volume
from oncoseg_core.imaging import outline_edges

PlaneName = Literal["axial", "coronal", "sagittal"]

PANEL = 300.0
"""Side of a panel in the picture's units."""

GAP, HEAD = 8.0, 22.0
"""Between panels, and above each for what it shows."""

CONTEXT = 2.5
"""The side of what is shown, as a multiple of the structure's longest side."""

LEAST_MM = 120.0
"""That much is shown at least, so that one can tell where in the body it is."""

MOST_PIXELS = 384
"""Along a side of a slice; what has more is made smaller."""

JPEG_QUALITY = 82

_LETTERS = {"axial": ("R", "L", "A", "P"), "coronal": ("R", "L", "H", "F"), "sagittal": ("A", "P", "H", "F")}
"""Of the left, right, upper and lower edge."""

_WINDOWS = {"lung": (-1350.0, 150.0), "bone": (-400.0, 1100.0), "soft tissue": (-160.0, 240.0)}
"""Hounsfield units that are drawn black and white."""


class Window(NamedTuple):
    """Values that are drawn black and white, and what the window is called; empty where it has no name."""

    low: float
    high: float
    name: str = ""


@dataclass(frozen=True)
class Upright:
    """A grid seen with x to the patient's left, y to the back, z to the head: ``axes`` and ``flips`` that lead there.

    ``spacing`` is in mm ``(z, y, x)`` after that. Oblique grids are shown along their own axes.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, geometry: Geometry) -> Upright:
        """The view of a grid: each of its axes goes to the direction in the patient that it is nearest to."""
        # Columns of the direction are of x, y, z; axes of an array are z, y, x.
        along = np.abs(geometry.direction[:, ::-1])
        axis_of: dict[int, int] = {}
        for _ in range(3):
            lps, axis = (int(one) for one in np.unravel_index(int(along.argmax()), along.shape))
            axis_of[lps] = axis
            along[lps], along[:, axis] = -1, -1
        axes = (axis_of[2], axis_of[1], axis_of[0])
        signs = geometry.direction[:, ::-1]
        flips = tuple(bool(signs[lps, axis_of[lps]] < 0) for lps in (2, 1, 0))
        spacing = tuple(float(geometry.spacing[axis]) for axis in axes)
        return cls(axes, (flips[0], flips[1], flips[2]), (spacing[0], spacing[1], spacing[2]))

    def apply(self, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """An array ``(z, y, x)`` as it is seen; a view of it."""
        turned = np.transpose(array, self.axes)
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def stored_axial(self, index: int, shape: tuple[int, int, int]) -> int | None:
        """The stored slice that an axial index of this view is; None where slices are not axial."""
        if self.axes[0] != 0:
            return None
        return shape[0] - 1 - index if self.flips[0] else index


class Panel(NamedTuple):
    """A slice to draw: its name, grey values and mask ``(row, column)`` top left first, mm of a row and a column."""

    name: PlaneName
    grey: npt.NDArray[np.generic]
    mask: BoolArray
    row_mm: float
    column_mm: float


def structure_picture(mask: BoolArray, volume: Volume, colour: tuple[int, int, int], title: str) -> str | None:
    """The three planes on which a structure is largest, as SVG text; None of an empty mask.

    Args:
        mask: bool ``(z, y, x)`` on the volume's grid.
        volume: the image, as stored or calibrated; its first channel is drawn.
        colour: of the outline.
        title: what the picture shows, for those who do not see it.
    """
    upright = Upright.of(volume.geometry)
    shown = np.asarray(upright.apply(mask), dtype=bool)
    box = _box(shown)
    if box is None:
        return None
    grey = upright.apply(volume.voxels[0])
    at = [_largest(shown[box], axis) + box[axis].start for axis in range(3)]
    window = window_of(grey[box][shown[box]], volume)
    side_mm = max(
        LEAST_MM, CONTEXT * max((one.stop - one.start) * mm for one, mm in zip(box, upright.spacing, strict=True))
    )
    field = max(size * mm for size, mm in zip(shown.shape, upright.spacing, strict=True))
    side_mm = min(side_mm, field)
    z_mm, y_mm, x_mm = upright.spacing
    panels = (
        Panel("axial", grey[at[0]], shown[at[0]], y_mm, x_mm),
        Panel("coronal", grey[::-1, at[1]], shown[::-1, at[1]], z_mm, x_mm),
        Panel("sagittal", grey[::-1, :, at[2]], shown[::-1, :, at[2]], z_mm, y_mm),
    )
    stored = upright.stored_axial(at[0], volume.geometry.shape)
    place = [f"slice {stored}"] if stored is not None else []
    notes = (" · ".join([*place, f"{window.name} window"] if window.name else place), "", "")
    centre = [(one.start + one.stop) / 2 for one in box]
    height = shown.shape[0]
    middles = ((centre[1], centre[2]), (height - centre[0], centre[2]), (height - centre[0], centre[1]))
    body = "".join(
        _panel(panel, number, note, middle, side_mm, window, colour)
        for number, (panel, note, middle) in enumerate(zip(panels, notes, middles, strict=True))
    )
    width, total = 3 * PANEL + 2 * GAP, PANEL + HEAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {total:g}" role="img" '
        f'font-family="system-ui,sans-serif"><title>{html.escape(title)}</title>{body}</svg>'
    )


def window_of(values: npt.NDArray[np.generic], volume: Volume) -> Window:
    """How grey values are drawn so that a structure is seen: by its mean on CT, else by the values of the image.

    Args:
        values: of the structure, as the volume has them: as stored where it has headers.
        volume: the image.
    """
    header = volume.headers[0] if volume.headers else {}
    slope, intercept = float(header.get("RescaleSlope") or 1.0), float(header.get("RescaleIntercept") or 0.0)
    if volume.modality == "ct" and slope > 0:
        mean = float(values.mean()) * slope + intercept if values.size else 0.0
        name = "lung" if mean < -300 else "bone" if mean > 250 else "soft tissue"
        low, high = ((one - intercept) / slope for one in _WINDOWS[name])
        return Window(low, high, name)
    few = volume.voxels[0][::4, ::4, ::4]
    low, high = (float(one) for one in np.percentile(few[np.isfinite(few)], (1, 99)))
    high = max(high, low + 1e-6)
    return Window(high, low) if header.get("PhotometricInterpretation") == "MONOCHROME1" else Window(low, high)


def _box(mask: BoolArray) -> tuple[slice, slice, slice] | None:
    """The smallest box around a mask; None of an empty one."""
    planes = np.flatnonzero(np.any(mask, axis=(1, 2)))
    if not planes.size:
        return None
    inner = np.asarray(np.any(mask[planes[0] : planes[-1] + 1], axis=0), dtype=bool)
    rows, columns = (np.flatnonzero(np.any(inner, axis=axis)) for axis in (1, 0))
    z, y, x = (slice(int(one[0]), int(one[-1]) + 1) for one in (planes, rows, columns))
    return z, y, x


def _largest(mask: BoolArray, axis: int) -> int:
    others = tuple(one for one in range(3) if one != axis)
    return int(np.count_nonzero(mask, axis=others).argmax())


def _panel(
    panel: Panel,
    number: int,
    note: str,
    middle: tuple[float, float],
    side_mm: float,
    window: Window,
    colour: tuple[int, int, int],
) -> str:
    """One plane: a square of ``side_mm`` around the structure, within the image where it fits."""
    rows, columns = panel.mask.shape
    top = _start(middle[0] * panel.row_mm, side_mm, rows * panel.row_mm)
    left = _start(middle[1] * panel.column_mm, side_mm, columns * panel.column_mm)
    first_row, last_row = _covered(top, side_mm, panel.row_mm, rows)
    first_column, last_column = _covered(left, side_mm, panel.column_mm, columns)
    part = (slice(first_row, last_row), slice(first_column, last_column))
    scale = PANEL / side_mm
    x, y = (first_column * panel.column_mm - left) * scale, (first_row * panel.row_mm - top) * scale
    width, height = (
        (last_column - first_column) * panel.column_mm * scale,
        (last_row - first_row) * panel.row_mm * scale,
    )
    image = jpeg(panel.grey[part], window, round(width * 1.3), round(height * 1.3))
    lines = outline_path(panel.mask[part])
    place = f"translate({x:.3f} {y:.3f}) scale({panel.column_mm * scale:.5f} {panel.row_mm * scale:.5f})"
    stroke = 'fill="none" vector-effect="non-scaling-stroke" stroke-linecap="square"'
    paint = "#{:02x}{:02x}{:02x}".format(*colour)
    head = panel.name + (f" · {note}" if note else "")
    return (
        f'<g transform="translate({number * (PANEL + GAP):g} 0)"><text x="0" y="15" font-size="13" fill="#3d444d">'
        f'{html.escape(head)}</text><svg y="{HEAD:g}" width="{PANEL:g}" height="{PANEL:g}">'
        f'<rect width="100%" height="100%"/><image x="{x:.3f}" y="{y:.3f}" width="{width:.3f}" height="{height:.3f}" '
        f'preserveAspectRatio="none" href="data:image/jpeg;base64,{image}"/><g transform="{place}">'
        f'<path d="{lines}" {stroke} stroke="#000" stroke-opacity=".55" stroke-width="3.4"/>'
        f'<path d="{lines}" {stroke} stroke="{paint}" stroke-width="1.8"/></g>'
        f"{marks(panel.name, side_mm)}</svg></g>"
    )


def _start(middle: float, side: float, length: float) -> float:
    """Where what is shown begins on an axis, in mm: moved into the image, or centred on one that is shorter."""
    if side >= length:
        return (length - side) / 2
    return min(max(0.0, middle - side / 2), length - side)


def _covered(start: float, side: float, step: float, count: int) -> tuple[int, int]:
    first = max(0, int(np.floor(start / step)))
    return first, min(count, int(np.ceil((start + side) / step)))


def outline_path(mask: BoolArray) -> str:
    """The edges of a mask as a path of horizontal and vertical lines."""
    return "".join(
        f"M{x0:g} {y0:g}H{x1:g}" if y0 == y1 else f"M{x0:g} {y0:g}V{y1:g}" for (x0, y0), (x1, y1) in outline_edges(mask)
    )


def jpeg(grey: npt.NDArray[np.generic], window: Window, width: int, height: int) -> str:
    """A slice in base64, no larger than it is drawn."""
    dark, bright = min(window.low, window.high), max(window.low, window.high)
    values = np.nan_to_num(grey.astype(np.float32), nan=window.low, posinf=bright, neginf=dark)
    levels = np.clip((values - window.low) * (255 / (window.high - window.low)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(levels)
    size = (min(picture.width, max(1, width), MOST_PIXELS), min(picture.height, max(1, height), MOST_PIXELS))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def marks(name: PlaneName, side_mm: float, size: float = PANEL) -> str:
    """Letters of the patient's sides, and a bar of round length."""
    left, right, top, bottom = _LETTERS[name]
    middle, edge = size / 2, size - 6
    style = 'font-size="14" font-weight="600" fill="#fff" stroke="#000" stroke-width="2.5" paint-order="stroke"'
    places = (
        (6, middle + 5, "start", left),
        (edge, middle + 5, "end", right),
        (middle, 17, "middle", top),
        (middle, edge, "middle", bottom),
    )
    letters = "".join(
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{letter}</text>' for x, y, anchor, letter in places
    )
    bar = next(mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm <= side_mm / 4 or mm == 1)
    length = bar * size / side_mm
    return (
        f'{letters}<path d="M8 {size - 10:g}h{length:.2f}" stroke="#000" stroke-opacity=".6" stroke-width="5"/>'
        f'<path d="M8 {size - 10:g}h{length:.2f}" stroke="#fff" stroke-width="2.5"/>'
        f'<text x="8" y="{size - 16:g}" font-size="11" fill="#fff" stroke="#000" stroke-width="2" '
        f'paint-order="stroke">{bar} mm</text>'
    )
