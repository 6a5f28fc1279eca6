"""Where the voxels of a NIfTI file lie: its two forms, which of them counts, and what is doubtful about them.

The rules are those of nifti1.h; where it leaves a choice (both forms have a code), the sform counts, as in nibabel, FSL
and SPM. What contradicts it is told in notes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import ImageReadError
from oncoseg_core.contract.geometry import Geometry

ROUNDED_VOXELS = 0.1
"""Forms whose corners lie no further apart, in sides of a voxel, differ by rounding: a quaternion is stored in float32.
"""

_STRAIGHT = 1e-3
"""Cosine up to which axes are at right angles but for the digits of the header; beyond it the grid is sheared."""

_UNIT_MM = {1: 1000.0, 3: 0.001}
"""Millimetres of metres and micrometres; a file without a unit is in millimetres, as every writer has it."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Grid(NamedTuple):
    """A grid, whether its millimetres are told along all axes, and what a person should know about it."""

    geometry: Geometry
    physical: bool
    notes: tuple[str, ...]


def grid_of(header: np.void, shape: tuple[int, int, int], path: Path) -> Grid:
    """The grid that a header tells.

    Args:
        header: with the fields of nifti1.h.
        shape: of the voxels ``(z, y, x)``.
        path: the file, for messages.

    Raises:
        ImageReadError: it has a code for a form, but no form that is finite and has an inverse; or it is sheared.
    """
    unit = _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    codes = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    sizes = np.abs(np.array(header["pixdim"][1:4], np.float64))
    sized = np.isfinite(sizes) & (sizes > 0) & (np.arange(3) < int(header["dim"][0]))
    forms = {"sform": _sform(header), "qform": _qform(header, np.where(sized, sizes, 1.0))}
    usable = {name: form for name, form in forms.items() if codes[name] > 0 and form is not None}
    notes = [
        f"its {name} (code {codes[name]}) is no place (not finite, or without an inverse)"
        for name, form in forms.items()
        if codes[name] > 0 and form is None
    ]
    if usable:
        straight = [name for name, form in usable.items() if _cosine(form) <= _STRAIGHT]
        chosen = (straight or list(usable))[0]
        matrix = usable[chosen]
        notes += _contradiction(usable, chosen, codes, shape, unit)
    elif notes:
        raise ImageReadError(f"{path}: {'; '.join(notes)}; write its header again")
    else:
        chosen, matrix = "pixdim", np.diag([*np.where(sized, sizes, 1.0), 1.0])
        notes.append(
            "its header does not say how it lies in the patient (the codes of qform and sform are 0): x, y and z are "
            "taken to grow to the right, front and head, and left and right may be exchanged"
        )
    cosine = _cosine(matrix)
    if cosine > _STRAIGHT:
        raise ImageReadError(
            f"{path}: its axes are not at right angles (sheared, cosine {cosine:.3g}), which no format but NIfTI can "
            "hold; resample it"
        )
    matrix = _straightened(matrix)
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if chosen == "sform" and len(usable) == 1 and sized.all() and (np.abs(sizes - lengths) > 0.01 * lengths).any():
        notes.append(
            f"its pixdim tells voxels of {' x '.join(f'{size:.4g}' for size in sizes * unit)} mm, its sform of "
            f"{' x '.join(f'{size:.4g}' for size in lengths * unit)} mm: the sform is taken"
        )
    physical = int(header["dim"][0]) >= 3 if chosen == "sform" else bool(sized.all())
    if int(header["dim"][0]) >= 3 and not physical:
        notes.append(
            f"its header gives no size of voxels along {', '.join(np.array(list('xyz'))[~sized])} (pixdim "
            f"{', '.join(f'{size:g}' for size in header['pixdim'][1:4])}): millimetres are not known"
        )
    affine = _RAS_TO_LPS @ matrix
    affine[:3] *= unit
    if not physical:  # its spacing reads 1
        affine[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)
    return Grid(Geometry(shape, affine), physical, tuple(notes))


def _contradiction(
    usable: dict[str, npt.NDArray[np.float64]],
    chosen: str,
    codes: dict[str, int],
    shape: tuple[int, int, int],
    unit: float,
) -> list[str]:
    """What the other form says of the same voxels, where that is elsewhere."""
    if len(usable) < 2:
        return []
    grids = {name: Geometry(shape, _RAS_TO_LPS @ form) for name, form in usable.items()}
    apart = grids["sform"].distance_mm(grids["qform"])
    if apart <= ROUNDED_VOXELS * min(grids[chosen].spacing):
        return []
    where = f"its sform (code {codes['sform']}) and qform (code {codes['qform']}) lie up to {apart * unit:.3g} mm apart"
    return [
        f"{where}: the {chosen} is taken; other programs may take the other, where even left and right may be exchanged"
    ]


def _sform(header: np.void) -> npt.NDArray[np.float64] | None:
    """The affine in rows, to RAS; None where it is not finite or has no inverse."""
    return _if_sound(np.vstack([np.array(header["srow"], np.float64), [0, 0, 0, 1]]))


def _qform(header: np.void, sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The affine of the quaternion, to RAS; None where that is no rotation, or not finite."""
    b, c, d = (float(value) for value in header["quatern"])
    rest = 1.0 - (b * b + c * c + d * d)
    if not math.isfinite(rest) or rest < -1e-3:
        return None
    a = math.sqrt(max(0.0, rest))
    length = math.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / length, b / length, c / length, d / length
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    affine[:3, 3] = header["qoffset"]
    return _if_sound(affine)


def _if_sound(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    if not np.isfinite(affine).all():
        return None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        return None
    return affine


def _straightened(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The nearest affine at right angles, where the header's digits leave it slightly off."""
    if _cosine(affine) <= _STRAIGHT / 10:
        return affine
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths)
    straight = affine.copy()
    straight[:3, :3] = (left @ right) * lengths
    return straight


def _cosine(affine: npt.NDArray[np.float64]) -> float:
    """How far from right angles the axes are."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())
