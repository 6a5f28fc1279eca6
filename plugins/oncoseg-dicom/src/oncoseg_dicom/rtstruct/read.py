"""Reading a structure set: the voxels of a series whose centres its contours enclose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from oncoseg_core import BoolArray, DataError, GeometryError, Structures
from oncoseg_dicom.packed_masks import PackedMasks
from oncoseg_dicom.rtstruct.contour_planes import in_pixels, near, on_slices, place
from oncoseg_dicom.rtstruct.filling import draw, fill, voxels_of_each
from oncoseg_dicom.rtstruct.overlaps import slices_with_overlaps
from oncoseg_dicom.rtstruct.parse import (
    ENCLOSING,
    Contour,
    DrawnStructure,
    Known,
    contours_of,
    in_frame_of_reference,
    name_of,
    structures_in,
)
from oncoseg_dicom.rtstruct.repeated import repeated
from oncoseg_dicom.series.series import Series

Ints = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]


class FilledStructure(NamedTuple):
    """One structure: its name, the voxels that it encloses, and what was found worth telling of it.

    ``mask`` is None where it has no contour on the series; ``nearest_mm`` says how far away the nearest is, infinite
    where none is parallel to the slices, None where it has none at all. ``one_by_one`` is how many voxels its contours
    enclose when each is filled on its own, added up. ``details`` are those of
    :class:`~oncoseg_dicom.rtstruct.parse.DrawnStructure`.
    """

    name: str
    mask: BoolArray | None
    notes: tuple[str, ...]
    nearest_mm: float | None
    one_by_one: int = 0
    details: Mapping[str, str] = MappingProxyType({})


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
    drawn, notes = in_frame_of_reference(structures_in(dataset), series, name)
    masks = PackedMasks(series.geometry.shape)
    details: dict[str, Mapping[str, str]] = {}
    nearest = []
    for structure in filled(drawn, series, name, pixel_centre=pixel_centre, look_for_overlaps=True):
        title = structure.name
        if structure.mask is not None:
            copies = 2
            while title in masks:
                title = f"{structure.name} ({copies})"
                copies += 1
            masks.add(title, structure.mask)
            details[title] = structure.details
        if title != structure.name:
            notes.append(f"{structure.name!r}: is the name of several structures; this one is told as {title!r}")
        notes += [f"{title!r}: {note}" for note in structure.notes]
        if structure.nearest_mm is not None:
            nearest.append(structure.nearest_mm)
    if not masks and nearest and min(nearest) == math.inf:
        raise GeometryError(
            f"{name}: no contour is parallel to the slices of the series: they were drawn across them, on sagittal, "
            "coronal or oblique images; choose the series that it was drawn on"
        )
    if not masks and nearest:
        raise GeometryError(
            f"{name}: no contour lies on the series: the nearest is {min(nearest):.4g} mm from any slice; choose the "
            "series that it was drawn on"
        )
    if not masks:
        raise DataError(f"{name}: holds no structure that encloses voxels ({'; '.join(notes) or 'it lists none'})")
    return Structures(masks, tuple(notes), details)


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
        contours, notes = _enclosing(contours_of(structure, name, known), series, least=1 if pixel_centre else 3)
        if not contours:
            yield FilledStructure(structure.name, None, (*notes, "has no contour that encloses voxels"), None)
            continue
        placed = place(contours, series)
        notes += placed.notes
        if (placed.planes < 0).all():
            yield FilledStructure(structure.name, None, tuple(notes), placed.nearest_mm)
            continue
        drawn = _Drawn.of(contours, placed.planes, series)
        once = ~drawn.again()
        if not once.all():
            where = on_slices(drawn.planes[~once])
            notes.append(f"{int((~once).sum())} contours are there twice, or nearly so: counted once ({where})")
            drawn = drawn.chosen(once)
        notes += drawn.cut_off(series)
        if look_for_overlaps:
            notes += drawn.overlaps(series)
        mask = np.zeros(series.geometry.shape, dtype=bool)
        fill(mask, *drawn[:3])
        each = voxels_of_each(drawn.points, drawn.lengths, mask.shape[1:])
        if pixel_centre:
            draw(mask, *drawn[:3])
        notes += _lost(mask, drawn.planes, each, through_centres=pixel_centre)
        yield FilledStructure(
            structure.name, mask, tuple(notes), placed.nearest_mm, int(each.sum()), MappingProxyType(structure.details)
        )


class _Drawn(NamedTuple):
    """Contours on slices: ``points`` (x, y) ``(n, 2)`` in continuous pixels, one contour after the other.

    ``lengths`` are the points of each contour, ``planes`` its slice; ``plain``: it is a CLOSED_PLANAR.
    """

    points: Points
    lengths: Ints
    planes: Ints
    plain: BoolArray

    @classmethod
    def of(cls, contours: list[Contour], planes: Ints, series: Series) -> _Drawn:
        """Those of the contours that have a slice."""
        placed = [contour for contour, plane in zip(contours, planes, strict=True) if plane >= 0]
        planes = planes[planes >= 0]
        lengths = np.array([len(contour.points) for contour in placed])
        points = np.concatenate([contour.points for contour in placed])
        plain = np.array([contour.kind == "CLOSED_PLANAR" for contour in placed])
        return cls(in_pixels(points, np.repeat(planes, lengths), series), lengths, planes, plain)

    def chosen(self, keep: BoolArray) -> _Drawn:
        """Some of them."""
        return _Drawn(
            self.points[np.repeat(keep, self.lengths)], self.lengths[keep], self.planes[keep], self.plain[keep]
        )

    def again(self) -> BoolArray:
        """Which repeat an earlier one. A CLOSED_PLANAR that does is a slip, and both would cancel each other out."""
        again = np.zeros(len(self.lengths), dtype=bool)
        seen = set()
        for index, ring in enumerate(np.split(self.points, np.cumsum(self.lengths)[:-1])):
            key = (int(self.planes[index]), ring.tobytes())
            again[index] = self.plain[index] and key in seen
            if self.plain[index]:
                seen.add(key)
        others = np.flatnonzero(self.plain & ~again)
        if len(others) > 1:
            rest = self.chosen(self.plain & ~again)
            again[others] = repeated(rest.points, rest.lengths, rest.planes)
        return again

    def overlaps(self, series: Series) -> list[str]:
        """A note on contours that overlap in part, if there are any."""
        points, lengths, planes, _ = self.chosen(self.plain)
        shared = slices_with_overlaps(points, lengths, planes, (series.rows, series.columns)) if len(lengths) else []
        if not shared:
            return []
        what = "what lies in two of them is left out"
        return [f"contours overlap in part on {len(shared)} slices: {what} ({on_slices(shared)})"]

    def cut_off(self, series: Series) -> list[str]:
        """A note on contours that reach beyond the image, if there are any."""
        begins = np.cumsum(self.lengths) - self.lengths
        low = np.minimum.reduceat(self.points, begins, axis=0)
        high = np.maximum.reduceat(self.points, begins, axis=0)
        beyond = np.maximum(np.maximum(-low, high - (series.columns, series.rows)), 0)
        outside = (beyond > 0.5).any(axis=1)  # so that a voxel's centre could be enclosed there
        if not outside.any():
            return []
        pixel = [np.linalg.norm(step) for step in (series.column_step, series.row_step)]
        reach = f"reach up to {float((beyond * pixel).max()):.3g} mm beyond the image: cut off at its border"
        return [f"{int(outside.sum())} of {len(outside)} contours {reach} ({on_slices(self.planes[outside])})"]


def _lost(mask: BoolArray, planes: Ints, each: Ints, *, through_centres: bool) -> list[str]:
    """Notes on contours, and slices, of which nothing came into a mask; ``each`` is what each contour encloses."""
    if not mask.any():
        return [f"encloses no voxel's centre ({on_slices(planes)})"]
    notes = []
    none = (each == 0) & (not through_centres)
    if none.any():
        notes.append(f"{int(none.sum())} of {len(none)} contours enclose no voxel's centre ({on_slices(planes[none])})")
    empty = [plane for plane in np.unique(planes[~none]).tolist() if not mask[plane].any()]
    if empty:
        notes.append(f"nothing is left of it where contours cancel each other out ({on_slices(empty)})")
    return notes


def _enclosing(contours: list[Contour], series: Series, least: int) -> tuple[list[Contour], list[str]]:
    """Those contours that can enclose voxels, and notes on the others."""
    notes = []

    def note(chosen: list[Contour], what: str) -> None:
        if chosen:
            slices = near(chosen, series)
            where = f" ({on_slices(slices)})" if slices else ""
            notes.append(f"{len(chosen)} of {len(contours)} contours {what}{where}")

    note(
        [contour for contour in contours if not contour.complete],
        "have another number of points than they say: cut off?",
    )
    for kind in sorted({contour.kind for contour in contours if contour.kind not in ENCLOSING}):
        note([contour for contour in contours if contour.kind == kind], f"left out: {kind} encloses nothing")
    closed = [contour for contour in contours if contour.kind in ENCLOSING]
    note([contour for contour in closed if len(contour.points) < least], f"left out: fewer than {least} points")
    return [contour for contour in closed if len(contour.points) >= least], notes
