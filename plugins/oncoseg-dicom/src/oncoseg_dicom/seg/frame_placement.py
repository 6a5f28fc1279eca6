"""Where a frame of a segmentation lies on the slices of a series.

A frame's pixels must lie on those of the series, but may run the other way, or be a part of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, GeometryError, is_rounding
from oncoseg_dicom.series.orientation import directions
from oncoseg_dicom.series.series import Series


class Placement(NamedTuple):
    """Where a frame's pixels lie on a slice of the series.

    ``slice_index`` says which; ``transposed``: the frame's rows run along the slice's columns; ``rows``, ``columns`` of
    the slice, in the order of the (transposed) frame's; ``size`` of the slice.
    """

    slice_index: int
    transposed: bool
    rows: npt.NDArray[np.int_]
    columns: npt.NDArray[np.int_]
    size: tuple[int, int]

    def laid(self, frame: BoolArray) -> BoolArray:
        """A frame on the slice ``(y, x)``.

        Raises:
            GeometryError: it has foreground outside of the slice.
        """
        if self.transposed:
            frame = frame.T
        if all(
            len(order) == size and order[0] == 0 and order[-1] == size - 1
            for order, size in zip((self.rows, self.columns), self.size, strict=True)
        ):
            return frame  # what almost every file has
        y = (self.rows >= 0) & (self.rows < self.size[0])
        x = (self.columns >= 0) & (self.columns < self.size[1])
        within = frame[np.ix_(y, x)]
        if np.count_nonzero(within) != np.count_nonzero(frame):
            raise GeometryError("a segment reaches beyond the images of the series: it is on another grid")
        slice_ = np.zeros(self.size, dtype=bool)
        slice_[np.ix_(self.rows[y], self.columns[x])] = within
        return slice_


def placement(series: Series, place: tuple[float, ...], size: tuple[int, int], name: str) -> Placement:
    """Find the slice and the pixels on which a frame lies.

    Args:
        series: whose slices.
        place: position (3), orientation (6) and pixel spacing (2) of the frame, as DICOM has them.
        size: rows and columns of the frame.
        name: of the frame, for the message.

    Raises:
        GeometryError: it lies elsewhere; with the distance in mm.
    """
    position, cosines = np.array(place[:3]), np.array(place[3:9])
    # As they are where they are no two directions: the message says what is wrong with where they lead.
    along_row, along_column = directions(cosines) or (cosines[:3], cosines[3:])
    column_step, row_step = along_row * place[10], along_column * place[9]
    normal = series.geometry.normal
    offsets = np.array([abs((plane.position - position) @ normal) for plane in series.planes])
    index = int(offsets.argmin())
    steps, rounding = series.geometry.affine[:3, :3], 2 * series.geometry.rounding_mm
    if not is_rounding(offsets[index] * normal, steps, rounding):
        raise GeometryError(f"{name} lies {offsets[index]:.3g} mm off the nearest slice of the series")
    plane = np.column_stack([series.column_step, series.row_step])
    at = np.column_stack([position - series.planes[index].position, column_step, row_step])
    start, right, down = np.rint(np.linalg.lstsq(plane, at, rcond=None)[0]).astype(int).T
    if abs(right).sum() != 1 or abs(down).sum() != 1 or right @ down != 0:
        raise GeometryError(f"{name} is turned against the images of the series, or its pixels have another size")
    corners = np.array([(j, i) for j in (0, size[1] - 1) for i in (0, size[0] - 1)])
    found = position + corners @ np.array([column_step, row_step])
    expected = series.planes[index].position + (start + corners @ np.array([right, down])) @ plane.T
    if not is_rounding(found - expected, steps, rounding).all():
        apart = float(np.linalg.norm(found - expected, axis=1).max())
        raise GeometryError(f"{name} lies up to {apart:.3g} mm beside the pixels of the series: it is on another grid")
    transposed = right[0] == 0
    across, downwards = (down, right) if transposed else (right, down)
    count = size[::-1] if transposed else size
    rows = start[1] + downwards[1] * np.arange(count[0])
    columns = start[0] + across[0] * np.arange(count[1])
    return Placement(index, bool(transposed), rows, columns, (series.rows, series.columns))
