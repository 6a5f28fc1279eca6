"""From slices in any order to one stack: sorted along the normal of their planes, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oncoseg_core import Geometry, GeometryError, half_digit, is_rounding, rounding_in_voxels
from oncoseg_dicom.series.frames import TELLS_APART, Frame
from oncoseg_dicom.series.orientation import COARSEST_COSINE, cosine_rounding, directions
from oncoseg_dicom.series.series import Float64

_SPACING_MM = (1e-4, 1e3)
"""Spacings beyond are damage: electron microscopes resolve more, radiographs of a whole body less."""

_FARTHEST_MM = 1e5
"""No slice lies 100 m from the origin."""

_SAME_PLACE, _NOTHING = 0.1, 0.01
"""Slices no further apart than this part of the usual distance, or of a pixel, are at one place."""

_TILT_DEGREES, _SHIFT = 0.1, 0.1
"""Smaller tilts, and smaller shifts in pixels, are not worth a note."""

_LISTED = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of z, their grid, and what is worth telling of it."""

    frames: tuple[Frame, ...]
    column_step: Float64
    row_step: Float64
    geometry: Geometry
    notes: tuple[str, ...]


class _Placed(NamedTuple):
    """A slice whose place is known: its first voxel's centre, the directions of rows and columns, and the spacing."""

    frame: Frame
    position: Float64
    row: Float64
    column: Float64
    spacing: Float64

    @property
    def column_step(self) -> Float64:
        """LPS mm to the voxel in the next column."""
        return np.asarray(self.row * self.spacing[1], dtype=np.float64)

    @property
    def row_step(self) -> Float64:
        """LPS mm to the voxel in the next row."""
        return np.asarray(self.column * self.spacing[0], dtype=np.float64)

    @property
    def corners(self) -> Float64:
        """Where the other three corners lie from the first voxel, in LPS mm ``(3, 3)``."""
        row, column = self.column_step * (self.frame.columns - 1), self.row_step * (self.frame.rows - 1)
        return np.array([row, column, row + column])

    @property
    def reach(self) -> float:
        """How far the last voxel lies from the first one, in mm."""
        return float(np.linalg.norm(self.corners[2]))

    @property
    def steps(self) -> Float64:
        """LPS mm to the next column and row and, of the slice, its normal, as long as the smaller of both."""
        normal = np.cross(self.row, self.column) * self.spacing.min()
        return np.column_stack([self.column_step, self.row_step, normal])


def stacked(frames: Sequence[Frame], name: str) -> Stack:
    """Sort slices along the normal of their planes (row direction cross column direction), along which z grows.

    Raises:
        GeometryError: a slice has no place, orientation or spacing, or an impossible one; orientations, sizes or
            spacings differ; or several slices are at one place.
    """
    slices = [_placed(frame) for frame in frames]
    _require_one_size(frames, name)
    _require_one_frame_of_reference(frames, name)
    _require_one_plane(slices, name)
    first = slices[0]
    across = np.cross(first.row, first.column)
    normal: Float64 = np.divide(across, np.linalg.norm(across))
    # At one place, in an order that does not depend on the files' order: they are refused, and listed, below.
    slices.sort(key=lambda one: (float(one.position @ normal), str(one.frame)))
    first = slices[0]
    origins = np.array([one.position for one in slices])
    _require_single_places([one.frame for one in slices], origins @ normal, float(first.spacing.min()), name)
    thickness = first.frame.thickness or 1.0
    extent = float(np.linalg.norm(origins[-1] - origins[0])) + first.reach
    rounding = half_digit(origins) + max(map(cosine_rounding, _cosines(slices))) * extent
    geometry = Geometry.from_slices(
        (first.frame.rows, first.frame.columns), first.column_step, first.row_step, origins, thickness, rounding
    )
    notes = [] if geometry.slice_origins is None and geometry.irregularity is None else _unevenness(origins, geometry)
    if len(slices) == 1 and not first.frame.thickness:
        notes.append("the thickness of the slice is not told; 1 mm is assumed")
    return Stack(tuple(one.frame for one in slices), first.column_step, first.row_step, geometry, tuple(notes))


