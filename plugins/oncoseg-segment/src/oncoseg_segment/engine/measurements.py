"""What a structure measures: volume, longest axial diameter with its perpendicular (RECIST 1.1), intensities.

Diameters run from edge to edge, as calipers on a contour do: between corners of voxels, so that one voxel of 1 x 1 mm
measures 1.41 mm. They are those of the convex outline (Feret): the line may leave a concave structure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from oncoseg_core import BoolArray, Geometry, NormalizerSpec, Volume

Float64 = npt.NDArray[np.float64]

PLANES = ("sagittal", "coronal", "axial")
"""By the patient's axis (left, back, head) that the slices are stacked along."""

DIRECTIONS = 16
"""In which a slice's width is taken before it is measured: none of its diameters is longer by more than 0.5 %."""


@dataclass(frozen=True)
class Diameter:
    """A line on a slice: its length, and its ends as ``(x, y)`` in continuous pixels and ``(x, y, z)`` in LPS mm."""

    mm: float
    ends_pixels: tuple[tuple[float, float], tuple[float, float]]
    ends_lps_mm: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Diameters:
    """The longest diameter on any slice, and the longest line at right angles to it within the same part's outline.

    ``plane`` is that of the slices; RECIST 1.1 asks for ``axial``.
    """

    slice: int
    plane: str
    longest: Diameter
    perpendicular: Diameter


@dataclass(frozen=True)
class Intensity:
    """Values of one channel within a structure, over its ``voxels`` that hold a number.

    ``std`` is that of these very voxels (divided by n).
    """

    channel: str
    unit: str
    voxels: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Measurements:
    """All of it; ``volume_ml`` and ``diameters`` are None of a picture without millimetres, or of an empty mask."""

    voxels: int
    volume_ml: float | None
    diameters: Diameters | None
    intensities: tuple[Intensity, ...]


def measure(
    mask: BoolArray, volume: Volume, specs: Sequence[NormalizerSpec], span: slice = slice(None)
) -> Measurements:
    """Measure one structure.

    Args:
        mask: bool ``(z, y, x)``.
        volume: the image, calibrated (:meth:`oncoseg_core.path.normalization.Normalization.calibrated`).
        specs: the records of its modality, one for all channels or one for each; none where it is not known.
        span: slices outside of which the mask is empty.
    """
    geometry = volume.geometry
    on_slices = np.zeros(len(mask), dtype=np.int64)
    box = (span, *_around(mask, span))
    on_slices[span] = np.count_nonzero(mask[box], axis=(1, 2))
    return Measurements(
        voxels=int(on_slices.sum()),
        volume_ml=float(on_slices @ geometry.voxel_mm3) / 1000 if volume.physical else None,
        diameters=axial_diameters(mask, geometry, span) if volume.physical else None,
        intensities=tuple(_intensities(mask[box], volume.voxels[(slice(None), *box)], volume, specs)),
    )


def _around(mask: BoolArray, span: slice) -> tuple[slice, slice]:
    """The rows and the columns that hold something on any slice: all else need not be looked at again."""
    plane: BoolArray = np.any(mask[span], axis=0)
    held = [np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 0) for at in held)
    return rows, columns


def _intensities(
    mask: BoolArray, voxels: npt.NDArray[np.generic], volume: Volume, specs: Sequence[NormalizerSpec]
) -> Iterator[Intensity]:
    for number, channel in enumerate(voxels):
        values = channel[mask].astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        unit = specs[number if len(specs) > 1 else 0].unit if specs else None
        yield Intensity(
            channel=volume.channel_names[number] if volume.channel_names else str(number),
            unit=unit or "as stored",
            voxels=int(values.size),
            mean=float(values.mean()),
            std=float(values.std()),
            min=float(values.min()),
            max=float(values.max()),
        )


def longest_diameter(mask: BoolArray, geometry: Geometry) -> float:
    """The length of the longest diameter in mm; 0 of an empty mask."""
    diameters = axial_diameters(mask, geometry)
    return 0.0 if diameters is None else diameters.longest.mm


def axial_diameters(mask: BoolArray, geometry: Geometry, span: slice = slice(None)) -> Diameters | None:
    """The longest diameter over all slices along z and their separate parts (8-connected); None of an empty mask.

    Outside of ``span`` the mask is empty.
    """
    to_mm = _in_plane(geometry)
    longest_yet = 0.0
    measured: list[tuple[float, int, Float64]] = []
    for bound, index, (rows, columns) in _slices_by_size(mask, to_mm, span):
        if bound < longest_yet - 1e-9:
            break
        for corners in _corners_of_parts(mask[index, rows, columns]):
            hull = convex_hull((corners + np.array([columns.start, rows.start])) @ to_mm)
            measured.append((float(_distances(hull).max()), index, hull))
        longest_yet = max(length for length, *_ in measured)
    if not measured:
        return None
    # Of equally long ones the first slice's: rounding must not choose.
    _, index, hull = min((one for one in measured if one[0] >= longest_yet - 1e-9), key=lambda one: one[1])
    longest, perpendicular = _cross(hull)
    back = np.linalg.inv(to_mm)
    return Diameters(
        slice=index,
        plane=PLANES[int(np.abs(geometry.normal).argmax())],
        longest=_diameter(longest, longest @ back, index, geometry),
        perpendicular=_diameter(perpendicular, perpendicular @ back, index, geometry),
    )


