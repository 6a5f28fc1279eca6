"""After the affine step: a field of displacements on the image's working grid, by demons or B-splines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from oncoseg_atlas.alignment import Affine, at_spacing
from oncoseg_atlas.grids import geometry_of, on_grid
from oncoseg_atlas.prepared import Prepared
from oncoseg_atlas.settings import Deformation

DEMONS_LEVELS = ((2.0, 40), (1.0, 25))
"""Spacing in voxels of the working grid, and iterations."""
DEMONS_SMOOTHING = 1.5
"""Voxels: standard deviation of the Gaussian that smooths the field after each iteration."""
SPLINE_MM = 60.0
"""Distance of the control points of the first B-spline level; the second has half of it."""
SPLINE_ITERATIONS = 20
SPLINE_STEP_MM = 1.0
"""The first step of the descent, root mean square over the control points' coordinates."""
SPLINE_SAMPLES = 0.3

Field = np.ndarray
"""Displacements in mm ``(z, y, x, 3)`` float16, from the image's points, before the affine step is applied."""


def deform(
    fixed: Prepared, moving: Prepared, affine: Affine, kind: Deformation, *, same_scale: bool, late: Callable[[], bool]
) -> Field | None:
    """The field that takes the affinely aligned atlas to the image; None where ``kind`` is ``none``.

    ``late`` is asked now and then; once it says yes, what there is is returned.
    """
    if kind == "none":
        return None
    if kind == "bspline":
        field = _spline(fixed, moving, affine, same_scale=same_scale, late=late)
    else:
        field = _demons(fixed, moving, affine, same_scale=same_scale, late=late)
    # Rounded here, not when it is stored: a stored field must give what a fresh one gives.
    rounded: Field = sitk.GetArrayFromImage(field).astype(np.float16)
    return rounded


def whole_transform(affine: Affine, field: Field | None, like: sitk.Image) -> sitk.Transform:
    """From the image's points to the atlas's: first the field, which lies on the grid of ``like``, then the affine."""
    if field is None:
        return affine.transform()
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.CopyInformation(like)
    composite = sitk.CompositeTransform(affine.transform())
    composite.AddTransform(sitk.DisplacementFieldTransform(image))
    return composite


def folded(field: Field, like: sitk.Image) -> float:
    """The share of the grid's voxels at which a field folds the space: there it is no deformation of a body."""
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.CopyInformation(like)
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image))
    return float(np.mean(jacobian <= 0))


def _on_image(fixed: Prepared, moving: Prepared, transform: sitk.Transform) -> sitk.Image:
    """The atlas on the image's grid; beyond its ends the image itself, so that nothing pulls there."""
    grid = geometry_of(fixed.image)
    warped = on_grid(moving.image, grid, transform)
    shown = sitk.GetArrayFromImage(on_grid(moving.scanned, grid, transform, nearest=True)) > 0
    own = sitk.GetArrayViewFromImage(fixed.image)
    filled = sitk.GetImageFromArray(np.where(shown, sitk.GetArrayFromImage(warped), own).astype(np.float32))
    filled.CopyInformation(fixed.image)
    return filled


def _demons(
    fixed: Prepared, moving: Prepared, affine: Affine, *, same_scale: bool, late: Callable[[], bool]
) -> sitk.Image:
    field: sitk.Image | None = None
    for voxels, iterations in DEMONS_LEVELS:
        level = at_spacing(fixed, fixed.image.GetSpacing()[0] * voxels)
        warped = _on_image(level, at_spacing(moving, moving.image.GetSpacing()[0] * voxels), affine.transform())
        if not same_scale:
            warped = sitk.HistogramMatching(warped, level.image, 256, 15, thresholdAtMeanIntensity=True)
        method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        method.SetNumberOfIterations(iterations)
        method.SetSmoothDisplacementField(True)
        method.SetStandardDeviations(DEMONS_SMOOTHING)
        if field is None:
            field = method.Execute(level.image, warped)
        elif late():
            break
        else:
            field = method.Execute(level.image, warped, on_grid(field, geometry_of(level.image)))
    return on_grid(field, geometry_of(fixed.image))


def _spline(
    fixed: Prepared, moving: Prepared, affine: Affine, *, same_scale: bool, late: Callable[[], bool]
) -> sitk.Image:
    """Free-form deformation, two levels of control points, by gradient descent with a bounded number of steps.

    LBFGS-B, which is usual for it, did not end in ten minutes on two chest scans, and LBFGS2 gave up on its second
    level.
    """
    spacing = fixed.image.GetSpacing()[0] * 2
    level, other = at_spacing(fixed, spacing), at_spacing(moving, spacing)
    mesh = [max(1, round(size * level.image.GetSpacing()[0] / SPLINE_MM)) for size in level.image.GetSize()]
    spline = sitk.BSplineTransformInitializer(level.image, mesh, order=3)
    method = sitk.ImageRegistrationMethod()
    if same_scale:
        method.SetMetricAsCorrelation()
    else:
        method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SPLINE_SAMPLES, 1)
    method.SetMetricFixedMask(level.scanned)
    method.SetMetricMovingMask(other.scanned)
    method.SetInterpolator(sitk.sitkLinear)
    longest = SPLINE_STEP_MM * float(np.sqrt(len(spline.GetParameters())))
    method.SetOptimizerAsRegularStepGradientDescent(longest, longest / 100, SPLINE_ITERATIONS, 0.6)
    method.SetMovingInitialTransform(affine.transform())
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetInitialTransformAsBSpline(spline, inPlace=True, scaleFactors=[1, 2])
    method.AddCommand(sitk.sitkIterationEvent, lambda: method.StopRegistration() if late() else None)
    done = method.Execute(level.image, other.image)
    grid = fixed.image
    return sitk.TransformToDisplacementField(
        done, sitk.sitkVectorFloat64, grid.GetSize(), grid.GetOrigin(), grid.GetSpacing(), grid.GetDirection()
    )