def _placed(frame: Frame) -> _Placed:
    position = _required_value(frame, "ImagePositionPatient", frame.position)
    orientation = _required_value(frame, "ImageOrientationPatient", frame.orientation)
    spacing = _required_value(frame, "PixelSpacing", frame.spacing)
    pair = directions(orientation)
    if pair is None:
        raise GeometryError(
            f"{frame}: ImageOrientationPatient is {_listed(orientation)}; expected two directions of length 1 at right "
            "angles"
        )
    required_spacing(frame, spacing)
    if float(np.abs(position).max()) > _FARTHEST_MM:
        raise GeometryError(f"{frame}: ImagePositionPatient is {_listed(position)} mm: no place in a scanner")
    if frame.thickness is not None and not 0 <= frame.thickness <= _SPACING_MM[1]:
        raise GeometryError(f"{frame}: SliceThickness is {frame.thickness:g} mm; expected a size above 0")
    return _Placed(frame, position, *pair, spacing)


def _cosines(slices: Sequence[_Placed]) -> Float64:
    """The different ``ImageOrientationPatient`` of slices ``(n, 6)``."""
    return np.unique([one.frame.orientation for one in slices if one.frame.orientation is not None], axis=0)


def required_spacing(frame: Frame, spacing: Float64) -> tuple[float, float]:
    """The distance of rows and of columns in mm.

    Raises:
        GeometryError: they cannot be.
    """
    rows, columns = (float(value) for value in spacing)
    if not all(_SPACING_MM[0] <= value <= _SPACING_MM[1] for value in (rows, columns)):
        raise GeometryError(f"{frame}: PixelSpacing is {_listed(spacing)} mm; expected two sizes above 0")
    return rows, columns


def _required_value(frame: Frame, keyword: str, value: Float64 | None) -> Float64:
    if value is None:
        raise GeometryError(f"{frame}: has no {keyword}: a slice without its place in the body cannot be used")
    return value


def _require_one_size(frames: Sequence[Frame], name: str) -> None:
    sizes = Counter((frame.rows, frame.columns) for frame in frames)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [frame for frame in frames if (frame.rows, frame.columns) != usual]
        raise GeometryError(
            f"{name}: has slices of {usual[0]} x {usual[1]} pixels, but {len(others)} of another size: "
            f"{names(others)}; move them out"
        )


def _require_one_frame_of_reference(frames: Sequence[Frame], name: str) -> None:
    """Refuse slices whose positions do not count from one point."""
    frames_of_reference = Counter(frame.frame_of_reference for frame in frames)
    if len(frames_of_reference) > 1:
        usual = frames_of_reference.most_common(1)[0][0]
        others = [frame for frame in frames if frame.frame_of_reference != usual]
        raise GeometryError(
            f"{name}: {len(others)} of {len(frames)} slices have another FrameOfReferenceUID than the rest "
            f"({names(others)}): their positions cannot be compared; move them out"
        )


def _require_one_plane(slices: Sequence[_Placed], name: str) -> None:
    """Refuse slices whose corners are not where the usual orientation and spacing put them."""
    corners = np.array([one.corners for one in slices])
    rounded = [tuple(np.round(corner.ravel() / slices[0].spacing.min(), 1)) for corner in corners]
    usual = slices[rounded.index(Counter(rounded).most_common(1)[0][0])]
    # Of two slices, each of which has rounded cosines.
    rounding = 2 * half_digit(_cosines(slices), COARSEST_COSINE) * usual.reach
    alike = is_rounding(corners - usual.corners, usual.steps, rounding).all(axis=1)
    others = [one for one, same in zip(slices, alike, strict=True) if not same]
    if not others:
        return
    differing = [
        f"{keyword} {_listed(there)} and {_listed(here)}"
        for keyword, here, there in (
            ("ImageOrientationPatient", others[0].frame.orientation, usual.frame.orientation),
            ("PixelSpacing", others[0].spacing, usual.spacing),
        )
        if here is not None and there is not None and not np.allclose(here, there, atol=1e-6)
    ]
    raise GeometryError(
        f"{name}: has slices of more than one kind: {' and '.join(differing)} in {len(others)} of {len(slices)} "
        f"slices ({names([one.frame for one in others])}); move those that do not belong to it out"
    )


