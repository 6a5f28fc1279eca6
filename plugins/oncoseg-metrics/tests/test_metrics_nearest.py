"""Distances between corners, against every pair of them and against the search tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from oncoseg_core.system import threads
from oncoseg_metrics import corners, nearest
from oncoseg_metrics.corners import surface_corners
from oncoseg_metrics.nearest import nearest_distances

spacings = st.tuples(*[st.sampled_from((0.5, 0.7, 1.0, 3.3, 1))] * 3)
places = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


@settings(deadline=None, max_examples=200)
@given(
    pair=places,
    sides=spacings,
    slab=st.sampled_from((1, 2, 32)),
    lines=st.sampled_from((1, 5, 40, 256)),
    sparse=st.sampled_from((0, 10, 500)),
)
def test_the_nearest_of_all(pair, sides, slab, lines, sparse):
    """Whatever is found by lines and whatever is left to the tree, in slabs of any depth."""
    own, others = (np.argwhere(mask) for mask in pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "SLAB", slab)
        patch.setattr(nearest, "LINES", lines)
        patch.setattr(nearest, "SPARSE", sparse)
        found = nearest_distances(own, others, pair[0].shape, sides)
    if not len(others):
        assert np.isinf(found).all()
    elif len(own):
        every = cdist(own * np.asarray(sides), others * np.asarray(sides)).min(axis=1)
        np.testing.assert_allclose(found, every, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 2, -3), (12, 30, 5)])
def test_large_surfaces_in_several_threads(shift, monkeypatch):
    monkeypatch.setattr(threads, "_LARGE", 0)
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    rng = np.random.default_rng(0)
    mask = np.zeros((70, 90, 80), dtype=bool)
    mask[10:50, 20:55, 10:70] = rng.random((40, 35, 60)) < 0.97
    own, others = (surface_corners(each, flat=False).places for each in (mask, np.roll(mask, shift, (0, 1, 2))))
    sides = np.array((3.0, 0.75, 0.8))
    tree, _ = cKDTree(others * sides).query(own * sides)
    np.testing.assert_allclose(
        nearest_distances(own, others, (71, 91, 81), (3.0, 0.75, 0.8)), tree, rtol=1e-12, atol=1e-12
    )


def test_rows_too_long_for_small_numbers():
    """A row of 20,000 corners: more steps than 16 bits hold twice."""
    own, others = np.array([[0, 0, 0]] * 200), np.array([[0, 19_999, 0]])
    assert nearest._steps_along_y(others, (1, 20_000, 1))[0, 0, 0] == 19_999
    np.testing.assert_array_equal(nearest_distances(own, others, (1, 20_000, 1), (1.0, 0.5, 1.0)), 9999.5)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8)), st.sampled_from((1, 2, 3)))
def test_corners_do_not_depend_on_the_slabs(mask, slab):
    whole = surface_corners(mask, flat=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corners, "SLAB", slab)
        parts = surface_corners(mask, flat=False)
    np.testing.assert_array_equal(whole.places, parts.places)
    np.testing.assert_array_equal(whole.codes, parts.codes)
    padded = np.pad(mask, 1)  # a corner is at a surface where the 8 voxels around it are neither all inside nor none
    around = sum(
        padded[z : z + mask.shape[0] + 1, y : y + mask.shape[1] + 1, x : x + mask.shape[2] + 1].astype(int)
        for z in (0, 1)
        for y in (0, 1)
        for x in (0, 1)
    )
    np.testing.assert_array_equal(whole.places, np.argwhere((around > 0) & (around < 8)))
    assert [int(code).bit_count() for code in whole.codes] == around[tuple(whole.places.T)].tolist()
