"""On which slice of a series a contour lies. Its coordinates decide; the image that it names is only compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oncoseg_core import ROUNDED_MM
from oncoseg_dicom.rtstruct.parse import Contour
from oncoseg_dicom.series.series import Series

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Placed:
    """Contours on a series' slices: ``plane`` of each, -1 for one that is left out, and the findings.

    ``nearest_mm`` is how far the nearest slice is from the contour nearest to one; ``notes`` are without the
    structure's name.
    """

    planes: Ints
    nearest_mm: float
    notes: tuple[str, ...]


def place(contours: Sequence[Contour], series: Series) -> Placed:
    """Find the slice of each contour, none of which is without points.

    A contour belongs to the nearest slice, if it is within half the usual distance of slices. Of contours at several
    heights that are nearest to one slice only those at the nearest height count: together they would cancel out.
    """
    normal = series.geometry.normal
    heights = np.array([plane.position for plane in series.planes]) @ normal
    along = [contour.points @ normal for contour in contours]
    height = np.array([float(values.mean()) for values in along])
    spread = np.array([float(np.abs(values - middle).max()) for values, middle in zip(along, height, strict=True)])
    order = np.argsort(heights)
    between = (heights[order][1:] + heights[order][:-1]) / 2
    planes = order[np.searchsorted(between, height)]
    off = height - heights[planes]

    reach = _reach(series, heights)
    slanted, beyond = spread > reach, (np.abs(off) > reach) & (spread <= reach)
    inside = ~slanted & ~beyond
    best = np.full(len(heights), np.inf)
    np.minimum.at(best, planes[inside], np.abs(off[inside]))
    crowded = inside & (np.abs(off) > best[planes] + ROUNDED_MM)
    # At the same distance on both sides of a slice, those below it count.
    lower = np.zeros(len(heights), dtype=bool)
    lower[planes[inside & (off < -ROUNDED_MM) & ~crowded]] = True
    crowded |= inside & (off > ROUNDED_MM) & lower[planes]
    kept = inside & ~crowded

    distance = np.maximum(np.abs(off), spread)
    notes = []
    displaced = kept & (distance > ROUNDED_MM)
    if displaced.any():
        notes.append(f"{_count(displaced)} up to {distance[displaced].max():.3g} mm off the slice that took it")
    if beyond.any():
        notes.append(f"{_count(beyond)} left out: up to {np.abs(off)[beyond].max():.3g} mm from any slice")
    if slanted.any():
        notes.append(f"{_count(slanted)} left out: not parallel to the slices, by up to {spread[slanted].max():.3g} mm")
    if crowded.any():
        notes.append(f"{_count(crowded)} left out: between slices, of which others are nearer to a contour")
    notes += _compare(contours, kept, planes, series)
    return Placed(np.where(kept, planes, -1), float(np.abs(off).min()), tuple(notes))


def in_pixels(points: Floats, planes: Ints, series: Series) -> Floats:
    """LPS mm ``(n, 3)`` on the slices ``planes`` ``(n,)`` as (x, y) in continuous pixels, seen along the normal."""
    places = np.array([plane.position for plane in series.planes])
    steps = np.stack([series.column_step, series.row_step], axis=1)
    return np.asarray((points - places[planes]) @ np.linalg.pinv(steps).T + 0.5, dtype=np.float64)


def _reach(series: Series, heights: Floats) -> float:
    """Half the usual distance of slices in mm, and a little for rounding."""
    usual = float(np.median(np.abs(np.diff(heights)))) if len(heights) > 1 else series.geometry.spacing[0]
    return usual / 2 + ROUNDED_MM


def _compare(contours: Sequence[Contour], kept: npt.NDArray[np.bool_], planes: Ints, series: Series) -> list[str]:
    """Notes on the images that contours name, which should be those that they lie on."""
    numbers = {(plane.sop_instance_uid, plane.frame): index for index, plane in enumerate(series.planes)}
    silent = strange = elsewhere = 0
    for contour, plane in zip(
        (one for one, keep in zip(contours, kept, strict=True) if keep), planes[kept], strict=True
    ):
        if contour.image is None:
            silent += 1
        elif contour.image not in numbers:
            strange += 1
        elif numbers[contour.image] != plane:
            elsewhere += 1
    notes = []
    if silent:
        notes.append(f"{silent} of {len(contours)} contours name no image: placed by their coordinates")
    if strange:
        notes.append(f"{strange} of {len(contours)} contours name an image of another series")
    if elsewhere:
        notes.append(
            f"{elsewhere} of {len(contours)} contours name another slice than that they lie on: placed by theirs"
        )
    return notes


def _count(chosen: npt.NDArray[np.bool_]) -> str:
    return f"{int(chosen.sum())} of {len(chosen)} contours"
