"""Lesions matched one to one: against every possible assignment, cases counted by hand, and masks that paint."""

from itertools import permutations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from oncoseg_core import DataError, MetricSpec, load_plugins
from oncoseg_metrics.matched import (
    LesionF1,
    LesionPrecision,
    LesionRecall,
    MatchSettings,
    PanopticQuality,
    SegmentationQuality,
)

SPACING = (2.0, 0.5, 0.5)
SCORES = [LesionRecall, LesionPrecision, LesionF1, SegmentationQuality, PanopticQuality]
masks = hnp.arrays(bool, (3, 4, 5), elements=st.booleans(), fill=st.just(False))
ONE_VOXEL = MatchSettings(connectivity=6, least_iou=0)


def scored(score, prediction, reference, chosen=None):
    return score(chosen).compute(prediction, reference, SPACING)


def parts_of(mask, fully):
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), fully))
    return [labels == value for value in range(1, labels.max() + 1)]


def best_by_trying_all(prediction, reference, chosen):
    """The highest sum of IoU over every assignment, the number of its pairs, and how many lesions there are."""
    ours, theirs = (parts_of(mask, chosen.connectivity == 26) for mask in (reference, prediction))
    assume(len(ours) <= 5 and len(theirs) <= 5)
    iou = np.zeros((len(ours), 5))
    for i, one in enumerate(ours):
        for j, other in enumerate(theirs):
            both = np.count_nonzero(one & other)
            value = both / np.count_nonzero(one | other)
            if both and value >= chosen.least_iou and both > chosen.least_overlap * one.sum():
                iou[i, j] = value
    found = [
        (sum(iou[i, j] for i, j in enumerate(order)), sum(iou[i, j] > 0 for i, j in enumerate(order)))
        for order in permutations(range(5), len(ours))
    ]
    highest = max(total for total, _ in found)
    return highest, max(n for total, n in found if total > highest - 1e-9), len(ours), len(theirs)


@settings(deadline=None, max_examples=150)
@given(
    prediction=masks,
    reference=masks,
    connectivity=st.sampled_from([6, 26]),
    least_iou=st.sampled_from([0, 0.2, 0.5, 0.75]),
    least_overlap=st.sampled_from([0, 0.5]),
)
def test_the_assignment_is_the_best_of_all(prediction, reference, connectivity, least_iou, least_overlap):
    chosen = MatchSettings(connectivity=connectivity, least_iou=least_iou, least_overlap=least_overlap)
    total, n, in_reference, in_prediction = best_by_trying_all(prediction, reference, chosen)
    expected = {
        LesionRecall: n / in_reference if in_reference else None,
        LesionPrecision: n / in_prediction if in_prediction else None,
        LesionF1: n / (n + (in_prediction - n) / 2 + (in_reference - n) / 2) if in_reference + in_prediction else None,
        SegmentationQuality: total / n if n else None,
        PanopticQuality: 2 * total / (in_reference + in_prediction) if in_reference + in_prediction else None,
    }
    for score, value in expected.items():
        assert scored(score, prediction, reference, chosen) == (value if value is None else pytest.approx(value))


@settings(deadline=None, max_examples=60)
@given(prediction=masks, reference=masks, axes=st.permutations(range(3)), least_iou=st.sampled_from([0, 0.5]))
def test_the_order_of_the_lesions_changes_nothing(prediction, reference, axes, least_iou):
    """Ties included: turned and mirrored masks have their lesions in other orders."""
    chosen = MatchSettings(least_iou=least_iou)
    turned = [np.transpose(mask, axes)[::-1, :, ::-1] for mask in (prediction, reference)]
    for score in SCORES:
        value = scored(score, prediction, reference, chosen)
        assert scored(score, *turned, chosen) == (value if value is None else pytest.approx(value))
        assert scored(score, *turned, chosen) == scored(score, *turned, chosen)


@settings(deadline=None, max_examples=60)
@given(prediction=masks, reference=masks)
def test_quality_is_symmetric_and_panoptic_is_the_product(prediction, reference):
    assert scored(LesionF1, prediction, reference) == scored(LesionF1, reference, prediction)
    assert scored(LesionRecall, prediction, reference) == scored(LesionPrecision, reference, prediction)
    quality = scored(PanopticQuality, prediction, reference)
    assert quality == scored(PanopticQuality, reference, prediction)
    if scored(SegmentationQuality, prediction, reference) is not None:
        product = scored(SegmentationQuality, prediction, reference) * scored(LesionF1, prediction, reference)
        assert quality == pytest.approx(product)


