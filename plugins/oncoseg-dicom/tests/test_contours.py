"""Voxels to rings and back, on the pixel grid alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rtstruct_phantoms import shapes

from oncoseg_dicom.rtstruct import contours
from oncoseg_dicom.rtstruct.contours import trace
from oncoseg_dicom.rtstruct.filling import draw, fill, voxels_of_each
from oncoseg_dicom.rtstruct.smoothing import Smoothing

masks = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(bool, shape))


def rings_of(mask, **how):
    """(plane, points) of each ring."""
    return [
        (int(plane), ring)
        for some in trace(mask, **how)
        for plane, ring in zip(some.planes, np.split(some.points, np.cumsum(some.lengths)[:-1]), strict=True)
    ]


def filled(rings, shape):
    mask = np.zeros(shape, dtype=bool)
    if rings:
        planes, points = zip(*rings, strict=True)
        fill(mask, np.concatenate(points), np.array([len(ring) for ring in points]), np.array(planes))
    return mask


def filled_one_by_one(rings, shape):
    """How many rings each voxel is in when each is filled on its own: what readers make of it that unite contours."""
    return sum((filled([ring], shape).astype(int) for ring in rings), start=np.zeros(shape, dtype=int))


@st.composite
def tangled_masks(draw):
    """Speckle, pixels that touch at corners, blocks with holes, islands in them and holes in those."""
    height, width = draw(st.tuples(st.integers(5, 26), st.integers(5, 26)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    mask = rng.random((height, width)) < draw(st.sampled_from((0.0, 0.1, 0.5, 0.85, 0.97)))
    for _ in range(draw(st.integers(0, 6))):
        top, left = rng.integers(height), rng.integers(width)
        part = mask[top : top + rng.integers(1, height), left : left + rng.integers(1, width)]
        if draw(st.booleans()):
            part ^= True
        else:  # a checkerboard, whose pixels touch at their corners only
            part ^= np.indices(part.shape).sum(axis=0) % 2 == 0
    return mask[None]


def sides_of(rings):
    starts = np.concatenate([ring for _, ring in rings])
    ends = np.concatenate([np.roll(ring, -1, axis=0) for _, ring in rings])
    return starts, ends


def turn(a, b, c):
    return np.sign(
        np.round(
            (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]), 9
        )
    )


def crossings(rings):
    """How many pairs of sides cross at a point inside both."""
    a, b = (side[:, None] for side in sides_of(rings))
    c, d = (side[None] for side in sides_of(rings))
    return int(((turn(a, b, c) * turn(a, b, d) < 0) & (turn(c, d, a) * turn(c, d, b) < 0)).sum()) // 2


def gap(rings):
    """The smallest distance of a point from a side that it is no end of."""
    points, ends = sides_of(rings)
    way = ends - points
    along = np.clip(((points[:, None] - points) * way).sum(-1) / (way**2).sum(-1), 0, 1)
    distance = np.linalg.norm(points[:, None] - (points + along[..., None] * way), axis=-1)
    number = np.arange(len(points))
    begins = np.concatenate([[0], np.cumsum([len(ring) for _, ring in rings])])
    following = np.concatenate([np.roll(np.arange(b, e), -1) for b, e in pairwise(begins)])
    distance[number, number] = distance[following, number] = np.inf
    return distance.min()


@given(masks, st.booleans())
def test_what_is_traced_fills_to_the_same_voxels(mask, keyhole):
    before = mask.copy()
    np.testing.assert_array_equal(filled(rings_of(mask, keyhole=keyhole), mask.shape), mask)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("keyhole", [True, False])
def test_shapes_fill_to_the_same_voxels(name, keyhole):
    mask = shapes()[name]
    rings = rings_of(mask, keyhole=keyhole)
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    assert all(len(ring) >= 4 for _, ring in rings)


@given(masks)
def test_rings_touch_neither_each_other_nor_themselves(mask):
    rings = rings_of(mask, keyhole=False)
    for plane in {plane for plane, _ in rings}:
        assert gap([ring for ring in rings if ring[0] == plane]) > 0.039  # twice the pull


@given(masks)
def test_bridges_cross_nothing(mask):
    rings = rings_of(mask)
    for plane in {plane for plane, _ in rings}:
        assert crossings([ring for ring in rings if ring[0] == plane]) == 0


@given(tangled_masks())
@settings(max_examples=300)
def test_no_voxel_is_in_two_rings(mask):
    """So that the holes are the same for readers that unite contours, and for those that count how many enclose it."""
    rings = rings_of(mask)
    np.testing.assert_array_equal(filled_one_by_one(rings, mask.shape), mask)
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    assert not rings or crossings(rings) == 0


def test_a_hole_is_joined_to_the_solid_around_it_and_not_to_an_island_beside_its_bridge():
    """The bridge of the large hole ends amid a side whose lower end an island in another hole touches at a corner."""
    mask = np.zeros((1, 20, 24), dtype=bool)
    mask[0, 1:19, 1:23] = True
    mask[0, 3:5, 4] = mask[0, 5, [3, 5]] = mask[0, 6, 4] = False  # a hole around the pixel in row 5 and column 4
    mask[0, 4:14, 8:20] = False
    rings = rings_of(mask)
    assert min(len(ring) for _, ring in rings) == 4  # the island, joined to nothing
    np.testing.assert_array_equal(filled_one_by_one(rings, mask.shape), mask)


@given(tangled_masks(), st.booleans(), st.sampled_from([1, 50, 1 << 20]))
def test_voxels_are_counted_as_if_each_ring_were_filled_on_its_own(mask, keyhole, at_once):
    rings = rings_of(np.pad(mask, ((0, 0), (0, 2), (0, 0))), keyhole=keyhole)
    if not rings:
        return
    rings = [(plane, ring + (-1.3, 2.0)) for plane, ring in rings]  # in part beyond the grid
    lengths = np.array([len(ring) for _, ring in rings])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("oncoseg_dicom.rtstruct.filling.AT_ONCE", at_once)
        found = voxels_of_each(np.concatenate([ring for _, ring in rings]), lengths, mask.shape[1:])
    assert found.tolist() == [int(filled([ring], mask.shape).sum()) for ring in rings]


def test_many_holes_are_joined_by_bridges_that_cross_nothing():
    mask = np.ones((1, 17, 23), dtype=bool)
    mask[:, 1:-1, 1:-1] = np.random.default_rng(5).random((1, 15, 21)) < 0.7
    rings = rings_of(mask)
    assert not rings or crossings(rings) == 0
    # One ring for each part that is joined by pixels' sides, however many holes it has.
    assert len(rings) < len(rings_of(mask, keyhole=False))
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)


def test_there_are_corners_only_and_the_first_is_not_repeated():
    mask = np.zeros((1, 9, 9), dtype=bool)
    mask[0, 2:6, 3:8] = True
    ((_, ring),) = rings_of(mask)
    np.testing.assert_allclose(ring, [(3.02, 2.02), (7.98, 2.02), (7.98, 5.98), (3.02, 5.98)])


def test_a_hole_grows_into_the_solid():
    mask = np.ones((1, 3, 3), dtype=bool)
    mask[0, 1, 1] = False
    (_, outer), (_, hole) = rings_of(mask, keyhole=False)
    np.testing.assert_allclose([outer.min(), outer.max(), hole.min(), hole.max()], [0.02, 2.98, 0.98, 2.02])


def test_a_bridge_has_no_width():
    mask = np.ones((1, 3, 3), dtype=bool)
    mask[0, 1, 1] = False
    ((_, ring),) = rings_of(mask)
    assert len(ring) == 4 + 1 + 4 + 2  # the two squares, where the bridge lands, and both its ends again
    assert len({tuple(point) for point in ring}) == 9


def test_bridges_to_one_side_leave_it_in_order():
    """However many land on it, the ring runs along the side once: its length is that of all rings and both ways."""
    mask = np.ones((1, 12, 9), dtype=bool)
    mask[0, [2, 5, 9], 4] = False

    def length(rings):
        starts, ends = sides_of(rings)
        return np.abs(ends - starts).sum()

    bridge = 4 - 0.02 - 0.02
    assert length(rings_of(mask)) == pytest.approx(length(rings_of(mask, keyhole=False)) + 3 * 2 * bridge)


@given(masks, st.booleans())
def test_it_does_not_matter_how_many_slices_are_traced_at_once(mask, keyhole):
    whole = rings_of(mask, keyhole=keyhole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contours, "BLOCK_VOXELS", 1)
        for (plane, ring), (other_plane, other) in zip(rings_of(mask, keyhole=keyhole), whole, strict=True):
            assert plane == other_plane
            np.testing.assert_array_equal(ring, other)


def test_views_that_are_not_contiguous_are_traced():
    mask = shapes()["island in hole"]
    turned = np.asfortranarray(mask)[::-1, :, ::-1]
    np.testing.assert_array_equal(filled(rings_of(turned), mask.shape), turned)


def test_nothing_has_no_rings():
    assert rings_of(np.zeros((2, 3, 4), dtype=bool)) == []


@given(masks, st.floats(0.01, 3), st.sampled_from([(1.0, 1.0), (0.5, 1.7)]), st.booleans())
def test_smoothing_keeps_every_voxel_and_its_limit(mask, limit_mm, size, keyhole):
    how = Smoothing(limit_mm, *size)
    rings = rings_of(mask, smoothing=how, keyhole=keyhole)
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    assert all(0 <= some.moved_mm <= limit_mm + 1e-9 for some in trace(mask, smoothing=how, keyhole=keyhole))


def test_smoothing_tells_how_far_it_moved():
    y, x = np.indices((40, 40))
    mask = (np.hypot(y - 20, x - 20) < 15)[None]
    (smooth,) = trace(mask, smoothing=Smoothing(10, 0.7, 0.7))
    (steps,) = trace(mask)
    off = np.array([_distance(point, steps.points) for point in smooth.points])
    assert 0.1 < off.max() * 0.7 <= smooth.moved_mm <= 0.45 * 0.7 * np.sqrt(2)
    # What it is for: a circle is rounder than its steps.
    radius = [np.hypot(*(rings.points - 20.5).T) for rings in (smooth, steps)]
    assert radius[0].std() < radius[1].std() / 3


def _distance(point, ring):
    way = np.roll(ring, -1, axis=0) - ring
    along = np.clip(((point - ring) * way).sum(1) / (way**2).sum(1), 0, 1)
    return np.linalg.norm(ring + along[:, None] * way - point, axis=1).min()


@given(st.integers(0, 2**31), st.booleans())
@settings(max_examples=30)
def test_filling_follows_the_even_odd_rule(seed, reverse):
    """Against a plain point-in-polygon test of every centre, for polygons that cross themselves and leave the grid."""
    rng = np.random.default_rng(seed)
    ring = rng.uniform(-4, 16, (rng.integers(3, 9), 2))
    mask = filled([(0, ring[::-1] if reverse else ring)], (1, 11, 13))
    for i in range(11):
        for j in range(13):
            inside = False
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (x0 > j + 0.5) != (x1 > j + 0.5):
                    inside ^= bool(y0 + (j + 0.5 - x0) * (y1 - y0) / (x1 - x0) <= i + 0.5)
            assert mask[0, i, j] == inside


def test_shapes_that_share_a_border_share_no_pixel_and_leave_none_out():
    left = np.array([(0, 0), (4.5, 0), (7.5, 6), (0, 6)])
    right = np.array([(4.5, 0), (9, 0), (9, 6), (7.5, 6)])
    both = [filled([(0, ring)], (1, 6, 9)) for ring in (left, right)]
    assert (both[0] ^ both[1]).all()


def test_drawing_includes_the_pixels_that_a_contour_runs_through(monkeypatch):
    monkeypatch.setattr("oncoseg_dicom.rtstruct.filling.AT_ONCE", 3)  # in many pieces
    mask = np.zeros((2, 7, 8), dtype=bool)
    ring = np.array([(1, 1), (5, 1), (5, 3), (3, 5), (1, 5)]) + 0.5
    outside = np.array([(6, 6), (12, 6)]) + 0.5
    lengths, planes = np.array([5, 2]), np.array([1, 1])
    fill(mask, np.concatenate([ring, outside]), lengths, planes)
    draw(mask, np.concatenate([ring, outside]), lengths, planes)
    expected = np.zeros_like(mask)
    expected[1, 1:4, 1:6] = expected[1, 4, 1:5] = expected[1, 5, 1:4] = expected[1, 6, 6:] = True
    np.testing.assert_array_equal(mask, expected)
