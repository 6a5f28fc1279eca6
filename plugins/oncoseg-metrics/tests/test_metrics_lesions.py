"""Any-overlap scores and voxel shares against SimpleITK, scikit-learn and cases counted by hand."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import jaccard_score, precision_score, recall_score

from oncoseg_core import DataError
from oncoseg_metrics.lesions import (
    AnyOverlapF1,
    AnyOverlapPrecision,
    AnyOverlapRecall,
    FalseNegativeVolume,
    FalsePositiveVolume,
    OverlapSettings,
)
from oncoseg_metrics.overlap import Dice, IoU, Precision, Sensitivity, VolumeDifference

SPACING = (2.0, 0.5, 0.5)
LESION = [AnyOverlapRecall, AnyOverlapPrecision, AnyOverlapF1, FalseNegativeVolume, FalsePositiveVolume]
masks = hnp.arrays(bool, (4, 5, 6), elements=st.booleans(), fill=st.just(False))


@settings(deadline=None)
@given(masks, masks)
def test_voxel_shares_are_those_of_scikit_learn_and_simpleitk(prediction, reference):
    flat = reference.ravel(), prediction.ravel()
    assert Sensitivity().compute(prediction, reference, SPACING) == (
        pytest.approx(recall_score(*flat)) if reference.any() else None
    )
    assert Precision().compute(prediction, reference, SPACING) == (
        pytest.approx(precision_score(*flat)) if prediction.any() else None
    )
    assume(prediction.any() and reference.any())
    assert IoU().compute(prediction, reference, SPACING) == pytest.approx(jaccard_score(*flat))
    measured = sitk.LabelOverlapMeasuresImageFilter()
    measured.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (reference, prediction)))
    assert Dice().compute(prediction, reference, SPACING) == pytest.approx(measured.GetDiceCoefficient())
    assert IoU().compute(prediction, reference, SPACING) == pytest.approx(measured.GetJaccardCoefficient())


def components(mask, fully):
    image = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), fully)
    return sitk.GetArrayFromImage(image)


@pytest.mark.parametrize(("connectivity", "fully"), [(6, False), (26, True)])
@settings(deadline=None, max_examples=60)
@given(prediction=masks, reference=masks)
def test_lesions_are_simpleitks_components(connectivity, fully, prediction, reference):
    chosen = OverlapSettings(connectivity=connectivity)
    labels = components(reference, fully)
    met = [bool(prediction[labels == value].any()) for value in range(1, labels.max() + 1)]
    assert AnyOverlapRecall(chosen).compute(prediction, reference, SPACING) == (np.mean(met) if met else None)
    missed = sum(np.count_nonzero(labels == value) for value, found in enumerate(met, start=1) if not found)
    volume = FalseNegativeVolume(chosen).compute(prediction, reference, SPACING)
    assert volume == pytest.approx(missed * 0.5 / 1000)
    assert AnyOverlapPrecision(chosen).compute(reference, prediction, SPACING) == AnyOverlapRecall(chosen).compute(
        prediction, reference, SPACING
    )
    assert FalsePositiveVolume(chosen).compute(reference, prediction, SPACING) == volume


def scene():
    """Reference: three lesions of 8, 4 and 1 voxels. Prediction: half of the first, none of the others, one alone."""
    reference, prediction = np.zeros((3, 10, 10), bool), np.zeros((3, 10, 10), bool)
    reference[1, 1:3, 1:5] = True
    reference[1, 6:8, 1:3] = True
    reference[1, 8, 8] = True
    prediction[1, 1:3, 1:3] = True
    prediction[0, 5, 5:7] = True
    return prediction, reference


def test_counted_by_hand():
    pair = scene()
    assert AnyOverlapRecall().compute(*pair, SPACING) == 1 / 3
    assert AnyOverlapPrecision().compute(*pair, SPACING) == 1 / 2
    assert AnyOverlapF1().compute(*pair, SPACING) == pytest.approx(0.4)
    assert FalseNegativeVolume().compute(*pair, SPACING) == pytest.approx(5 * 0.5 / 1000)
    assert FalsePositiveVolume().compute(*pair, SPACING) == pytest.approx(2 * 0.5 / 1000)
    assert VolumeDifference().compute(*pair, SPACING) == pytest.approx(7 * 0.5 / 1000)


def test_the_harmonic_mean_is_zero_where_either_share_is():
    """A large lesion of which little is met, by a prediction that lies wholly within it."""
    reference, prediction = np.zeros((1, 3, 9), bool), np.zeros((1, 3, 9), bool)
    reference[0, 1] = True
    prediction[0, 1, :2] = True
    half = OverlapSettings(least_overlap=0.5)
    assert AnyOverlapRecall(half).compute(prediction, reference, SPACING) == 0
    assert AnyOverlapPrecision(half).compute(prediction, reference, SPACING) == 1
    assert AnyOverlapF1(half).compute(prediction, reference, SPACING) == 0
    assert AnyOverlapF1(half).compute(np.zeros_like(prediction), reference, SPACING) == 0


def test_a_lesion_counts_as_met_above_the_share_that_is_asked_for():
    pair = scene()
    assert AnyOverlapRecall(OverlapSettings(least_overlap=0.49)).compute(*pair, SPACING) == 1 / 3
    assert AnyOverlapRecall(OverlapSettings(least_overlap=0.5)).compute(*pair, SPACING) == 0


def test_18_joins_by_edges_and_not_by_corners():
    reference = np.zeros((2, 3, 3), bool)
    reference[0, 0, 0] = reference[0, 1, 1] = True  # an edge in common
    reference[1, 2, 2] = True  # with (0, 1, 1) a corner
    prediction = np.zeros_like(reference)
    prediction[0, 0, 0] = True
    recalls = [
        AnyOverlapRecall(OverlapSettings(connectivity=c)).compute(prediction, reference, SPACING) for c in (6, 18, 26)
    ]
    assert recalls == [1 / 3, 1 / 2, 1.0]
    assert [score().settings.connectivity for score in LESION] == [18] * 5  # as autoPET
    assert AnyOverlapRecall().compute(prediction, reference, SPACING) == recalls[1]


def test_the_share_of_a_lesion_is_that_of_all_predictions_together():
    reference, prediction = np.zeros((1, 3, 9), bool), np.zeros((1, 3, 9), bool)
    reference[0, 1, :8] = True
    prediction[0, 1, :2] = prediction[0, 1, 4:7] = True  # 2 and 3 of 8 voxels, in two parts
    met = [
        AnyOverlapRecall(OverlapSettings(least_overlap=s)).compute(prediction, reference, SPACING) for s in (0.6, 0.63)
    ]
    assert met == [1.0, 0.0]
    assert AnyOverlapPrecision(OverlapSettings(least_overlap=0.9)).compute(prediction, reference, SPACING) == 1.0


def test_empty_masks():
    full, empty = scene()[1], np.zeros((3, 10, 10), bool)
    expected = {  # (nothing, nothing), (nothing is predicted), (nothing was there)
        AnyOverlapRecall: (None, 0.0, None),
        AnyOverlapPrecision: (None, None, 0.0),
        AnyOverlapF1: (None, 0.0, 0.0),
        FalseNegativeVolume: (0.0, 13 * 0.5 / 1000, 0.0),
        FalsePositiveVolume: (0.0, 0.0, 13 * 0.5 / 1000),
        Sensitivity: (None, 0.0, None),
        Precision: (None, None, 0.0),
        VolumeDifference: (0.0, 13 * 0.5 / 1000, 13 * 0.5 / 1000),
    }
    for score, values in expected.items():
        found = [score().compute(*pair, SPACING) for pair in ((empty, empty), (empty, full), (full, empty))]
        assert found == [value if value is None else pytest.approx(value) for value in values]


@pytest.mark.parametrize("score", LESION)
def test_what_is_no_pair_of_masks_is_refused(score):
    with pytest.raises(DataError, match=r"prediction is \(2, 4, 4\) and the reference \(1, 4, 4\)"):
        score().compute(np.ones((2, 4, 4), bool), np.ones((1, 4, 4), bool), SPACING)
