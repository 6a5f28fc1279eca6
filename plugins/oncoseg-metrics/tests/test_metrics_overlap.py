"""Dice and IoU on generated masks."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import DataError
from oncoseg_metrics.overlap import Dice, IoU

SPACING = (5.0, 0.6, 0.6)
METRICS = [Dice(), IoU()]


@st.composite
def pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


def as_set(mask):
    return {tuple(index) for index in np.argwhere(mask)}


def block(shape=(2, 10, 10)):
    mask = np.zeros(shape, bool)
    mask[:, 2:6, 2:6] = True
    return mask


@settings(deadline=None)
@given(pairs())
def test_scores_are_set_arithmetic(pair):
    a, b = map(as_set, pair)
    dice, iou = (metric.compute(*pair, SPACING) for metric in METRICS)
    assert dice == (2 * len(a & b) / (len(a) + len(b)) if a or b else None)
    assert iou == (len(a & b) / len(a | b) if a or b else None)


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None)
@given(pair=pairs())
def test_scores_are_bounded_symmetric_and_do_not_depend_on_the_side(metric, pair):
    a, b = pair
    score = metric.compute(a, b, SPACING)
    assert score is None or 0 <= score <= 1
    assert metric.compute(b, a, SPACING) == score
    for axis in range(3):
        assert metric.compute(np.flip(a, axis), np.flip(b, axis), SPACING) == score
    assert metric.compute(np.asfortranarray(a), b, (1.0, 1.0, 1.0)) == score


@settings(deadline=None)
@given(pairs())
def test_dice_and_iou_tell_the_same(pair):
    dice, iou = (metric.compute(*pair, SPACING) for metric in METRICS)
    if dice is not None:
        assert dice == pytest.approx(2 * iou / (1 + iou), rel=1e-12)


def test_known_overlap():
    a = block()
    b = np.roll(a, 2, axis=2)
    assert Dice().compute(a, b, SPACING) == 0.5
    assert IoU().compute(a, b, SPACING) == 1 / 3


@pytest.mark.parametrize("metric", METRICS)
def test_empty_masks(metric):
    full, empty = block(), np.zeros_like(block())
    assert metric.compute(empty, empty, SPACING) is None
    assert metric.compute(full, empty, SPACING) == 0.0
    assert metric.compute(empty, full, SPACING) == 0.0
    assert metric.compute(full, full, SPACING) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_counts_are_exact_beyond_float32(metric):
    """2**24 + 1 voxels and one of them missing: float32 would call the two equal."""
    a = np.ones((1, 4097, 4096), bool)
    b = a.copy()
    b[0, 0, 0] = False
    n = a.size
    expected = {Dice: 2 * (n - 1) / (2 * n - 1), IoU: (n - 1) / n}[type(metric)]
    assert metric.compute(a, b, SPACING) == expected
    assert metric.compute(b, a, SPACING) == expected
    assert expected < 1


@pytest.mark.parametrize("metric", METRICS)
def test_needs_memory_for_one_mask_at_most(metric):
    a = np.ones((8, 256, 256), bool)
    tracemalloc.start()
    try:
        metric.compute(a, a, SPACING)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 1.1 * a.nbytes


@pytest.mark.parametrize("metric", METRICS)
def test_other_shapes_are_refused(metric):
    with pytest.raises(DataError, match=r"prediction is \(2, 10, 10\) and the reference \(1, 10, 10\)"):
        metric.compute(block(), block((1, 10, 10)), SPACING)


@pytest.mark.parametrize("metric", METRICS)
def test_masks_are_bool(metric):
    with pytest.raises(DataError, match="prediction is float32, expected a bool mask"):
        metric.compute(block().astype(np.float32), block(), SPACING)
    with pytest.raises(DataError, match="reference is uint8"):
        metric.compute(block(), block().astype(np.uint8), SPACING)
