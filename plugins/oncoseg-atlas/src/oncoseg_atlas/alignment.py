"""An atlas laid on the image: where it begins, then the affine step, and how alike they are afterwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from oncoseg_atlas.grids import geometry_of, on_grid, working_geometry
from oncoseg_atlas.prepared import Prepared

COARSE_MM = 12.0
"""Of the grid on which the place of the atlas along the body is searched."""
STARTS = 3
"""Places from which the affine step is tried on its coarser level."""
LEAST_EXTENT = 12
"""Voxels that the affine step's coarser level has along the shortest side, at least."""
ITERATIONS = 50
LONGEST_MM, SHORTEST_MM = 2.0, 0.05
"""Steps of the descent: the first, halved whenever the gradient turns round, and the last. Longer first steps lose
their way now and then; a line search took five to ten times as long and ended in worse places."""
SCALES = (0.6, 1.6)
"""Of bodies: an atlas that must shrink or grow more than that is of something else."""


class Affine(NamedTuple):
    """From the image's millimetres to the atlas's: ``matrix`` 3 x 3 about ``center``, then ``translation``."""

    matrix: tuple[float, ...]
    translation: tuple[float, ...]
    center: tuple[float, ...]

    def transform(self) -> sitk.AffineTransform:
        """As SimpleITK has it."""
        transform = sitk.AffineTransform(3)
        transform.SetCenter(self.center)
        transform.SetMatrix(self.matrix)
        transform.SetTranslation(self.translation)
        return transform

    @classmethod
    def of(cls, transform: sitk.AffineTransform) -> Affine:
        """What a transform of SimpleITK says."""
        return cls(tuple(transform.GetMatrix()), tuple(transform.GetTranslation()), tuple(transform.GetCenter()))

    @property
    def fault(self) -> str | None:
        """Why no body is changed into another one like that; None where it may be."""
        matrix = np.array(self.matrix).reshape(3, 3)
        if np.linalg.det(matrix) <= 0:
            return "it would have to be mirrored"
        sizes = np.linalg.svd(matrix, compute_uv=False)
        if sizes.min() < SCALES[0] or sizes.max() > SCALES[1]:
            return f"it would have to be scaled by {sizes.min():.2f} to {sizes.max():.2f}"
        return None


class Likeness(NamedTuple):
    """How alike two scans are, in the part of space that both show.

    ``correlation`` of intensities in [-1, 1] within either body, outlines included; ``inside`` only where both bodies
    are; ``overlap``: how much of the image's body the atlas covers.
    """

    correlation: float
    inside: float
    overlap: float


def likeness(fixed: Prepared, moving: Prepared, transform: sitk.Transform) -> Likeness:
    """Compare an image and an atlas that is carried to it."""
    grid = geometry_of(fixed.image)
    warped = sitk.GetArrayFromImage(on_grid(moving.image, grid, transform))
    body = sitk.GetArrayFromImage(on_grid(moving.body, grid, transform, nearest=True)) > 0
    shown = sitk.GetArrayFromImage(on_grid(moving.scanned, grid, transform, nearest=True)) > 0
    own = sitk.GetArrayViewFromImage(fixed.body) > 0
    both = shown & (sitk.GetArrayViewFromImage(fixed.scanned) > 0)
    image = sitk.GetArrayViewFromImage(fixed.image)
    overlap = float(np.mean(both[own])) if own.any() else 0.0
    inside, either = both & own & body, both & (own | body)
    return Likeness(_correlation(image[either], warped[either]), _correlation(image[inside], warped[inside]), overlap)


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    if one.size < 2 or one.std() == 0 or two.std() == 0:
        return -1.0
    return float(np.corrcoef(one, two)[0, 1])


def at_spacing(scan: Prepared, spacing: float) -> Prepared:
    """The scan on a coarser grid over the same space."""
    own = scan.image.GetSpacing()[0]
    if spacing <= own * 1.05:
        return scan
    grid = working_geometry(geometry_of(scan.image), spacing, 1 << 40)
    smooth = sitk.SmoothingRecursiveGaussian(scan.image, spacing / 2.5)
    return Prepared(
        on_grid(smooth, grid), on_grid(scan.body, grid, nearest=True), on_grid(scan.scanned, grid, nearest=True)
    )


