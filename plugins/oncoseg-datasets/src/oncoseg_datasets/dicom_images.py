"""DICOM images of datasets: one film, or one evenly spaced series of slices; read by oncoseg-dicom.

What is refused here beyond what oncoseg-dicom refuses is a convention of these datasets: a film is one grey frame, and
a series lies on an even, straight grid. Everything that is not that is refused with the files named.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oncoseg_core import Geometry, GeometryError, ImageReadError, Volume, is_rounding
from oncoseg_dicom import Series as DicomSeries
from oncoseg_dicom import read_frame, read_voxels, series_of_files

_OFF_GRID = 0.1
"""How far a slice may lie from its place on an even grid, as part of the slice distance; rounding is added. One missing
slice moves some slice by half the distance or more."""


@dataclass(frozen=True, eq=False)
class Series:
    """A series in memory. The tuples are in the order of the volume's z axis."""

    volume: Volume
    files: tuple[Path, ...]
    instance_numbers: tuple[int | None, ...]
    sop_instance_uids: tuple[str, ...]


def read_film(path: Path, modality: str) -> Volume:
    """A radiograph or mammogram: voxels ``(1, 1, y, x)`` rescaled, on a grid without millimetres.

    The distance of a film's pixels in the body is not known (``ImagerPixelSpacing`` is that at the detector), so the
    volume is not physical and its spacing reads 1.

    Raises:
        ImageReadError: it cannot be read, or is not one grey frame.
        MissingDependencyError: its compression needs a library that is not installed.
    """
    pixels, header = read_frame(path)
    if len(pixels) != 1:
        raise ImageReadError(f"{path}: holds colours; expected one grey image")
    geometry = Geometry.from_parts((1, *pixels.shape[1:]))
    return Volume(pixels[:, np.newaxis], geometry, modality, path, physical=False, headers=(header,))


def read_series(files: Iterable[Path], modality: str) -> Series:
    """A series of slices: voxels ``(1, z, y, x)`` rescaled slice by slice, z growing along the planes' normal.

    Args:
        files: one file per slice, in any order.
        modality: what the intensities are.

    Raises:
        ImageReadError: a file cannot be read, is no slice with a place in the body, or belongs to another series.
        GeometryError: slices differ in orientation, size or pixel spacing, lie at one place, leave a gap, or are
            shifted against each other.
        MissingDependencyError: their compression needs a library that is not installed.
    """
    series = series_of_files(files)
    if any(plane.frame is not None for plane in series.planes):
        raise ImageReadError(f"{series.source}: holds files of several frames; expected one DICOM file per slice")
    geometry = _even_grid(series)
    volume = read_voxels(series)
    if len(volume.voxels) != 1:
        raise ImageReadError(f"{series.source}: holds colours; expected grey slices")
    volume = replace(volume, geometry=geometry, modality=modality, notes=(), handle=None)
    return Series(
        volume,
        tuple(plane.file.path for plane in series.planes),
        tuple(plane.instance_number for plane in series.planes),
        tuple(plane.sop_instance_uid for plane in series.planes),
    )


def _even_grid(series: DicomSeries) -> Geometry:
    """The grid of slices that follow each other along their normal at one distance, but for rounding.

    Raises:
        GeometryError: there is a gap, or the gantry was tilted; the files are named.
    """
    geometry = series.geometry
    if len(series.planes) == 1:
        return geometry
    normal = geometry.normal
    places = np.array([plane.position for plane in series.planes])
    along = (places - places[0]) @ normal
    mean = float(along[-1] / (len(along) - 1))
    off = float(np.abs(along - mean * np.arange(len(along))).max())
    if off > mean * _OFF_GRID + min(2 * geometry.rounding_mm, mean / 4):
        one, two, gap, usual = _widest_gap(series, along)
        raise GeometryError(
            f"{one} and {two} are {gap:.4g} mm apart, but other slices {usual:.4g} mm (off an even grid by up to "
            f"{off:.3g} mm): complete the series, or resample it"
        )
    affine = geometry.affine.copy()
    affine[:3, 2] = normal * mean
    shift = places[-1] - places[0] - normal * along[-1]
    if not is_rounding(shift, affine[:3, :3], 2 * geometry.rounding_mm):
        raise GeometryError(
            f"{series.planes[0].file.path} and {series.planes[-1].file.path} are shifted by "
            f"{np.linalg.norm(shift):.3g} mm across their normal: the gantry was tilted; resample the series to a "
            "straight grid first"
        )
    return Geometry(geometry.shape, affine, None, geometry.rounding_mm)


def _widest_gap(series: DicomSeries, along: npt.NDArray[np.float64]) -> tuple[Path, Path, float, float]:
    """The two files whose distance differs most from the usual one, and both distances in mm."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    worst = int(np.abs(steps - usual).argmax())
    return series.planes[worst].file.path, series.planes[worst + 1].file.path, float(steps[worst]), usual
