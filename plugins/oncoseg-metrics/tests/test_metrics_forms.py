"""Every score in closed form where objects are smallest, at the border, or in one slice."""

import numpy as np
import pytest
import surface_distance
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import DataError, MetricSpec, load_plugins
from oncoseg_metrics.lesions import AnyOverlapF1, AnyOverlapPrecision, AnyOverlapRecall
from oncoseg_metrics.plugin import oncoseg_metrics
from oncoseg_metrics.surface_scores import ASSD, NSD, Hausdorff, HausdorffSettings, NSDSettings

SPACING = (5.0, 0.6, 0.7)


def voxel(*place, shape=(3, 8, 9)):
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


@pytest.mark.parametrize("name", [spec.name for spec in oncoseg_metrics()])
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 4, 5)])
def test_masks_have_three_axes(name, shape):
    """Dice took any, surfaces ended in numpy's own error."""
    with pytest.raises(DataError, match=r"expected \(z, y, x\); a single slice has z = 1"):
        load_plugins().build(MetricSpec, name).compute(np.ones(shape, bool), np.ones(shape, bool), SPACING)


@pytest.mark.parametrize("apart", [1, 2, 8])
def test_two_voxels_in_a_corner_and_along_a_row(apart):
    """Half of each one's corners are as far from the other as the voxels are, the other half a voxel less."""
    pair = voxel(0, 0, 0), voxel(0, 0, apart)
    assert Hausdorff().compute(*pair, SPACING) == pytest.approx(apart * 0.7)
    assert ASSD().compute(*pair, SPACING) == pytest.approx((apart - 0.5) * 0.7)
    share = NSD(NSDSettings(tolerance_mm=(apart - 1) * 0.7 + 1e-6)).compute(*pair, SPACING)
    assert share == pytest.approx(0.5)


def test_two_voxels_in_opposite_corners_of_the_volume():
    pair = voxel(0, 0, 0), voxel(2, 7, 8)
    far = np.linalg.norm(np.array([2, 7, 8]) * SPACING)
    assert Hausdorff(HausdorffSettings(percent=100)).compute(*pair, SPACING) == pytest.approx(far)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(deadline=None, max_examples=80)
@given(*[hnp.arrays(bool, (1, 6, 7))] * 2, st.sampled_from((0.5, 0.7, 3.3)), st.sampled_from((0.0, 0.7, 2.0)))
def test_all_scores_of_one_slice_are_by_its_contours(prediction, reference, side, tolerance):
    assume(prediction.any() and reference.any())
    spacing = (5.0, 0.7, side)
    theirs = surface_distance.compute_surface_distances(reference[0], prediction[0], spacing[1:])
    nsd = NSD(NSDSettings(tolerance_mm=tolerance)).compute(prediction, reference, spacing)
    assert nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance), abs=1e-9)
    near = [surface_distance.compute_robust_hausdorff(theirs, 95 + nudge) for nudge in (-1e-9, 0, 1e-9)]
    assert min(near) - 1e-9 <= Hausdorff().compute(prediction, reference, spacing) <= max(near) + 1e-9
    lengths = [theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()]
    both = np.dot(surface_distance.compute_average_surface_distance(theirs), lengths) / sum(lengths)
    assert ASSD().compute(prediction, reference, spacing) == pytest.approx(both, abs=1e-9)


def test_one_prediction_over_two_lesions_meets_both_and_the_reverse():
    reference, prediction = np.zeros((2, 1, 5, 12), bool)
    reference[0, 1:3, 1:3] = reference[0, 1:3, 8:10] = True
    prediction[0, 2, 1:10] = True
    for pair in ((prediction, reference), (reference, prediction)):
        scores = (AnyOverlapRecall, AnyOverlapPrecision, AnyOverlapF1)
        assert [score().compute(*pair, SPACING) for score in scores] == [1, 1, 1]
