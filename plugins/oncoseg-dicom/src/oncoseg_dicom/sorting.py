"""From slices in any order to one stack: sorted along the normal of their planes, and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oncoseg_core.errors import GeometryError
from oncoseg_core.geometry import Geometry
from oncoseg_dicom.frames import TELLS_APART, Frame
from oncoseg_dicom.series import EXPORT_TOLERANCE_MM, Float64

_UNIT = 1e-3
"""How far the length of a direction may be from 1, and two directions from a right angle (cosine): rounding."""

_SPACING_MM = (1e-4, 1e3)
"""Spacings beyond are damage: electron microscopes resolve more, radiographs of a whole body less."""

_FARTHEST_MM = 1e5
"""No slice lies 100 m from the origin."""

_SAME_PLACE = 0.1
"""Slices no further apart than this part of the usual distance, or a hundredth of a millimetre, are at one place."""

_TILT_DEGREES, _SHIFT_MM = 0.1, 0.1
"""Smaller tilts and shifts are rounding, and not worth a note."""

_LISTED = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of z, their grid, and what is worth telling of it."""

    frames: tuple[Frame, ...]
    column_step: Float64
    row_step: Float64
    geometry: Geometry
    notes: tuple[str, ...]


def stacked(frames: Sequence[Frame], name: str) -> Stack:
    """Sort slices along the normal of their planes (row direction cross column direction), along which z grows.

    Raises:
        GeometryError: a slice has no place, orientation or spacing, or an impossible one; orientations, sizes or
            spacings differ; or several slices are at one place.
    """
    for frame in frames:
        _require_place(frame)
    first = frames[0]
    _require_one_size(frames)
    assert first.orientation is not None  # noqa: S101 - as just required
    assert first.spacing is not None  # noqa: S101
    _require_one_plane(frames)
    column_step = first.orientation[:3] * first.spacing[1]
    row_step = first.orientation[3:] * first.spacing[0]
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    normal /= np.linalg.norm(normal)
    along = np.array([frame.position @ normal for frame in frames])
    # At one place, in an order that does not depend on the files' order: they are refused, and listed, below.
    order = sorted(range(len(frames)), key=lambda index: (along[index], str(frames[index])))
    ordered, along = [frames[index] for index in order], along[order]
    _require_single_places(ordered, along, name)
    origins = np.array([frame.position for frame in ordered])
    thickness = first.thickness if first.thickness is not None and first.thickness > 0 else 1.0
    geometry = Geometry.from_slices((first.rows, first.columns), column_step, row_step, origins, thickness)
    notes = [*_gaps(along), *_tilt(origins, normal)]
    if len(ordered) == 1 and thickness != first.thickness:
        notes.append("the thickness of the slice is not told; 1 mm is assumed")
    return Stack(tuple(ordered), column_step, row_step, geometry, tuple(notes))


def _require_place(frame: Frame) -> None:
    for keyword, value in (
        ("ImagePositionPatient", frame.position),
        ("ImageOrientationPatient", frame.orientation),
        ("PixelSpacing", frame.spacing),
    ):
        if value is None:
            raise GeometryError(f"{frame}: has no {keyword}: a slice without its place in the body cannot be used")
    position, orientation, spacing = frame.position, frame.orientation, frame.spacing
    row, column = orientation[:3], orientation[3:]  # type: ignore[index]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > _UNIT or abs(row @ column) > _UNIT:
        raise GeometryError(
            f"{frame}: ImageOrientationPatient is {_listed(orientation)}; expected two directions of length 1 at right "
            "angles"
        )
    if not all(_SPACING_MM[0] <= value <= _SPACING_MM[1] for value in spacing):  # type: ignore[union-attr]
        raise GeometryError(f"{frame}: PixelSpacing is {_listed(spacing)} mm; expected two sizes above 0")
    if np.abs(position).max() > _FARTHEST_MM:  # type: ignore[arg-type]
        raise GeometryError(f"{frame}: ImagePositionPatient is {_listed(position)} mm: no place in a scanner")
    if frame.thickness is not None and not 0 <= frame.thickness <= _SPACING_MM[1]:
        raise GeometryError(f"{frame}: SliceThickness is {frame.thickness:g} mm; expected a size above 0")


