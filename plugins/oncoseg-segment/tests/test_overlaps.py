"""Voxels that several structures claim: to all, to the first, to the surest on that slice."""

import numpy as np
import pytest

from oncoseg_segment.engine.overlaps import resolve_overlaps


@pytest.fixture
def masks():
    """Three structures on two slices of three columns: each claims column 0; the second also 1, the third also 1 and 2."""
    found = np.zeros((3, 2, 1, 3), dtype=bool)
    found[0, :, 0, :1] = found[1, :, 0, :2] = found[2, :, 0, :3] = True
    return list(found)


SCORES = [{0: 0.5, 1: 0.9}, {0: 0.8, 1: 0.7}, {0: 0.8, 1: 0.95}]


def shares(masks):
    """For each slice, which structure has each column."""
    assert np.sum(masks, axis=0).max() == 1
    return [[int(np.argmax([mask[z, 0, x] for mask in masks])) for x in range(3)] for z in range(2)]


def test_kept(masks):
    kept = resolve_overlaps(masks, SCORES, "keep")
    assert all(one is other for one, other in zip(kept, masks, strict=True))


def test_the_first(masks):
    before = [mask.copy() for mask in masks]
    assert shares(resolve_overlaps(masks, SCORES, "first")) == [[0, 1, 2], [0, 1, 2]]
    assert all(np.array_equal(one, other) for one, other in zip(masks, before, strict=True))


def test_the_surest_on_that_slice_and_of_equal_ones_the_first(masks):
    assert shares(resolve_overlaps(masks, SCORES, "highest-score")) == [[1, 1, 2], [2, 2, 2]]


def test_nothing():
    assert resolve_overlaps([], [], "first") == []
