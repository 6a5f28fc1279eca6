"""One series of slices: what was found, where each slice lies, and what belongs to all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_core import Geometry, Volume

Float64 = npt.NDArray[np.float64]

SeriesChoice = Annotated[str, Field(coerce_numbers_to_str=True)]
"""Type of a setting that chooses a series: its SeriesNumber, which the command line gives as a number, or ``uid:`` and
the end of its SeriesInstanceUID."""

EXPORT_TOLERANCE_MM = 0.05
"""Masks and series whose voxels are no further apart lie on one grid: positions in DICOM files are often rounded to a
tenth of a millimetre, and other formats round them again."""


@dataclass(frozen=True)
class DicomFile:
    """A file on disk, or a member of a zip archive, which is never unpacked to disk."""

    path: Path
    member: str | None = None

    def open(self) -> BinaryIO:
        """Its bytes; the caller closes it."""
        if self.member is None:
            return self.path.open("rb")
        archive = ZipFile(self.path)
        return archive.open(self.member)  # type: ignore[return-value]  # readable and seekable, as pydicom needs it


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice. ``frame`` counts from 1 in a multi-frame object; ``position``: first voxel's centre in LPS mm."""

    file: DicomFile
    frame: int | None
    sop_class_uid: str
    sop_instance_uid: str
    position: Float64


@dataclass(frozen=True, eq=False)
class Series:
    """A series of slices in one orientation, in the order of the volume's z axis (along the planes' normal).

    ``column_step`` and ``row_step`` are LPS mm from a voxel to its neighbour in the next column and row: exactly
    ``ImageOrientationPatient[:3] * PixelSpacing[1]`` and ``ImageOrientationPatient[3:] * PixelSpacing[0]``.
    ``header`` is the first slice's ``pydicom.Dataset`` without its pixels: patient, study and frame of reference.
    ``modality`` is OncoSeg's name of what the intensities are, or ``unknown``. ``notes`` are findings worth telling
    (missing slices, a tilted gantry, …), without a word about the patient. ``physical`` is False of a picture whose
    millimetres in the body are not known.
    """

    source: Path
    planes: tuple[Plane, ...]
    rows: int
    columns: int
    column_step: Float64
    row_step: Float64
    header: Any
    geometry: Geometry
    modality: str
    notes: tuple[str, ...] = ()
    physical: bool = True

    def require_grid(self, geometry: Geometry, name: str) -> None:
        """Refuse masks on another grid; ``name`` says whose it is.

        Raises:
            GeometryError: with the shapes, or the distance in mm.
        """
        self.geometry.require_same_grid(geometry, "the series", name, EXPORT_TOLERANCE_MM)

    def plane_points(self, index: int, pixels: npt.ArrayLike) -> Float64:
        """LPS mm ``(n, 3)`` of continuous pixel coordinates ``(n, 2)`` as (x, y) on a slice, by the slice's own place.

        Pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``, so that its centre is ``(j + 0.5, i + 0.5)``.
        """
        points = np.asarray(pixels, dtype=np.float64).reshape(-1, 2) - 0.5
        return np.asarray(
            self.planes[index].position + points[:, :1] * self.column_step + points[:, 1:] * self.row_step,
            dtype=np.float64,
        )


def find_series(path: Path, series: str | None = None) -> Series:
    """The one image series that a folder, zip or file holds, from its headers; pixels are not read.

    Args:
        path: files may be of many series and in any order.
        series: which one to take, where there are several: its SeriesNumber, or ``uid:`` and the end of its
            SeriesInstanceUID.

    Raises:
        ImageReadError: there is none, several and none was chosen, or a file is damaged.
        GeometryError: two slices at one place, two orientations or mixed spacings; the files are listed.
    """
    from oncoseg_dicom.series.search import find

    return find(path, series)


def read_voxels(series: Series) -> Volume:
    """Read a series' pixels: voxels ``(1, z, y, x)`` rescaled, or ``(3, z, y, x)`` of colours, with their headers.

    Raises:
        ImageReadError: a file is damaged.
        MissingDependencyError: its compression needs a library that is not installed.
    """
    from oncoseg_dicom.series.pixels import read

    return read(series)
