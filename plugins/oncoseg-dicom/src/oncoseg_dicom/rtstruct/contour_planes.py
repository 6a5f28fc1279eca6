"""On which slice of a series a contour lies. Its coordinates decide; the image that it names is only compared.

Contours of one slice may lie at slightly different heights: positions are rounded, programs add an offset to a part, a
person draws on a slice between two. Contours that were drawn on closer slices lie at different heights too, and would
cancel each other out on one slice. What tells them apart is how far they are from each other, as a part of the distance
of slices, whether they name the same image, and whether they share anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray
from oncoseg_dicom.rtstruct.filling import fill_polygons
from oncoseg_dicom.rtstruct.parse import Contour, Image
from oncoseg_dicom.series.series import Series

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ON_A_SLICE = 1 / 20
"""Of the distance of slices: contours this far from one lie on it."""

BESIDE = 1 / 4
"""Of the distance of slices: contours whose heights differ by this much may still be parts of one slice."""

MOST_DECIMALS = 9
"""Of a millimetre, beyond which nothing is rounded that matters."""

LISTED = 40
"""Runs of slices that a note lists."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Contours on a series' slices: ``planes`` of each, -1 for one that is left out, and the findings.

    ``nearest_mm`` is how far the nearest slice is from the contour nearest to one that is parallel to the slices,
    infinite where there is none such; ``notes`` are without the structure's name.
    """

    planes: Ints
    nearest_mm: float
    notes: tuple[str, ...]


def place(contours: Sequence[Contour], series: Series) -> Placed:
    """Find the slice of each contour, none of which is without points.

    A contour belongs to the nearest slice, if it is within half the usual distance of slices. Of contours at several
    heights that are nearest to one slice, those count that lie at the nearest height, as far as rounding lets this be
    known (:func:`tolerances_mm`); of the others within a quarter of the slices' distance, those that name the image of
    that slice as all the rest do, and those that overlap none of the rest.
    """
    normal = series.geometry.normal
    heights = np.array([plane.position for plane in series.planes]) @ normal
    along = [contour.points @ normal for contour in contours]
    height = np.array([float(values.mean()) for values in along])
    spread = np.array([float(np.abs(values - middle).max()) for values, middle in zip(along, height, strict=True)])
    planes = nearest_slices(height, heights)
    off = height - heights[planes]
    distances = slice_distances(heights, series.geometry.spacing[0])
    tolerance = tolerances_mm(distances, decimals_of(np.concatenate([one.points for one in contours])), normal)[planes]

    reach = float(np.median(np.abs(np.diff(np.sort(heights)))) if len(heights) > 1 else distances[0]) / 2 + tolerance
    slanted, beyond = spread > reach, (np.abs(off) > reach) & (spread <= reach)
    inside = ~slanted & ~beyond
    apart = off - _nearest_height(off, planes, inside, len(heights))[planes]
    kept = inside & (np.abs(apart) <= 2 * tolerance)
    others = inside & ~kept & (np.abs(apart) <= BESIDE * distances[planes])
    joined = _of_the_same_slice(contours, series, planes, kept, others)
    crowded = inside & ~kept & ~joined
    kept |= joined

    distance = np.maximum(np.abs(off), spread)
    remarks = (
        (kept & (distance > tolerance), distance, "up to {} off the slice that took it"),
        (beyond, off, "left out: up to {} from any slice; nearest is"),
        (slanted, spread, "left out: not parallel to the slices, by up to {}; in the middle is"),
        (crowded, apart, "left out: between slices, up to {} from others that are nearer to one"),
        (joined, apart, "counted although up to {} above or below others of their slice"),
    )
    notes = [
        f"{int(chosen.sum())} of {len(chosen)} contours {what.format(f'{np.abs(values[chosen]).max():.3g} mm')} "
        f"({on_slices(planes[chosen])})"
        for chosen, values, what in remarks
        if chosen.any()
    ]
    notes += _compare(contours, kept, planes, series)
    flat = np.abs(off)[~slanted]
    return Placed(np.where(kept, planes, -1), float(flat.min(initial=np.inf)), tuple(notes))


def in_pixels(points: Floats, planes: Ints, series: Series) -> Floats:
    """LPS mm ``(n, 3)`` on the slices ``planes`` ``(n,)`` as (x, y) in continuous pixels, seen along the normal."""
    places = np.array([plane.position for plane in series.planes])
    steps = np.stack([series.column_step, series.row_step], axis=1)
    return np.asarray((points - places[planes]) @ np.linalg.pinv(steps).T + 0.5, dtype=np.float64)


def near(contours: Sequence[Contour], series: Series) -> list[int]:
    """The slice nearest to each contour, or that of the image which it names if it has no points, as far as known."""
    numbers = _numbers_of_images(series)
    drawn = [contour.points @ series.geometry.normal for contour in contours if len(contour.points)]
    heights = np.array([plane.position for plane in series.planes]) @ series.geometry.normal
    found = nearest_slices(np.array([along.mean() for along in drawn]), heights).tolist()
    named = [numbers[one.image] for one in contours if not len(one.points) and one.image in numbers]
    return [*found, *named]


def nearest_slices(height: Floats, heights: Floats) -> Ints:
    """The index of the slice nearest to each height in mm along the normal; ``heights`` are those of the slices."""
    order = np.argsort(heights)
    between = (heights[order][1:] + heights[order][:-1]) / 2
    return np.asarray(order[np.searchsorted(between, height)], dtype=np.int64)


def slice_distances(heights: Floats, single: float) -> Floats:
    """The distance in mm of each slice from the nearer of its neighbours; ``single`` where there is but one slice."""
    if len(heights) == 1:
        return np.array([single])
    order = np.argsort(heights)
    gaps = np.diff(heights[order])
    nearer = np.empty(len(heights))
    nearer[order] = np.minimum(np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]]))
    return nearer


def tolerances_mm(distances: Floats, decimals: int, normal: Floats) -> Floats:
    """How far from a slice a contour lies on it, in mm, for each slice.

    A twentieth of the slices' distance, or what rounding a point's coordinates can move it along the normal if that is
    more; never so much that contours on both sides of a slice could be those of closer slices.

    Args:
        distances: of each slice from the nearer of its neighbours in mm.
        decimals: of a millimetre, to which the file's coordinates are rounded.
        normal: the unit vector across the slices.
    """
    rounding = float(np.abs(normal).sum()) * 0.5 * 10.0**-decimals
    return np.asarray(np.minimum(np.maximum(ON_A_SLICE * distances, rounding), BESIDE / 2 * distances))


def decimals_of(points: Floats) -> int:
    """To how many decimals of a millimetre coordinates are rounded: at least 1, since whole numbers need not be."""
    for decimals in range(1, MOST_DECIMALS):
        if np.abs(points - np.round(points, decimals)).max(initial=0.0) < 10.0**-MOST_DECIMALS:
            return decimals
    return MOST_DECIMALS


def on_slices(planes: Iterable[int] | Ints) -> str:
    """Which slices, counted from 0 along z: ``slice 4`` or ``slices 2-5, 8``."""
    indices = sorted({int(plane) for plane in planes})
    if len(indices) == 1:
        return f"slice {indices[0]}"
    starts = [indices[0], *(after for before, after in pairwise(indices) if after != before + 1)]
    ends = [*(before for before, after in pairwise(indices) if after != before + 1), indices[-1]]
    runs = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return f"slices {', '.join(runs[:LISTED])}{more}"


def _nearest_height(off: Floats, planes: Ints, inside: BoolArray, count: int) -> Floats:
    """Of each slice, how far the contour nearest to it is above it in mm; of two as near, the one below."""
    nearest = np.zeros(count)
    from_afar = np.lexsort((off, np.abs(off).round(3)))[::-1]
    from_afar = from_afar[inside[from_afar]]
    nearest[planes[from_afar]] = off[from_afar]  # of several for one slice, the last is kept
    return nearest


def _of_the_same_slice(
    contours: Sequence[Contour], series: Series, planes: Ints, kept: BoolArray, others: BoolArray
) -> BoolArray:
    """Which of the ``others``, at another height than those ``kept``, count on their slice all the same."""
    joined = np.zeros(len(contours), dtype=bool)
    if not others.any():
        return joined
    named = _slices_by_their_images(contours, planes, series)
    for plane in np.unique(planes[others]):
        here = np.flatnonzero(kept & (planes == plane))
        by_name = all(named.get(contours[index].image) == plane for index in here)
        taken = np.zeros((series.rows, series.columns), dtype=bool)
        for index in here:
            taken |= _alone(contours[index], plane, series)
        for index in np.flatnonzero(others & (planes == plane)):
            alone = _alone(contours[index], plane, series)
            if (by_name and named.get(contours[index].image) == plane) or not (taken & alone).any():
                joined[index] = True
                taken |= alone
    return joined


def _slices_by_their_images(contours: Sequence[Contour], planes: Ints, series: Series) -> dict[Image | None, int]:
    """The slice of each image that contours name, as far as it is that of all contours which name it."""
    numbers = _numbers_of_images(series)
    named: dict[Image | None, int] = {}
    for contour, plane in zip(contours, planes.tolist(), strict=True):
        if named.setdefault(contour.image, plane) != plane:
            named[contour.image] = -1
    return {image: plane for image, plane in named.items() if numbers.get(image) == plane}


def _numbers_of_images(series: Series) -> dict[Image | None, int]:
    return {(plane.sop_instance_uid, plane.frame): index for index, plane in enumerate(series.planes)}


def _alone(contour: Contour, plane: int, series: Series) -> BoolArray:
    """The pixels of a slice ``(y, x)`` that a contour encloses on its own."""
    points = in_pixels(contour.points, np.full(len(contour.points), plane), series)
    return fill_polygons([points], (series.rows, series.columns))


def _compare(contours: Sequence[Contour], kept: BoolArray, planes: Ints, series: Series) -> list[str]:
    """Notes on the images that contours name, which should be those that they lie on."""
    numbers = _numbers_of_images(series)
    silent = strange = 0
    elsewhere = []
    for contour, plane in zip(
        (one for one, keep in zip(contours, kept, strict=True) if keep), planes[kept].tolist(), strict=True
    ):
        if contour.image is None:
            silent += 1
        elif contour.image not in numbers:
            strange += 1
        elif numbers[contour.image] != plane:
            elsewhere.append(plane)
    notes = []
    if silent:
        notes.append(f"{silent} of {len(contours)} contours name no image: placed by their coordinates")
    if strange:
        notes.append(f"{strange} of {len(contours)} contours name an image of another series")
    if elsewhere:
        notes.append(
            f"{len(elsewhere)} of {len(contours)} contours name another slice than that they lie on: placed by their "
            f"coordinates ({on_slices(elsewhere)})"
        )
    return notes
