"""Filling contours of one slice, against an independent method in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoseg_dicom import fill_polygons

SHAPE = (9, 11)


def cross(origin, one, two):
    return (one[0] - origin[0]) * (two[1] - origin[1]) - (one[1] - origin[1]) * (two[0] - origin[0])


def on_border(point, ring):
    for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
        between = all(min(s, e) <= p <= max(s, e) for s, e, p in zip(start, end, point, strict=True))
        if between and cross(start, end, point) == 0:
            return True
    return False


def winding(point, ring):
    """How often a ring goes around a point that is not on it (Sunday's winding number), with upward rays in x."""
    count = 0
    for start, end in zip(ring, [*ring[1:], ring[0]], strict=True):
        side = cross(start, end, point)
        if start[0] <= point[0] < end[0] and side < 0:
            count += 1
        elif end[0] <= point[0] < start[0] and side > 0:
            count -= 1
    return count


def exact(ring):
    return [(Fraction(x), Fraction(y)) for x, y in ring]


# Eighths are exact as floats, so that corners and centres do meet on borders.
eighths = st.integers(-16, 104).map(lambda value: value / 8)
borders = st.sampled_from(["below", "right"])
rings = st.lists(st.tuples(eighths, eighths), min_size=3, max_size=7)


@given(st.lists(rings, min_size=1, max_size=3), borders)
def test_a_centre_is_inside_if_rings_go_around_it_an_odd_number_of_times(some, border):
    mask = fill_polygons(some, SHAPE, border=border)
    exactly = [exact(ring) for ring in some]
    for row, column in np.ndindex(SHAPE):
        centre = (Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2))
        if not any(on_border(centre, ring) for ring in exactly):
            inside = sum(winding(centre, ring) for ring in exactly) % 2 == 1
            assert mask[row, column] == inside, (row, column)


@given(rings, st.integers(0, 6), borders)
def test_neither_winding_nor_the_first_corner_matters(ring, turn, border):
    mask = fill_polygons([ring], SHAPE, border=border)
    turn %= len(ring)
    np.testing.assert_array_equal(fill_polygons([ring[::-1]], SHAPE, border=border), mask)
    np.testing.assert_array_equal(fill_polygons([ring[turn:] + ring[:turn]], SHAPE, border=border), mask)


@given(st.lists(st.floats(-3, 14, allow_nan=False), min_size=4, max_size=4), borders)
def test_shapes_that_share_a_border_share_no_pixel_and_leave_none_out(line, border):
    """The whole grid, cut in two along any line of floats."""
    x0, y0, x1, y1 = line
    left = [(-50, -50), (x0, -50), (x0, y0), (x1, y1), (x1, 50), (-50, 50)]
    right = [(x0, -50), (50, -50), (50, 50), (x1, 50), (x1, y1), (x0, y0)]
    both = fill_polygons([left], SHAPE, border=border).astype(int) + fill_polygons([right], SHAPE, border=border)
    assert (both % 2 == 1).all()


@pytest.mark.parametrize("border", ["below", "right"])
def test_a_ring_in_a_ring_is_a_hole_and_an_island_in_it_is_not(border):
    squares = [[(a, a), (9 - a, a), (9 - a, 9 - a), (a, 9 - a)] for a in (0, 2, 4)]
    expected = np.zeros(SHAPE, bool)
    expected[0:9, 0:9] = True
    expected[2:7, 2:7] = False
    expected[4, 4] = True
    np.testing.assert_array_equal(fill_polygons(squares, SHAPE, border=border), expected)


@pytest.mark.parametrize("border", ["below", "right"])
def test_a_keyhole_is_a_hole(border):
    """Outer square, along a line into the hole, around it, and back on the same line."""
    keyhole = [(0, 0), (9, 0), (9, 9), (0, 9), (0, 4.5), (3, 4.5), (3, 6), (6, 6), (6, 3), (3, 3), (3, 4.5), (0, 4.5)]
    expected = np.zeros(SHAPE, bool)
    expected[0:9, 0:9] = True
    expected[3:6, 3:6] = False
    np.testing.assert_array_equal(fill_polygons([keyhole], SHAPE, border=border), expected)


@pytest.mark.parametrize("border", ["below", "right"])
def test_pixel_edges_give_back_the_pixels(border):
    """A border along pixel edges neither grows nor shrinks the shape; PIL's fill would add a row and a column."""
    mask = fill_polygons([[(2, 3), (7, 3), (7, 5), (2, 5)]], SHAPE, border=border)
    assert mask.sum() == 10
    assert mask[3:5, 2:7].all()


def test_a_centre_on_a_slanted_border_belongs_to_the_shape_below_it_or_on_its_right():
    """The triangle lies above the diagonal and to its right; the diagonal runs through the centres (i, i)."""
    above = [(0, 0), (9, 0), (9, 9)]
    of_the_right, of_the_lower = (fill_polygons([above], (9, 9), border=border) for border in ("right", "below"))
    np.testing.assert_array_equal(of_the_right, np.triu(np.ones((9, 9), bool)))
    np.testing.assert_array_equal(of_the_lower, np.triu(np.ones((9, 9), bool), 1))


@pytest.mark.parametrize("rings", [[], [[]], [[(1, 1)]]])
def test_nothing_encloses_nothing(rings):
    assert not fill_polygons(rings, SHAPE).any()


@pytest.mark.parametrize("border", ["below", "right"])
@pytest.mark.parametrize("ring", [[(2, -9), (8, -9), (8, -4), (2, -4)], [(-9, 2), (-9, 8), (-4, 8), (-4, 2)]])
def test_a_ring_beyond_the_grid_encloses_nothing(ring, border):
    mask = fill_polygons([ring], SHAPE, border=border)
    assert not mask.view(np.uint8).any()