def convex_hull(points: Float64) -> Float64:
    """The corners of the convex hull of points ``(n, 2)``, in order around it (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0)
    chains = []
    for direction in (ordered, ordered[::-1]):
        chain: list[tuple[float, float]] = []
        for x, y in direction.tolist():
            while len(chain) > 1 and _turn(chain[-2], chain[-1], (x, y)) <= 0:
                chain.pop()
            chain.append((x, y))
        chains.append(chain[:-1])
    return np.asarray(chains[0] + chains[1], dtype=np.float64)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _in_plane(geometry: Geometry) -> Float64:
    """2 x 2, from pixels ``(x, y)`` as a row to mm in the slice, along a row and across it."""
    column, row = geometry.affine[:3, 0], geometry.affine[:3, 1]
    along = column / np.linalg.norm(column)
    across = np.cross(geometry.normal, along)
    return np.array([[column @ along, 0.0], [row @ along, row @ across]])


def _slices_by_size(mask: BoolArray, to_mm: Float64, span: slice) -> list[tuple[float, int, tuple[slice, slice]]]:
    """Each slice that holds something: the most that a diameter can be there, its index, its rows and columns.

    The most is the greatest width in one of ``DIRECTIONS``: a diameter is never longer than that by more than the
    cosine of half the angle between two of them. Sorted, so that few slices are measured exactly.
    """
    angles = np.arange(DIRECTIONS) * np.pi / DIRECTIONS
    across = to_mm @ np.array([np.cos(angles), np.sin(angles)])  # from pixels to mm along each direction
    found = []
    box = _around(mask, span)
    within = mask[(span, *box)]
    for at in np.flatnonzero(within.any(axis=(1, 2))):
        index = at + (span.start or 0)
        rows, columns = (
            slice(part.start + side.start, part.stop + side.start)
            for part, side in zip(_around(within, slice(at, at + 1)), box, strict=True)
        )
        window = (rows, columns)
        along = _row_ends(mask[index][window]) @ across
        bound = float((along.max(axis=0) - along.min(axis=0)).max()) / math.cos(np.pi / (2 * DIRECTIONS))
        found.append((bound * (1 + 1e-12), int(index), window))
    return sorted(found, key=lambda one: (-one[0], one[1]))


def _row_ends(mask: BoolArray) -> Float64:
    """The corners ``(n, 2)`` as (x, y) of the first and the last pixel of each row that holds some."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([x, y]) for x in (first, last) for y in (rows, rows + 1)], dtype=np.float64)


def _corners_of_parts(mask: BoolArray) -> Iterator[Float64]:
    """The row ends of each part of a mask ``(y, x)``."""
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    for number in range(1, int(labels.max()) + 1):
        yield _row_ends(labels == number)


def _distances(points: Float64) -> Float64:
    return np.asarray(np.linalg.norm(points[:, None] - points[None], axis=2), dtype=np.float64)


def _cross(hull: Float64) -> tuple[Float64, Float64]:
    """Ends ``(2, 2)`` of the longest diameter of a convex outline, and of its longest chord at right angles to that."""
    distances = _distances(hull)
    # Of equally long ones, the first in a fixed order: rounding must not choose.
    first, second = np.argwhere(distances >= distances.max() - 1e-9)[0]
    start, end = hull[first], hull[second]
    along = (end - start) / distances[first, second]
    across = np.array([-along[1], along[0]])
    place, height = (hull - start) @ along, (hull - start) @ across
    order = [(first + step) % len(hull) for step in range(len(hull))]
    there = order[: order.index(second) + 1]
    back = [first, *reversed(order[order.index(second) :])]
    # Between two neighbouring corners a chord's length changes evenly: the longest one begins or ends at a corner.
    sides = [np.interp(place, place[side], height[side]) for side in (there, back)]
    widest = int(np.abs(sides[0] - sides[1]).argmax())
    chord = np.array([start + place[widest] * along + side[widest] * across for side in sides])
    return np.array([start, end]), chord


def _diameter(ends: Float64, pixels: Float64, index: int, geometry: Geometry) -> Diameter:
    pixels = np.round(pixels, 6)  # corners of pixels, but for what going to mm and back leaves
    places = geometry.index_to_lps(np.column_stack([pixels - 0.5, np.full(2, index)]))
    return Diameter(
        mm=float(np.linalg.norm(ends[1] - ends[0])),
        ends_pixels=(_pair(pixels[0]), _pair(pixels[1])),
        ends_lps_mm=(_triple(places[0]), _triple(places[1])),
    )


def _pair(values: Sequence[float] | Float64) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _triple(values: Sequence[float] | Float64) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
