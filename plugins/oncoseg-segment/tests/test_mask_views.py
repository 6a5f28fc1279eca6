"""Masks that are made when they are taken."""

import numpy as np
import pytest

from oncoseg_segment.engine.overlaps import resolve_overlaps
from oncoseg_segment.files.mask_views import FirstClaims, RenamedMasks


def masks(count=5):
    rng = np.random.default_rng(0)
    return {f"m{number}": rng.random((3, 6, 7)) < 0.4 for number in range(count)}


def test_masks_under_other_names():
    source = masks()
    renamed = RenamedMasks(source, {"b": "m1", "a": "m0"})
    assert list(renamed) == ["b", "a"]
    assert len(renamed) == 2
    assert renamed["b"] is source["m1"]


@pytest.mark.parametrize("count", [1, 5, 300])
def test_a_voxel_is_the_first_structures_that_claims_it(count):
    source = masks(count)
    expected = resolve_overlaps(list(source.values()), [{}] * count, "first")
    claims = FirstClaims(source)
    assert list(claims) == list(source)
    for mask, other in zip(claims.values(), expected, strict=True):
        np.testing.assert_array_equal(mask, other)
