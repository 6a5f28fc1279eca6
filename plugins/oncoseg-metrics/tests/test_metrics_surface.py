"""Surface scores against closed forms and DeepMind's own implementation."""

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import DataError
from oncoseg_metrics import surfaces
from oncoseg_metrics.surface_scores import ASSD, NSD, Hausdorff, HausdorffSettings, NSDSettings

SPACING = (5.0, 0.6, 0.7)
SCORES = [NSD(), Hausdorff(), ASSD()]
ROBUST = [NSD(), Hausdorff(HausdorffSettings(percent=100)), ASSD()]
"""Below 100 percent, rounding decides where a share of the surface is met exactly."""


@st.composite
def pairs(draw, least_axis=1):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=least_axis, max_side=7))
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


spacings = st.tuples(*[st.sampled_from((0.5, 0.7, 1.0, 3.3))] * 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # scipy.ndimage.filters, where the library looks
@settings(deadline=None, max_examples=150)
@given(pairs(least_axis=2), spacings, st.sampled_from((0.0, 0.5, 0.7, 1.4, 3.0)))
def test_volumes_score_as_in_the_library_that_defines_it(pair, spacing, tolerance):
    prediction, reference = pair
    if not (prediction.any() and reference.any()):
        return
    theirs = surface_distance.compute_surface_distances(reference, prediction, spacing)
    nsd = NSD(NSDSettings(tolerance_mm=tolerance)).compute(prediction, reference, spacing)
    assert nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(theirs, tolerance), abs=1e-9)
    for percent in (50.0, 95.0, 100.0):
        ours = Hausdorff(HausdorffSettings(percent=percent)).compute(prediction, reference, spacing)
        near = {surface_distance.compute_robust_hausdorff(theirs, percent + nudge) for nudge in (-1e-9, 0, 1e-9)}
        assert min(near) - 1e-9 <= ours <= max(near) + 1e-9  # where a share is met exactly, rounding decides
    areas = [theirs["surfel_areas_gt"].sum(), theirs["surfel_areas_pred"].sum()]
    both = np.dot(surface_distance.compute_average_surface_distance(theirs), areas) / sum(areas)
    assert ASSD().compute(prediction, reference, spacing) == pytest.approx(both, abs=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(deadline=None, max_examples=100)
@given(hnp.arrays(bool, (1, 6, 7)), hnp.arrays(bool, (1, 6, 7)), spacings)
def test_one_slice_scores_by_its_contours(prediction, reference, spacing):
    if not (prediction.any() and reference.any()):
        return
    theirs = surface_distance.compute_surface_distances(reference[0], prediction[0], spacing[1:])
    nsd = NSD(NSDSettings(tolerance_mm=1)).compute(prediction, reference, spacing)
    assert nsd == pytest.approx(surface_distance.compute_surface_dice_at_tolerance(theirs, 1), abs=1e-9)


@pytest.mark.parametrize("score", ROBUST)
@settings(deadline=None, max_examples=60)
@given(pair=pairs(), axis=st.sampled_from((0, 1, 2)), margin=st.integers(0, 3))
def test_scores_do_not_depend_on_side_flips_place_or_margin(score, pair, axis, margin):
    prediction, reference = pair
    found = score.compute(prediction, reference, SPACING)
    close = None if found is None else pytest.approx(found, abs=1e-9)
    assert score.compute(reference, prediction, SPACING) == close
    if prediction.shape[0] > 1:  # a margin of slices would make a volume of a single slice
        wide = [np.pad(mask, ((margin, 1), (0, margin), (margin, margin))) for mask in pair]
        assert score.compute(*wide, SPACING) == close
    assert score.compute(np.flip(prediction, axis), np.flip(reference, axis), SPACING) == close


@settings(deadline=None, max_examples=60)
@given(pairs(), st.sampled_from((0.25, 2.0, 8.0)))
def test_distances_grow_with_the_spacing_and_shares_stay(pair, scale):
    larger = tuple(side * scale for side in SPACING)
    for score in (Hausdorff(), ASSD()):
        found = score.compute(*pair, SPACING)
        assert score.compute(*pair, larger) == (None if found is None else pytest.approx(scale * found, rel=1e-9))
    found = NSD(NSDSettings(tolerance_mm=0.75)).compute(*pair, SPACING)
    assert NSD(NSDSettings(tolerance_mm=0.75 * scale)).compute(*pair, larger) == (
        None if found is None else pytest.approx(found, abs=1e-9)
    )


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_a_box_shifted_by_three_voxels():
    """Only the two faces across the shift are 3 voxels away; edges and corners of the surface blur a voxel or two."""
    one, other = (box((60, 60, 90), (5, 55), (5, 55), (start, start + 50)) for start in (10, 13))
    spacing = (1.0, 1.0, 2.0)
    assert Hausdorff(HausdorffSettings(percent=100)).compute(one, other, spacing) == 6.0
    assert Hausdorff().compute(one, other, spacing) == 6.0  # a face is a sixth of the area or less, and more than 5 %
    across, along = 50 * 50, 4 * 50 * 100
    share = (along * 47 / 50 + across * 0.0) / (along + 2 * across)
    assert NSD(NSDSettings(tolerance_mm=1.0)).compute(one, other, spacing) == pytest.approx(share, abs=0.06)


def test_concentric_spheres():
    """Radii of 20 and 24 mm. The corners of a voxelised surface make a band, so its distance is that less half a mm."""
    z, y, x = np.ogrid[-30:31, -30:31, -30:31]
    distance = np.sqrt(z**2 + y**2 + x**2)
    small, large = distance <= 20, distance <= 24
    assert ASSD().compute(small, large, (1, 1, 1)) == pytest.approx(3.5, abs=0.25)
    assert Hausdorff().compute(small, large, (1, 1, 1)) == pytest.approx(4, abs=0.6)
    assert NSD(NSDSettings(tolerance_mm=5)).compute(small, large, (1, 1, 1)) == 1.0
    assert NSD(NSDSettings(tolerance_mm=2.4)).compute(small, large, (1, 1, 1)) == 0.0
    area = surfaces.surface_distances(surfaces.Pair(small, large), (1.0, 1.0, 1.0)).prediction.areas.sum()
    assert area == pytest.approx(4 * np.pi * 20**2, rel=0.1)  # marching cubes of a voxelised sphere: somewhat more


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    """0.7 mm is 0.7000000000000002 when it comes from 3 x 0.7 - 2 x 0.7."""
    one, other = (box((4, 12, 12), (1, 3), (start, start + 5), (3, 8)) for start in (2, 3))
    assert NSD(NSDSettings(tolerance_mm=0.7)).compute(one, other, (0.7, 0.7, 0.7)) == 1.0


def test_empty_masks():
    full, empty = box((3, 6, 6), (1, 2), (2, 5), (2, 5)), np.zeros((3, 6, 6), bool)
    for score, one_empty, perfect in zip(SCORES, (0.0, None, None), (1.0, 0.0, 0.0), strict=True):
        assert score.compute(empty, empty, SPACING) is None
        assert score.compute(full, empty, SPACING) == one_empty
        assert score.compute(empty, full, SPACING) == one_empty
        assert score.compute(full, full, SPACING) == perfect


def test_a_changed_mask_is_measured_anew():
    prediction, reference = box((3, 8, 8), (1, 2), (2, 5), (2, 5)), box((3, 8, 8), (1, 2), (2, 5), (2, 5))
    assert ASSD().compute(prediction, reference, SPACING) == 0
    prediction[1, 5, 2:5] = True
    assert ASSD().compute(prediction, reference, SPACING) > 0
    assert ASSD().compute(prediction, reference, (1, 1, 1)) != ASSD().compute(prediction, reference, SPACING)


def test_three_scores_measure_once(monkeypatch):
    pair = box((3, 9, 9), (1, 2), (2, 5), (2, 5)), box((3, 9, 9), (1, 2), (3, 6), (2, 5))
    calls = []
    measure = surfaces._measure
    monkeypatch.setattr(surfaces, "_measure", lambda *args, **flat: calls.append(1) or measure(*args, **flat))
    for score in SCORES:
        score.compute(*pair, (1.25, 1.0, 1.0))
    assert len(calls) == 1


@pytest.mark.parametrize("score", SCORES)
def test_what_is_no_pair_of_masks_is_refused(score):
    with pytest.raises(DataError, match=r"prediction is \(2, 4, 4\) and the reference \(1, 4, 4\)"):
        score.compute(np.ones((2, 4, 4), bool), np.ones((1, 4, 4), bool), SPACING)
    with pytest.raises(DataError, match="reference is uint8"):
        score.compute(np.ones((2, 4, 4), bool), np.ones((2, 4, 4), np.uint8), SPACING)
