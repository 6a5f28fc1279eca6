"""Reading a structure set: the voxels of a series whose centres its contours enclose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from oncoseg_core import BoolArray, DataError, GeometryError, Structures
from oncoseg_dicom.rtstruct.contour_planes import in_pixels, place
from oncoseg_dicom.rtstruct.filling import draw, fill
from oncoseg_dicom.rtstruct.overlaps import slices_with_overlaps
from oncoseg_dicom.rtstruct.parse import (
    ENCLOSING,
    Contour,
    DrawnStructure,
    Known,
    contours_of,
    name_of,
    require_frame_of_reference,
    structures_in,
)
from oncoseg_dicom.series.series import Series


class FilledStructure(NamedTuple):
    """One structure: its name, the voxels that it encloses, and what was found worth telling of it.

    ``mask`` is None where it has no contour on the series; ``nearest_mm`` says how far away the nearest is, None where
    it has none at all.
    """

    name: str
    mask: BoolArray | None
    notes: tuple[str, ...]
    nearest_mm: float | None


def read_structures(dataset: Dataset, series: Series, *, pixel_centre: bool = False) -> Structures:
    """Read all structures of an RT Structure Set on a series.

    A voxel belongs to a structure if its centre is inside an odd number of the structure's contours on its slice: so a
    contour in a contour is a hole, whatever its winding, and keyholes and CLOSEDPLANAR_XOR are read as they are meant.

    Args:
        dataset: as ``pydicom.dcmread`` gives it.
        series: the images that the structures were drawn on.
        pixel_centre: the contours run through the centres of the structure's outermost voxels (rt-utils draws so):
            voxels on a contour belong to the structure.

    Raises:
        ImageReadError: it is no structure set, or damaged.
        GeometryError: it belongs to another frame of reference, or no contour lies on the series.
        DataError: it holds no structure that can be read.
    """
    name = name_of(dataset)
    drawn = structures_in(dataset)
    notes = require_frame_of_reference(drawn, series, name)
    masks: dict[str, BoolArray] = {}
    nearest = []
    for structure in filled(drawn, series, name, pixel_centre=pixel_centre, look_for_overlaps=True):
        title = structure.name
        if structure.mask is not None:
            copies = 2
            while title in masks:
                title = f"{structure.name} ({copies})"
                copies += 1
            masks[title] = structure.mask
        if title != structure.name:
            notes.append(f"{structure.name!r}: is the name of several structures; this one is told as {title!r}")
        notes += [f"{title!r}: {note}" for note in structure.notes]
        if structure.nearest_mm is not None:
            nearest.append(structure.nearest_mm)
    if not masks and nearest:
        raise GeometryError(
            f"{name}: no contour lies on the series: the nearest is {min(nearest):.4g} mm from any slice; choose the "
            "series that it was drawn on"
        )
    if not masks:
        raise DataError(f"{name}: holds no structure that encloses voxels ({'; '.join(notes) or 'it lists none'})")
    return Structures(masks, tuple(notes))


def filled(
    structures: list[DrawnStructure],
    series: Series,
    name: str,
    *,
    pixel_centre: bool = False,
    look_for_overlaps: bool = False,
) -> Iterator[FilledStructure]:
    """Fill structures one after the other; only one mask at a time is held here.

    Args:
        structures: of one file, called ``name`` in messages.
        series: that they lie on.
        name: of the file.
        pixel_centre: as for :func:`read_structures`.
        look_for_overlaps: whether to tell of contours that overlap in part.

    Raises:
        ImageReadError: a contour is damaged.
    """
    known = Known()
    for structure in structures:
        contours, notes = _enclosing(contours_of(structure, name, known), least=1 if pixel_centre else 3)
        if not contours:
            yield FilledStructure(structure.name, None, (*notes, "has no contour that encloses voxels"), None)
            continue
        placed = place(contours, series)
        notes += placed.notes
        if (placed.planes < 0).all():
            yield FilledStructure(structure.name, None, tuple(notes), placed.nearest_mm)
            continue
        contours, planes, repeated = _once(contours, placed.planes)
        if repeated:
            notes.append(f"{repeated} contours are there twice: counted once")
        lengths = np.array([len(contour.points) for contour in contours])
        points = np.concatenate([contour.points for contour in contours])
        points = in_pixels(points, np.repeat(planes, lengths), series)
        if look_for_overlaps:
            plain = np.array([contour.kind == "CLOSED_PLANAR" for contour in contours])
            shared = slices_with_overlaps(
                points[np.repeat(plain, lengths)], lengths[plain], planes[plain], (series.rows, series.columns)
            )
            if shared:
                notes.append(f"contours overlap in part on {shared} slices: what lies in two of them is left out")
        mask = np.zeros(series.geometry.shape, dtype=bool)
        fill(mask, points, lengths, planes)
        if pixel_centre:
            draw(mask, points, lengths, planes)
        if not mask.any():
            notes.append("encloses no voxel's centre")
        yield FilledStructure(structure.name, mask, tuple(notes), placed.nearest_mm)


def _enclosing(contours: list[Contour], least: int) -> tuple[list[Contour], list[str]]:
    """Those contours that can enclose voxels, and notes on the others."""
    notes = []
    short = sum(not contour.complete for contour in contours)
    if short:
        notes.append(f"{short} of {len(contours)} contours have another number of points than they say: cut off?")
    kinds = sorted({contour.kind for contour in contours if contour.kind not in ENCLOSING})
    for kind in kinds:
        count = sum(contour.kind == kind for contour in contours)
        notes.append(f"{count} of {len(contours)} contours left out: {kind} encloses nothing")
    closed = [contour for contour in contours if contour.kind in ENCLOSING]
    enough = [contour for contour in closed if len(contour.points) >= least]
    if len(enough) < len(closed):
        notes.append(f"{len(closed) - len(enough)} of {len(contours)} contours left out: fewer than {least} points")
    return enough, notes


def _once(contours: list[Contour], planes: np.ndarray) -> tuple[list[Contour], np.ndarray, int]:
    """Placed contours, each once: a CLOSED_PLANAR written twice is a slip, and would cancel itself out."""
    kept, seen = [], set()
    repeated = 0
    for index, (contour, plane) in enumerate(zip(contours, planes, strict=True)):
        if plane < 0:
            continue
        if contour.kind == "CLOSED_PLANAR":
            key = contour.points.tobytes()
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
        kept.append(index)
    return [contours[index] for index in kept], planes[kept], repeated
