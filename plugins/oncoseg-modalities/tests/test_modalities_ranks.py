"""Order statistics against sorting, in any order of asking, on generated values."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_modalities.intensity import ranks
from oncoseg_modalities.intensity.ranks import percentile, rank_values

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
CHANNELS = st.one_of(
    hnp.arrays(np.bool_, SHAPES),
    hnp.arrays(np.uint8, SHAPES),
    hnp.arrays(np.int8, SHAPES),
    hnp.arrays(np.dtype(">i2"), SHAPES),
    hnp.arrays(np.int16, SHAPES, elements=st.integers(-3, 3)),
    hnp.arrays(np.int32, SHAPES),
    hnp.arrays(np.int64, SHAPES),
    hnp.arrays(np.uint64, SHAPES, elements=st.integers(2**64 - 9000, 2**64 - 1)),
    hnp.arrays(np.float16, SHAPES, elements=st.floats(width=16, allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.float32, SHAPES, elements=st.floats(-10, 10, width=32)),
    hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=False, allow_infinity=False)),
    hnp.arrays(np.float64, SHAPES, elements=st.sampled_from([0.0, -0.0, 5e-324, -1.5, 1.5])),
)


@pytest.fixture(params=[ranks._SAMPLES, 4], ids=["all in the sample", "sampled"])
def samples(request, monkeypatch):
    """A small sample often misses, and is then widened."""
    monkeypatch.setattr(ranks, "_SAMPLES", request.param)
    monkeypatch.setattr(ranks, "_BLOCK", 7)


@pytest.mark.usefixtures("samples")
@settings(deadline=None, max_examples=150)
@given(CHANNELS, st.data())
def test_ranks_asked_in_any_order_are_those_of_the_sorted_values(channel, data):
    ordered = np.sort(channel, axis=None)
    values = rank_values(channel)
    assert values.size == channel.size
    asked = data.draw(st.lists(st.integers(0, channel.size - 1), max_size=8))
    for rank in [*asked, *asked]:
        assert values.count_up_to(rank) == np.searchsorted(ordered, ordered[rank], side="right")
        assert values.value_at(rank) == float(ordered[rank])


@pytest.mark.usefixtures("samples")
@settings(deadline=None, max_examples=150)
@given(CHANNELS, st.floats(0, 100), st.data())
def test_percentile_is_exactly_numpys_with_and_without_the_lowest(channel, percent, data):
    if channel.dtype == np.float64:
        channel = channel / 4  # the difference of two values must not overflow, in numpy either
    ordered = np.sort(channel, axis=None).astype(np.float64)
    skip = data.draw(st.integers(0, channel.size - 1))
    assert percentile(rank_values(channel), percent) == np.percentile(ordered, percent)
    assert percentile(rank_values(channel), percent, skip) == np.percentile(ordered[skip:], percent)


@settings(deadline=None, max_examples=100)
@given(CHANNELS.filter(lambda c: c.dtype.itemsize < 8), st.floats(-200, 200))
def test_values_up_to_a_limit_are_counted(channel, limit):
    assert rank_values(channel).count_at_most(limit) == np.count_nonzero(channel.astype(np.float64) <= limit)


def test_values_that_are_not_finite_do_not_count():
    channel = np.array([np.nan, 3, -np.inf, 1, np.inf, -np.nan, 2], np.float32).reshape(1, 1, -1)
    values = rank_values(channel)
    assert values.size == 3
    assert [values.value_at(rank) for rank in range(3)] == [1, 2, 3]
    assert rank_values(np.full((1, 2, 2), np.nan)).size == 0


@pytest.mark.parametrize("percents", [(1, 99), (2, 98), (5, 95), (0, 100)])
def test_int8_does_not_overflow(percents):
    """numpy.percentile of an int8 array subtracts neighbours in int8."""
    channel = np.array([-128, 127], np.int8).reshape(1, 1, 2)
    for percent in percents:
        assert percentile(rank_values(channel), percent) == np.percentile(channel.astype(float), percent)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_a_volume_of_blocks_is_not_copied(dtype):
    channel = np.random.default_rng(0).normal(0, 900, (160, 256, 256)).astype(dtype)
    tracemalloc.start()
    try:
        found = percentile(rank_values(channel), 99)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == np.percentile(channel.astype(np.float64), 99)
    assert peak <= 0.25 * channel.nbytes
