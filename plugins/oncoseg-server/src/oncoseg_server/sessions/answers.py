"""What a step changed, and every structure as it is after it, in the words of the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_client import encode_mask
from oncoseg_core import BoolArray, Geometry, Volume
from oncoseg_dicom import Series
from oncoseg_segment.api import Diameters, KeptStructure, SegmentationResult, StructureRequest
from oncoseg_server.wire import Bits, Change, ImageInfo, Instance, Line, StructureInfo

Masks = Mapping[str, BoolArray]
"""Bool ``(z, y, x)`` by structure."""


def changes_between(before: Masks, after: Masks) -> list[Change]:
    """The smallest rectangle of each slice of each structure that holds all pixels that are not as before."""
    changes = []
    for name in [*after, *(name for name in before if name not in after)]:
        old, new = before.get(name), after.get(name)
        if old is not new:
            changes += list(_of_structure(name, old, new))
    return changes


def _of_structure(name: str, old: BoolArray | None, new: BoolArray | None) -> Iterator[Change]:
    either = new if new is not None else old
    assert either is not None  # noqa: S101 - one of them is there
    empty = np.zeros(either.shape[1:], dtype=bool)
    for index in np.flatnonzero(_changed(old, new)):
        first = empty if old is None else old[index]
        second = empty if new is None else new[index]
        different = first != second
        rows, columns = np.flatnonzero(different.any(axis=1)), np.flatnonzero(different.any(axis=0))
        within = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        yield Change(structure=name, slice=int(index), mask=Bits(**encode_mask(second, within)))


def _changed(old: BoolArray | None, new: BoolArray | None) -> BoolArray:
    """Which slices are not as before; eight voxels are compared at a time where they can be."""
    rows = [_words(mask) for mask in (old, new) if mask is not None]
    different = rows[0] != rows[1] if len(rows) == 2 else rows[0] != 0
    return np.asarray(different.any(axis=1), dtype=bool)


def _words(mask: BoolArray) -> npt.NDArray[np.integer[Any]]:
    flat = np.ascontiguousarray(mask).reshape(len(mask), -1)
    return flat.view(np.uint64 if flat.shape[1] % 8 == 0 else np.uint8)


def structure_info(result: SegmentationResult, one: KeptStructure, step_slice: int | None) -> StructureInfo:
    """A structure's numbers. ``step_slice`` is the one that its area is of."""
    measured, volume = one.measurements, result.fitted.volume
    slices = [int(index) for index in np.flatnonzero(one.mask.any(axis=(1, 2)))]
    area = None
    if volume.physical and step_slice is not None:
        area = float(np.count_nonzero(one.mask[step_slice])) * _pixel_mm2(volume.geometry)
    intensity = measured.intensities[0] if len(measured.intensities) == 1 else None  # one of several says too little
    return StructureInfo(
        name=one.name,
        slices=slices,
        score=float(one.result.score) if np.isfinite(one.result.score) else None,
        presence=result.presence[one.name],
        edited=any(request.name == one.name and _edited(request) for request in result.requests),
        propagated=one.result.ended is not None,
        voxels=measured.voxels,
        area_mm2=area,
        volume_ml=measured.volume_ml if len(slices) > 1 else None,
        mean=None if intensity is None else intensity.mean,
        unit=None if intensity is None else intensity.unit,
        diameter_slice=None if measured.diameters is None else measured.diameters.slice,
        long=_line(measured.diameters, "longest"),
        short=_line(measured.diameters, "perpendicular"),
        findings=[finding.message for finding in result.findings if finding.about == one.name],
    )


def _edited(request: StructureRequest) -> bool:
    """Whether a hand drew on a slice of a structure."""
    below = request.over is not None and _edited(request.over)
    return below or any(slice_prompt.drawn is not None for slice_prompt in request.placed)


def image_findings(result: SegmentationResult) -> list[str]:
    """What is to be said of the image and the model, not of one structure."""
    names = {one.name for one in result.structures}
    return [finding.message for finding in result.findings if finding.about not in names]


def image_info(volume: Volume, series: Series | None, findings: list[str]) -> ImageInfo:
    """What a viewer needs to know of an opened image; ``series`` is None of one that was sent as voxels."""
    geometry = volume.geometry
    depth, rows, columns = geometry.shape
    planes = () if series is None else series.planes
    return ImageInfo(
        rows=rows,
        columns=columns,
        slices=depth,
        modality=volume.modality,
        physical=volume.physical,
        spacing_mm=[float(value) for value in geometry.spacing],
        affine=[[float(value) for value in row] for row in geometry.affine],
        instances=[Instance(sop_uid=plane.sop_instance_uid, frame=plane.frame) for plane in planes],
        findings=findings,
    )


def _pixel_mm2(geometry: Geometry) -> float:
    column, row = geometry.affine[:3, 0], geometry.affine[:3, 1]
    return float(np.linalg.norm(np.cross(column, row)))


def _line(diameters: Diameters | None, which: str) -> Line | None:
    if diameters is None:
        return None
    line = diameters.longest if which == "longest" else diameters.perpendicular
    return Line(
        mm=line.mm,
        ends_pixels=[list(point) for point in line.ends_pixels],
        ends_lps_mm=[list(point) for point in line.ends_lps_mm],
    )
