"""One series of slices: what was found, where each slice lies, and what belongs to all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_core import Geometry, ImageReadError
from oncoseg_core.system import display_path

Float64 = npt.NDArray[np.float64]

SeriesChoice = Annotated[str, Field(coerce_numbers_to_str=True)]
"""Type of a setting that chooses a series: its SeriesNumber, which the command line gives as a number, ``id:`` and its
short name, or ``uid:`` and the end of its SeriesInstanceUID."""


@dataclass(frozen=True)
class DicomFile:
    """A file on disk, or a member of a zip archive, which is never unpacked to disk."""

    path: Path
    member: str | None = None

    @property
    def leads_nowhere(self) -> bool:
        """Whether it is a link to a file that is not there."""
        return self.member is None and self.path.is_symlink() and not self.path.exists()

    def open(self) -> BinaryIO:
        """Its bytes; the caller closes it."""
        if self.member is None:
            return self.path.open("rb")
        archive = ZipFile(self.path)
        return archive.open(self.member)  # type: ignore[return-value]  # readable and seekable, as pydicom needs it


class FileState(NamedTuple):
    """A file on disk as it was when it was opened: another size or time means other content."""

    path: Path
    size: int
    modified_ns: int

    @property
    def unchanged(self) -> bool:
        """Whether the file is still there, with the same size and time."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.modified_ns)


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice. ``frame`` counts from 1 in a multi-frame object; ``position``: first voxel's centre in LPS mm.

    ``instance_number`` is the scanner's, None where there is none; nothing here goes by it.
    """

    file: DicomFile
    frame: int | None
    sop_class_uid: str
    sop_instance_uid: str
    position: Float64
    instance_number: int | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """A series of slices in one orientation, in the order of the volume's z axis (along the planes' normal).

    ``column_step`` and ``row_step`` are LPS mm from a voxel to its neighbour in the next column and row: the directions
    of ``ImageOrientationPatient``, of unit length and at right angles, times ``PixelSpacing[1]`` and ``[0]``.
    ``header`` is the first slice's ``pydicom.Dataset`` without its pixels: patient, study and frame of reference.
    ``modality`` is OncoSeg's name of what the intensities are, or ``unknown``. ``notes`` are findings worth telling
    (missing slices, a tilted gantry, …), without a word about the patient. ``physical`` is False of a picture whose
    millimetres in the body are not known. ``choice`` is the setting that chose it; ``files`` are the slices' files as
    they were when their headers were read.
    """

    source: Path
    planes: tuple[Plane, ...]
    rows: int
    columns: int
    column_step: Float64
    row_step: Float64
    header: Any = field(repr=False)  # it names the patient
    geometry: Geometry
    modality: str
    notes: tuple[str, ...] = ()
    physical: bool = True
    choice: str | None = None
    files: tuple[FileState, ...] = ()

    def require_unchanged(self) -> None:
        """Refuse to go on with headers that are no longer those of the files.

        Raises:
            ImageReadError: files were changed or removed since their headers were read.
        """
        changed = sum(not file.unchanged for file in self.files)
        if changed:
            raise ImageReadError(
                f"{display_path(self.source)}: {changed} of the {len(self.files)} files of the series changed on disk "
                "after the series was read; run the command again"
            )

    def require_grid(self, geometry: Geometry, name: str) -> None:
        """Refuse masks on another grid; ``name`` says whose it is.

        Raises:
            GeometryError: with the shapes, or the distance in mm.
        """
        self.geometry.require_same_grid(geometry, "the series", name)

    def plane_points(self, index: int, pixels: npt.ArrayLike) -> Float64:
        """LPS mm ``(n, 3)`` of continuous pixel coordinates ``(n, 2)`` as (x, y) on a slice, by the slice's own place.

        Pixel ``(row i, column j)`` covers ``[j, j+1) x [i, i+1)``, so that its centre is ``(j + 0.5, i + 0.5)``.
        """
        points = np.asarray(pixels, dtype=np.float64).reshape(-1, 2) - 0.5
        return np.asarray(
            self.planes[index].position + points[:, :1] * self.column_step + points[:, 1:] * self.row_step,
            dtype=np.float64,
        )