def grid_of_lesions():
    """Five lesions of 2 x 4 x 4 voxels in an organ of 20 x 60 x 60."""
    reference = np.zeros((20, 60, 60), bool)
    for k in range(5):
        reference[4 * k : 4 * k + 2, 10 * k : 10 * k + 4, 10 * k : 10 * k + 4] = True
    return reference


def ball(radius, size=41):
    z, y, x = (axis - size // 2 for axis in np.ogrid[:size, :size, :size])
    return z**2 + y**2 + x**2 <= radius**2


def test_who_paints_the_organ_finds_nothing():
    reference = grid_of_lesions()
    organ = np.ones_like(reference)
    for score in (LesionRecall, LesionPrecision, LesionF1, PanopticQuality):
        assert scored(score, organ, reference) == 0
    assert scored(SegmentationQuality, organ, reference) is None
    # Where one voxel is enough, the organ is one lesion and meets one.
    assert scored(LesionRecall, organ, reference, ONE_VOXEL) == 1 / 5
    assert scored(LesionF1, organ, reference, ONE_VOXEL) == 2 / 6


def test_a_box_around_all_lesions_finds_nothing():
    reference = grid_of_lesions()
    box = np.zeros_like(reference)
    z, y, x = (np.flatnonzero(reference.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    box[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1] = True
    assert scored(LesionF1, box, reference) == 0
    slices = np.stack([np.outer(mask.any(axis=1), mask.any(axis=0)) for mask in reference])
    assert scored(LesionF1, slices, reference) == 1  # one square lesion a slice: its box is itself


def test_a_model_that_is_half_right_beats_what_contains_none():
    """Painted, filled, boxed and empty masks against one that outlines three of five round lesions roughly."""
    reference, model = np.zeros((3, 9, 80), bool), np.zeros((3, 9, 80), bool)
    disc = ball(3, size=9)[4]
    for k in range(5):
        reference[1, :, 16 * k : 16 * k + 9] |= disc
        if k < 3:
            model[1, 1:, 16 * k : 16 * k + 9] |= disc[:-1]  # a pixel too low
    organ, empty = np.ones_like(reference), np.zeros_like(reference)
    box = np.zeros_like(reference)
    box[1, 1:8, :73] = True
    for score in (LesionF1, PanopticQuality):
        assert scored(score, model, reference) > max(scored(score, floor, reference) for floor in (organ, empty, box))


def test_speckle_over_the_organ_is_no_way_out():
    reference = grid_of_lesions()
    speckle = np.zeros_like(reference)
    speckle[::2, ::2, ::2] = True
    assert scored(LesionF1, speckle, reference) == 0
    assert scored(LesionF1, speckle, reference, ONE_VOXEL) < 0.01


def test_the_limit_is_reached_at_half_and_each_lesion_counts_once():
    reference, prediction = np.zeros((1, 3, 12), bool), np.zeros((1, 3, 12), bool)
    reference[0, 1, :4] = True
    prediction[0, 1, 2:4] = True  # 2 of 4: an IoU of exactly one half
    assert scored(LesionF1, prediction, reference) == 1
    assert scored(SegmentationQuality, prediction, reference) == 0.5
    assert scored(LesionF1, prediction, reference, MatchSettings(least_iou=0.51)) == 0
    prediction[0, 1, 0] = True  # a second predicted lesion within the same: one of the two is too much
    assert scored(LesionRecall, prediction, reference) == 1
    assert scored(LesionPrecision, prediction, reference) == 0.5


def test_the_sum_of_iou_decides_and_not_who_comes_first():
    """The middle prediction fits both; each order of greedy choices but one loses a lesion."""
    reference, prediction = np.zeros((1, 1, 30), bool), np.zeros((1, 1, 30), bool)
    reference[0, 0, 0:10] = reference[0, 0, 12:20] = True
    prediction[0, 0, 0:3] = prediction[0, 0, 5:18] = True
    assert scored(LesionF1, prediction, reference, ONE_VOXEL) == 1
    assert scored(PanopticQuality, prediction, reference, ONE_VOXEL) == pytest.approx((3 / 10 + 6 / 15) / 2)


def test_a_further_match_is_worth_no_iou():
    """One pair at 0.4 against two that come to 0.397: the sum decides, not the number."""
    reference, prediction = np.zeros((1, 1, 16), bool), np.zeros((1, 1, 16), bool)
    reference[0, 0, 0:6] = reference[0, 0, 7:15] = True
    prediction[0, 0, 0] = prediction[0, 0, 2:10] = True
    assert scored(LesionF1, prediction, reference, ONE_VOXEL) == 0.5
    assert scored(PanopticQuality, prediction, reference, ONE_VOXEL) == pytest.approx(2 * 0.4 / 4)


def test_overlap_can_take_the_place_of_iou():
    reference, prediction = np.zeros((1, 9, 9), bool), np.zeros((1, 9, 9), bool)
    reference[0, 4, 2:6] = True
    prediction[0, 2:8, 3:8] = True  # 3 of the 4 voxels
    rules = [MatchSettings(least_iou=0, least_overlap=share) for share in (0.74, 0.75)]
    assert [scored(LesionF1, prediction, reference, rule) for rule in rules] == [1, 0]


def test_18_joins_by_edges_and_is_the_default():
    reference = np.zeros((2, 3, 3), bool)
    reference[0, 0, 0] = reference[0, 1, 1] = True  # an edge in common
    reference[1, 2, 2] = True  # with (0, 1, 1) a corner
    recalls = [LesionRecall(MatchSettings(connectivity=c)).compute(reference, reference, SPACING) for c in (6, 18, 26)]
    assert recalls == [1, 1, 1]
    one = np.zeros_like(reference)
    one[0, 0, 0] = True
    by_connectivity = [scored(LesionRecall, one, reference, MatchSettings(connectivity=c)) for c in (6, 18, 26)]
    assert by_connectivity == [1 / 3, 1 / 2, 0]  # with 26 it is 1 of 3 voxels of one lesion
    for score in SCORES:
        assert score().settings == MatchSettings(connectivity=18, least_iou=0.5, least_overlap=0)
    assert scored(LesionRecall, one, reference) == 1 / 2


def test_empty_masks():
    full, empty = grid_of_lesions(), np.zeros((20, 60, 60), bool)
    expected = {  # (nothing, nothing), (nothing is predicted), (nothing was there)
        LesionRecall: [None, 0, None],
        LesionPrecision: [None, None, 0],
        LesionF1: [None, 0, 0],
        SegmentationQuality: [None, None, None],
        PanopticQuality: [None, 0, 0],
    }
    for score, values in expected.items():
        assert [scored(score, *pair) for pair in ((empty, empty), (empty, full), (full, empty))] == values


def test_a_thousand_speckles_are_matched_within_a_second():
    rng = np.random.default_rng(0)
    prediction, reference = rng.random((2, 20, 100, 100)) > 0.9
    assert 0 < scored(LesionF1, prediction, reference, ONE_VOXEL) < 1


def test_registered_names():
    registry = load_plugins()
    pair = ball(9), ball(10)
    iou = pair[0].sum() / pair[1].sum()
    built = {
        name: registry.build(MetricSpec, name, {}).compute(*pair, SPACING)
        for name in ("lesion-recall", "lesion-precision", "lesion-f1", "pq", "sq", "rq", "any-overlap-f1")
    }
    assert built == {
        **dict.fromkeys(("lesion-recall", "lesion-precision", "lesion-f1", "rq", "any-overlap-f1"), 1),
        **dict.fromkeys(("pq", "sq"), pytest.approx(iou)),
    }
    old = registry.build(MetricSpec, "lesion-f1", {"connectivity": 26, "least_overlap": 0.5})
    assert old.compute(*pair, SPACING) == 1
    organ = np.ones_like(grid_of_lesions())
    assert registry.build(MetricSpec, "any-overlap-f1", {}).compute(organ, grid_of_lesions(), SPACING) == 1


@pytest.mark.parametrize("wrong", [{"least_iou": 1.1}, {"least_iou": -0.1}, {"least_overlap": 1}, {"connectivity": 8}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        MatchSettings(**wrong)


@pytest.mark.parametrize("score", SCORES)
def test_what_is_no_pair_of_masks_is_refused(score):
    with pytest.raises(DataError, match=r"prediction is \(2, 4, 4\) and the reference \(1, 4, 4\)"):
        scored(score, np.ones((2, 4, 4), bool), np.ones((1, 4, 4), bool))
