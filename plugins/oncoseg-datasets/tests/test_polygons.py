"""Filling contours, against an independent method in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoseg_datasets.polygons import fill_even_odd, fill_outline

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
rings = st.lists(st.tuples(eighths, eighths), min_size=3, max_size=7)


@given(st.lists(rings, min_size=1, max_size=3))
def test_a_centre_is_inside_if_rings_go_around_it_an_odd_number_of_times(some):
    mask = fill_even_odd(some, SHAPE)
    exactly = [exact(ring) for ring in some]
    for row, column in np.ndindex(SHAPE):
        centre = (Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2))
        if not any(on_border(centre, ring) for ring in exactly):
            inside = sum(winding(centre, ring) for ring in exactly) % 2 == 1
            assert mask[row, column] == inside, (row, column)


@given(rings, st.integers(0, 6))
def test_neither_winding_nor_the_first_corner_matters(ring, turn):
    mask = fill_even_odd([ring], SHAPE)
    turn %= len(ring)
    np.testing.assert_array_equal(fill_even_odd([ring[::-1]], SHAPE), mask)
    np.testing.assert_array_equal(fill_even_odd([ring[turn:] + ring[:turn]], SHAPE), mask)


@given(st.lists(st.floats(-3, 14, allow_nan=False), min_size=4, max_size=4))
def test_shapes_that_share_a_border_share_no_pixel_and_leave_none_out(line):
    """The whole grid, cut in two along any line of floats."""
    x0, y0, x1, y1 = line
    left = [(-50, -50), (x0, -50), (x0, y0), (x1, y1), (x1, 50), (-50, 50)]
    right = [(x0, -50), (50, -50), (50, 50), (x1, 50), (x1, y1), (x0, y0)]
    both = fill_even_odd([left], SHAPE).astype(int) + fill_even_odd([right], SHAPE)
    assert (both % 2 == 1).all()


def test_a_ring_in_a_ring_is_a_hole_and_an_island_in_it_is_not():
    squares = [[(a, a), (9 - a, a), (9 - a, 9 - a), (a, 9 - a)] for a in (0, 2, 4)]
    expected = np.zeros(SHAPE, bool)
    expected[0:9, 0:9] = True
    expected[2:7, 2:7] = False
    expected[4, 4] = True
    np.testing.assert_array_equal(fill_even_odd(squares, SHAPE), expected)


def test_a_keyhole_is_a_hole():
    """Outer square, along a line into the hole, around it, and back on the same line."""
    keyhole = [(0, 0), (9, 0), (9, 9), (0, 9), (0, 4.5), (3, 4.5), (3, 6), (6, 6), (6, 3), (3, 3), (3, 4.5), (0, 4.5)]
    expected = np.zeros(SHAPE, bool)
    expected[0:9, 0:9] = True
    expected[3:6, 3:6] = False
    np.testing.assert_array_equal(fill_even_odd([keyhole], SHAPE), expected)


def test_pixel_edges_give_back_the_pixels():
    """A border along pixel edges neither grows nor shrinks the shape; PIL's fill would add a row and a column."""
    mask = fill_even_odd([[(2, 3), (7, 3), (7, 5), (2, 5)]], SHAPE)
    assert mask.sum() == 10
    assert mask[3:5, 2:7].all()


outlines = st.lists(st.tuples(st.integers(-2, 12), st.integers(-2, 10)), min_size=1, max_size=7)


@given(outlines, st.booleans())
def test_an_outline_counts_with_or_without_its_own_pixels(outline, with_border):
    mask = fill_outline(outline, SHAPE, with_border=with_border)
    ring = exact(outline)
    for row, column in np.ndindex(SHAPE):
        point = (Fraction(column), Fraction(row))
        expected = with_border if on_border(point, ring) else winding(point, ring) % 2 == 1
        assert mask[row, column] == expected, (row, column)


@pytest.mark.parametrize("outline", [[(4, 4)], [(4, 4), (6, 4)]])
def test_one_or_two_pixels_enclose_nothing(outline):
    assert not fill_outline(outline, SHAPE, with_border=False).any()
