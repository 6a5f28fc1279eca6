"""Masks held as bits come back as they were, each time as an array of its own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_dicom.packed_masks import PackedMasks


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
@settings(deadline=None)
def test_what_is_added_comes_back(seed, share):
    rng = np.random.default_rng(seed)
    shape = tuple(int(size) for size in rng.integers(1, 12, 3))
    first, second, third = (rng.random(shape) < share for _ in range(3))
    packed = PackedMasks(shape)
    packed.add_empty("nothing")
    packed.add("both", first)
    for index in rng.permutation(shape[0]):
        before = second[index].copy()
        packed.add_slice("both", int(index), second[index])
        np.testing.assert_array_equal(second[index], before)
    packed.add("third", third)
    assert list(packed) == ["nothing", "both", "third"]
    np.testing.assert_array_equal(packed["both"], first | second)
    np.testing.assert_array_equal(packed["third"], third)
    assert not packed["nothing"].any()
    taken = packed["third"]
    taken[:] = True
    np.testing.assert_array_equal(packed["third"], third)


def test_it_takes_a_part_of_the_memory():
    mask = np.zeros((10, 100, 100), dtype=bool)
    mask[3:7, 20:60, 30:70] = True
    packed = PackedMasks(mask.shape)
    packed.add("liver", mask)
    assert sum(box.bits.nbytes for box in packed._boxes["liver"].values()) == 4 * 40 * 40 // 8
