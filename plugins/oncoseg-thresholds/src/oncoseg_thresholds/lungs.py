"""The lungs: air inside the body that is wide somewhere and not as thin as gas, parted by the body's middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from oncoseg_core import BoolArray, Geometry
from oncoseg_thresholds.pieces import boxed, distance_mm, from_middle_mm, numbered

WINDPIPE_MM = 12.5
"""Half the width of what is no lung by itself: an adult's windpipe is up to 25 mm wide (Breatnach et al., AJR 1984)."""

LEAST_ML = 150.0
"""A lung with less air than that is not taken for one."""

GAS_BELOW = -950.0
"""Hounsfield units under which there is no lung tissue but gas, or emphysema (Gevenois et al., AJRCCM 1996)."""

PADDING = -1100.0
"""What lies lower is no air: values that scanners write outside the field of view."""

STEP = 4
"""Of the air around the body every fourth row and column is looked at."""

GAS_PART = 0.4
"""A piece of air of which more than that is gas is a windpipe, a stomach or a bowel; so would be a destroyed lung."""

SHARED = 0.5
"""A piece of air without a wide part is lung where more than that of it lies over or under lung: tips, recesses."""

LEAST_SHARE = 0.2
"""Of the larger lung: a smaller one is left to a person, since a part of the other may be taken for it."""

MOST_ACROSS = 0.15
"""A lung of which more lies across the body's middle is none: the patient lies on the side, or is turned that far."""

BONE, BONE_ML = 250.0, 50.0
"""Hounsfield units of bone, and how much of it says where the back is."""

TURNED = "the patient may lie otherwise than the image says, so no lungs"

VESSELS_MM = 3.0
"""Half the width of vessels inside the lungs that are closed."""

LEFT, RIGHT = 1, 2
Sides = NDArray[np.uint8]


def lung_masks(
    hounsfield: NDArray[Any], body: BoolArray, geometry: Geometry, below: float
) -> tuple[dict[str, BoolArray], list[str]]:
    """``Lung_L``, ``Lung_R`` and ``Lungs`` ``(z, y, x)``, and what a user must know of them.

    All three are missing where there is not enough air on each side of the body's middle, or too much across it, or
    where the bones lie in front, or where the air around the body is not as thin as gas.

    Args:
        hounsfield: ``(z, y, x)``.
        body: the mask of the body.
        geometry: of the grid; left is the patient's left.
        below: Hounsfield units that lung does not reach.
    """
    if not body.any():
        return {}, ["no body was found, so no lungs"]
    thick = _thick_air(hounsfield, body, below)
    if thick is not None:
        return {}, [f"air around the body has {thick:.0f} HU, so that gas cannot be told from lung: no lungs"]
    box = boxed(body)
    if _bones_in_front(hounsfield[box], body[box], geometry):
        return {}, [f"more bone lies in front of the body's middle than behind it: {TURNED}"]
    inside, (_, row_mm, column_mm) = body[box], geometry.spacing
    spacing = (column_mm, row_mm)
    pieces = [
        _without_gas(numbered((values < below) & flat), values)
        for values, flat in zip(hounsfield[box], inside, strict=True)
    ]
    seeds = _sides_of_wide_parts(pieces, spacing, geometry, inside)
    sides = _spread(pieces, seeds, spacing)
    del pieces, seeds
    across = _across(sides, inside, geometry)
    close = [max(1, round(VESSELS_MM / column_mm)), max(1, round(VESSELS_MM / row_mm))]
    masks = {}
    for name, side in (("Lung_L", LEFT), ("Lung_R", RIGHT)):
        masks[name] = np.zeros(body.shape, bool)
        masks[name][box] = _closed(sides == side, close) & (sides != LEFT + RIGHT - side) & inside
    volumes = {name: float(mask.sum(axis=(1, 2)) @ geometry.voxel_mm3) / 1000 for name, mask in masks.items()}
    problem = _problem(volumes, across)
    if problem is not None:
        return {}, [problem]
    masks["Lungs"] = masks["Lung_L"] | masks["Lung_R"]
    return masks, []


def _problem(volumes: Mapping[str, float], across: float) -> str | None:
    """Why what was found is not two lungs; None where it may be."""
    sizes = ", ".join(f"{name} {volume:.0f} mL" for name, volume in volumes.items())
    if min(volumes.values()) < LEAST_ML:
        return f"there is not enough air on each side of the body to be lungs ({sizes}; {LEAST_ML:g} at least)"
    if min(volumes.values()) < LEAST_SHARE * max(volumes.values()):
        return f"the lungs are too unequal to be told apart by the body's middle ({sizes})"
    if across > MOST_ACROSS:
        return f"{across:.0%} of the air of a lung lies across the body's middle: {TURNED}"
    return None


def _thick_air(hounsfield: NDArray[Any], body: BoolArray, below: float) -> float | None:
    """The median of the air around the body where it is no gas by :data:`GAS_BELOW`; what a scanner pads with is not.

    None where it is gas, or where there is none around the body.
    """
    values, outside = hounsfield[:, ::STEP, ::STEP], ~body[:, ::STEP, ::STEP]
    air = values[outside & (values < below) & (values > PADDING)]
    middle = float(np.median(air)) if air.size else GAS_BELOW
    return middle if middle > GAS_BELOW else None