def starts(fixed: Prepared, moving: Prepared) -> list[tuple[float, Affine]]:
    """Where to begin, the best places of the atlas along the body, and what each is worth; the best first.

    Two scans need not begin and end at the same height, so that their centres of mass say little. The atlas is slid
    along the patient's axis; at each place the bodies are centred on one another in the planes that both show.
    """
    fixed, moving = at_spacing(fixed, COARSE_MM), at_spacing(moving, COARSE_MM)
    heights = [_heights(one) for one in (fixed, moving)]
    (low, high), (moving_low, moving_high) = ((float(one[0]), float(one[-1])) for one in heights)
    least = max(0.5 * min(high - low, moving_high - moving_low), COARSE_MM)
    step = fixed.image.GetSpacing()[2]
    shifts = np.arange(low + least - moving_high, high - least - moving_low + step / 2, step)
    found: list[tuple[float, Affine]] = []
    for shift in shifts if len(shifts) else [(low + high - moving_low - moving_high) / 2]:
        start = _centred(fixed, moving, heights, float(shift))
        if start is not None:
            found.append((_worth(likeness(fixed, moving, start.transform())), start))
    found.sort(key=lambda one: -one[0])
    return found[:STARTS]


def _heights(scan: Prepared) -> np.ndarray:
    """The LPS heights of the planes in which there is body."""
    planes = np.flatnonzero(sitk.GetArrayViewFromImage(scan.body).any(axis=(1, 2)))
    return np.asarray(scan.image.GetOrigin()[2] + planes * scan.image.GetSpacing()[2])


def _centred(fixed: Prepared, moving: Prepared, heights: list[np.ndarray], shift: float) -> Affine | None:
    """The atlas moved up by ``shift``, and the bodies centred on one another in the planes that both show."""
    low = max(heights[0][0], heights[1][0] + shift)
    high = min(heights[0][-1], heights[1][-1] + shift)
    centres = [_centre(fixed, low, high), _centre(moving, low - shift, high - shift)]
    if centres[0] is None or centres[1] is None:
        return None
    move = np.append(centres[1] - centres[0], -shift)
    center = (*centres[0].tolist(), float(low + high) / 2)
    return Affine((1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), tuple(move.tolist()), center)


def _centre(scan: Prepared, low: float, high: float) -> np.ndarray | None:
    """The middle ``(x, y)`` of the body between two heights, in LPS mm."""
    body = sitk.GetArrayViewFromImage(scan.body)
    z = scan.image.GetOrigin()[2] + np.arange(len(body)) * scan.image.GetSpacing()[2]
    plane = body[(z >= low - 1e-3) & (z <= high + 1e-3)].sum(axis=0, dtype=np.int64)
    if not plane.any():
        return None
    rows, columns = np.indices(plane.shape)
    index = np.array([(plane * columns).sum(), (plane * rows).sum()]) / plane.sum()
    return np.asarray(np.array(scan.image.GetOrigin()[:2]) + index * np.array(scan.image.GetSpacing()[:2]))


def align(fixed: Prepared, moving: Prepared, *, same_scale: bool) -> Affine | None:
    """The affine step from the best starts; None where the scans cannot be laid on one another.

    ``same_scale``: intensities mean the same in both (CT), and are correlated; else their mutual information counts.
    """
    extent = min(size * fixed.image.GetSpacing()[0] for size in fixed.image.GetSize())
    finest = fixed.image.GetSpacing()[0]
    coarse = float(np.clip(extent / LEAST_EXTENT, finest, 16.0))
    first, second = at_spacing(fixed, coarse), at_spacing(moving, coarse)
    places = [start for _, start in starts(fixed, moving)]
    found = [step for place in places if (step := _affine(first, second, place, same_scale=same_scale))]
    if not found:
        return None
    best = max(found, key=lambda one: _worth(likeness(first, second, one.transform())))
    fine = max(coarse / 2, finest)
    first, second = at_spacing(fixed, fine), at_spacing(moving, fine)
    finer = _affine(first, second, best, same_scale=same_scale)
    steps = [best] if finer is None else [best, finer]
    return max(steps, key=lambda one: _worth(likeness(first, second, one.transform())))


def _worth(like: Likeness) -> float:
    return like.correlation * (0.5 + 0.5 * like.overlap)


def _affine(fixed: Prepared, moving: Prepared, start: Affine, *, same_scale: bool) -> Affine | None:
    method = sitk.ImageRegistrationMethod()
    if same_scale:
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(fixed.scanned)
    method.SetMetricMovingMask(moving.scanned)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(LONGEST_MM, SHORTEST_MM, ITERATIONS, 0.5, 1e-5)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = start.transform()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed.image, moving.image)
    except RuntimeError:  # no overlap left on the way
        return None
    return Affine.of(transform)
