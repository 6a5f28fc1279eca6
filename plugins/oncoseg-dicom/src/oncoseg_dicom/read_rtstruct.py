"""Reading a structure set: the voxels of a series whose centres its contours enclose."""

from __future__ import annotations

from typing import NamedTuple

from pydicom.dataset import Dataset

from oncoseg_core.volume import BoolArray
from oncoseg_dicom.series import Series


class Structures(NamedTuple):
    """Masks bool ``(z, y, x)`` on the series' grid by the structure's name, and what was found worth telling."""

    masks: dict[str, BoolArray]
    notes: tuple[str, ...]


def read_structures(dataset: Dataset, series: Series, *, pixel_centre: bool = False) -> Structures:
    """Read all structures of an RT Structure Set on a series.

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
    raise NotImplementedError
