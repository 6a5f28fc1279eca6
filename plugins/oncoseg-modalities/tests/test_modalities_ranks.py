"""Order statistics against sorting, in any order of asking, on generated values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_modalities.ranks import percentile, rank_values

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
CHANNELS = st.one_of(
    hnp.arrays(np.int16, SHAPES),
    hnp.arrays(np.int16, SHAPES, elements=st.integers(-3, 3)),
    hnp.arrays(np.int32, SHAPES),
    hnp.arrays(np.uint64, SHAPES, elements=st.integers(2**64 - 9000, 2**64 - 1)),
    hnp.arrays(np.float32, SHAPES, elements=st.floats(-10, 10, width=32)),
)


@settings(deadline=None, max_examples=200)
@given(CHANNELS, st.data())
def test_ranks_asked_in_any_order_are_those_of_the_sorted_values(channel, data):
    ordered = np.sort(channel, axis=None)
    values = rank_values(channel)
    assert values.size == channel.size
    asked = data.draw(st.lists(st.integers(0, channel.size - 1), max_size=8))
    for rank in [*asked, *asked]:
        assert values.count_up_to(rank) == np.searchsorted(ordered, ordered[rank], side="right")
        assert values.value_at(rank) == ordered[rank]


@settings(deadline=None, max_examples=200)
@given(CHANNELS, st.floats(0, 100), st.data())
def test_percentile_is_exactly_numpys_with_and_without_the_lowest(channel, percent, data):
    ordered = np.sort(channel, axis=None).astype(np.float64)
    skip = data.draw(st.integers(0, channel.size - 1))
    assert percentile(rank_values(channel), percent) == np.percentile(ordered, percent)
    assert percentile(rank_values(channel), percent, skip) == np.percentile(ordered[skip:], percent)


@pytest.mark.parametrize("percents", [(1, 99), (2, 98), (5, 95), (0, 100)])
def test_int8_does_not_overflow(percents):
    """numpy.percentile of an int8 array subtracts neighbours in int8."""
    channel = np.array([-128, 127], np.int8).reshape(1, 1, 2)
    for percent in percents:
        assert percentile(rank_values(channel), percent) == np.percentile(channel.astype(float), percent)