def _bones_in_front(hounsfield: NDArray[Any], body: BoolArray, geometry: Geometry) -> bool:
    """Whether bone lies in front of the middle on the whole, as it does of no patient; False where there is little."""
    volume = back = 0.0
    behind = from_middle_mm(body, geometry, 1)
    for values, flat, back_mm, voxel in zip(hounsfield, body, behind, geometry.voxel_mm3, strict=False):
        bone = (values > BONE) & flat
        volume += np.count_nonzero(bone) * voxel
        back += float(back_mm[bone].sum(dtype=np.float64)) * voxel
    return volume > BONE_ML * 1000 and back < 0


def _across(sides: Sides, body: BoolArray, geometry: Geometry) -> float:
    """The larger part of a lung, of the two, that lies on the other side of the body's middle."""
    counts, wrong = np.zeros(2), np.zeros(2)
    for flat, left_mm in zip(sides, from_middle_mm(body, geometry, 0), strict=True):
        for index, (side, beyond) in enumerate(((LEFT, left_mm < 0), (RIGHT, left_mm > 0))):
            counts[index] += np.count_nonzero(flat == side)
            wrong[index] += np.count_nonzero((flat == side) & beyond)
    return float((wrong / np.maximum(counts, 1)).max())


def _without_gas(pieces: NDArray[np.uint32], hounsfield: NDArray[Any]) -> NDArray[np.uint32]:
    """The numbered pieces of a slice without those of bowel gas."""
    counts = np.bincount(pieces.ravel())
    thin = np.bincount(pieces[hounsfield < GAS_BELOW], minlength=len(counts))
    gas = thin > GAS_PART * counts
    gas[0] = True
    return np.where(gas[pieces], np.uint32(0), pieces)


def _sides_of_wide_parts(
    pieces: list[NDArray[np.uint32]], spacing: tuple[float, float], geometry: Geometry, body: BoolArray
) -> Sides:
    """What lies further than half a windpipe from any tissue of its slice, as left or right of the body's middle."""
    wide = np.empty(body.shape, bool)
    for index, flat in enumerate(pieces):
        wide[index] = distance_mm((flat > 0)[None], spacing, inside=True)[0] > WINDPIPE_MM
    parts = numbered(wide)
    left_mm = np.zeros(int(parts.max()) + 1)
    for part, flat_mm in zip(parts, from_middle_mm(body, geometry, 0), strict=True):
        left_mm += np.bincount(part.ravel(), flat_mm.ravel(), len(left_mm))
    sides = np.where(left_mm > 0, LEFT, RIGHT).astype(np.uint8)
    sides[0] = 0
    return sides[parts]


def _spread(pieces: list[NDArray[np.uint32]], seeds: Sides, spacing: tuple[float, float]) -> Sides:
    """Each slice's pieces of air as left, right or neither (0): by the wide parts in them, or by the slice beside."""
    sides = np.zeros_like(seeds)
    for index, flat in enumerate(pieces):
        sides[index] = _by_seeds(flat, seeds[index], spacing)
    count = len(pieces)
    for order, step in ((range(1, count), -1), (range(count - 2, -1, -1), 1)):
        for index in order:
            _from_beside(sides[index], pieces[index], sides[index + step])
    return sides


def _by_seeds(pieces: NDArray[np.uint32], seeds: Sides, spacing: tuple[float, float]) -> Sides:
    """Pieces with wide parts of one side are that side's; one with both is parted halfway between them."""
    sides = np.zeros_like(seeds)
    held = {side: np.unique(pieces[seeds == side]) for side in (LEFT, RIGHT)}
    for side, numbers in held.items():
        sides[np.isin(pieces, numbers[numbers > 0])] = side
    both = np.intersect1d(held[LEFT], held[RIGHT])
    both = both[both > 0]
    if both.size:
        to_left, to_right = (distance_mm((seeds == side)[None], spacing)[0] for side in (LEFT, RIGHT))
        nearer_left = to_left < to_right
        shared = np.isin(pieces, both)
        sides[shared] = np.where(nearer_left[shared], LEFT, RIGHT)
    return sides


def _from_beside(sides: Sides, pieces: NDArray[np.uint32], beside: Sides) -> None:
    """Give pieces that belong to no side yet to that of the lung over or under them."""
    free = np.where(sides == 0, pieces, 0)
    counts = np.bincount(free.ravel())
    for side in (LEFT, RIGHT):
        under = np.bincount(free[beside == side], minlength=len(counts))
        numbers = np.flatnonzero(under > SHARED * np.maximum(counts, 1))
        sides[np.isin(free, numbers[numbers > 0])] = side


def _closed(mask: BoolArray, radius: list[int]) -> BoolArray:
    """Each slice with its vessels closed and its holes filled."""
    closed = np.zeros_like(mask)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        flat = mask[index].astype(np.uint8)
        image = sitk.BinaryMorphologicalClosing(sitk.GetImageFromArray(flat), radius, sitk.sitkBall)
        closed[index] = sitk.GetArrayFromImage(sitk.BinaryFillhole(image)) > 0
    return closed