def _require_single_places(frames: Sequence[Frame], along: Float64, pixel_mm: float, name: str) -> None:
    gaps = np.diff(along)
    nothing = pixel_mm * _NOTHING
    apart = gaps[gaps > nothing]
    least = max(nothing, float(np.median(apart)) * _SAME_PLACE) if apart.size else nothing
    same = np.flatnonzero(gaps <= least)
    if not same.size:
        return
    involved = sorted({index for pair in same for index in (pair, pair + 1)})
    places = np.concatenate([[0], np.cumsum(gaps > least)])
    reason = "nothing tells them apart"
    if len({(frame.sop_instance_uid, frame.number) for frame in frames}) < len(frames):
        reason = "some are copies, with one SOPInstanceUID"
    for keyword in TELLS_APART:
        values = [frame.apart[keyword] for frame in frames]
        distinct = {(place, value) for place, value in zip(places, values, strict=True)}
        if len(distinct) == len(frames):
            kinds = sorted(set(values))
            reason = f"{keyword} tells them apart ({', '.join(kinds[:_LISTED])}{', …' * (len(kinds) > _LISTED)})"
            break
    listed = names([frames[index] for index in involved])
    raise GeometryError(
        f"{name}: {len(involved)} of {len(frames)} slices share a place with another ({listed}): {reason}; keep one "
        "image in the folder"
    )


def _unevenness(origins: Float64, geometry: Geometry) -> list[str]:
    """What is worth telling of slices that are not on an even, straight grid."""
    along = origins @ geometry.normal
    notes = [*_gaps(along, geometry), *_tilt(origins, geometry)]
    if geometry.slice_origins is not None and not notes:  # each is nearly right, and they add up
        notes.append(_uneven(np.diff(along)))
    return notes


def _gaps(along: Float64, geometry: Geometry) -> list[str]:
    gaps = np.diff(along)
    if gaps.size < 2:
        return []
    usual = float(np.median(gaps))
    allowed = float(rounding_in_voxels(geometry.affine[:3, :3], 2 * geometry.rounding_mm)[2]) * usual
    notes = []
    uneven = False
    for index, gap in enumerate(gaps):
        missing = round(gap / usual) - 1
        off = abs(gap - (missing + 1) * usual)
        if missing >= 1 and off <= 0.1 * usual:
            what = "1 slice seems" if missing == 1 else f"{missing} slices seem"
            notes.append(
                f"{what} to be missing between slices {index} and {index + 1} (counted from 0 along z): gap {gap:.4g} "
                f"mm, others {usual:.4g} mm"
            )
        elif off > allowed:
            uneven = True
    if len(notes) > _LISTED:
        notes = [*notes[:_LISTED], f"slices seem to be missing at {len(notes) - _LISTED} more places"]
    return [*notes, _uneven(gaps)] if uneven else notes


def _uneven(gaps: Float64) -> str:
    usual = float(np.median(gaps))
    return f"the slices are unevenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm, median {usual:.4g} mm"


def _tilt(origins: Float64, geometry: Geometry) -> list[str]:
    normal, least = geometry.normal, _SHIFT * min(geometry.spacing[1:])
    travel = origins[-1] - origins[0]
    along = float(travel @ normal)
    sideways = travel - normal * along
    notes = []
    angle = float(np.degrees(np.arctan2(np.linalg.norm(sideways), along)))
    if angle > _TILT_DEGREES and np.linalg.norm(sideways) > least:
        notes.append(f"gantry tilt {angle:.1f} degrees: the slices do not follow each other along their normal")
    across = origins - origins[0] - np.outer((origins - origins[0]) @ normal, normal + sideways / along)
    shift = float(np.linalg.norm(across, axis=1).max())
    if shift > least:
        notes.append(f"slices are shifted sideways against each other by up to {shift:.3g} mm")
    return notes


def names(frames: Sequence[Frame]) -> str:
    """The first few of them, and how many more."""
    listed = ", ".join(
        frame.short if frame.number is None else f"{frame.short} frame {frame.number}" for frame in frames[:_LISTED]
    )
    more = len(frames) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed


def _listed(values: Float64 | None) -> str:
    return "none" if values is None else "\\".join(f"{value:.6g}" for value in values)
