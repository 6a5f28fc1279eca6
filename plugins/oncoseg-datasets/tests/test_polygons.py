"""Filling outlines that run from pixel to pixel, against an independent method in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oncoseg_datasets.polygons import fill_outline

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