def _require_one_size(frames: Sequence[Frame]) -> None:
    sizes = Counter((frame.rows, frame.columns) for frame in frames)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        others = [frame for frame in frames if (frame.rows, frame.columns) != usual]
        raise GeometryError(
            f"the series has slices of {usual[0]} x {usual[1]} pixels, but {len(others)} of another size: "
            f"{names(others)}; move them out"
        )


def _require_one_plane(frames: Sequence[Frame]) -> None:
    """Refuse slices whose far corner is not where the usual orientation and spacing put it."""
    corners = np.array([_corners(frame) for frame in frames])
    rounded = [tuple(np.round(corner.ravel(), 1)) for corner in corners]
    reference = rounded.index(Counter(rounded).most_common(1)[0][0])
    apart = np.linalg.norm(corners - corners[reference], axis=2).max(axis=1)
    others = [frame for frame, distance in zip(frames, apart, strict=True) if distance > EXPORT_TOLERANCE_MM]
    if not others:
        return
    differing = [
        f"{keyword} {_listed(there)} and {_listed(here)}"
        for keyword, here, there in (
            ("ImageOrientationPatient", others[0].orientation, frames[reference].orientation),
            ("PixelSpacing", others[0].spacing, frames[reference].spacing),
        )
        if not np.allclose(here, there, atol=1e-6)  # type: ignore[arg-type]
    ]
    raise GeometryError(
        f"the series has slices of more than one kind: {' and '.join(differing)} in {len(others)} of {len(frames)} "
        f"slices ({names(others)}); move those that do not belong to it out"
    )


def _corners(frame: Frame) -> Float64:
    """Where the other three corners of a slice lie from its first pixel, in LPS mm ``(3, 3)``."""
    row = frame.orientation[:3] * frame.spacing[1] * (frame.columns - 1)  # type: ignore[index]
    column = frame.orientation[3:] * frame.spacing[0] * (frame.rows - 1)  # type: ignore[index]
    return np.array([row, column, row + column])


def _require_single_places(frames: Sequence[Frame], along: Float64, name: str) -> None:
    gaps = np.diff(along)
    apart = gaps[gaps > 0.01]
    least = max(0.01, float(np.median(apart)) * _SAME_PLACE) if apart.size else 0.01
    same = np.flatnonzero(gaps <= least)
    if not same.size:
        return
    involved = sorted({index for pair in same for index in (pair, pair + 1)})
    places = np.concatenate([[0], np.cumsum(gaps > least)])
    reason = "they are copies, or of several images"
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


def _gaps(along: Float64) -> list[str]:
    gaps = np.diff(along)
    if gaps.size < 2:
        return []
    usual = float(np.median(gaps))
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
        elif off > 0.1:
            uneven = True
    if len(notes) > _LISTED:
        notes = [*notes[:_LISTED], f"slices seem to be missing at {len(notes) - _LISTED} more places"]
    if uneven:
        notes.append(f"the slices are unevenly spaced: {gaps.min():.4g} to {gaps.max():.4g} mm, median {usual:.4g} mm")
    return notes


def _tilt(origins: Float64, normal: Float64) -> list[str]:
    if len(origins) < 2:
        return []
    travel = origins[-1] - origins[0]
    along = float(travel @ normal)
    sideways = travel - normal * along
    notes = []
    angle = float(np.degrees(np.arctan2(np.linalg.norm(sideways), along)))
    if angle > _TILT_DEGREES and np.linalg.norm(sideways) > _SHIFT_MM:
        notes.append(f"gantry tilt {angle:.1f} degrees: the slices do not follow each other along their normal")
    across = origins - origins[0] - np.outer((origins - origins[0]) @ normal, normal + sideways / along)
    shift = float(np.linalg.norm(across, axis=1).max())
    if shift > _SHIFT_MM:
        notes.append(f"slices are shifted sideways against each other by up to {shift:.3g} mm")
    return notes


def names(frames: Sequence[Frame]) -> str:
    """The first few of them, and how many more."""
    listed = ", ".join(str(frame) for frame in frames[:_LISTED])
    more = len(frames) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed


def _listed(values: Float64 | None) -> str:
    return "none" if values is None else "\\".join(f"{value:.6g}" for value in values)
