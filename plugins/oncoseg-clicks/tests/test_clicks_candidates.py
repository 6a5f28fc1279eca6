"""Candidate boxes: around the click, grown to positive clicks, cut at negative ones, never beyond the input."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_clicks.candidates import RESIZED, SIDES, STRETCHED, Clicks, candidate_boxes
from oncoseg_core import Box

PLACES = st.tuples(st.floats(0, 255.9), st.floats(0, 255.9))


def holds(box, place):
    return box.x0 < place[0] < box.x1 and box.y0 < place[1] < box.y1


def test_one_click_gives_squares_of_all_sides_and_two_shapes_of_some():
    boxes = candidate_boxes(Clicks(((128.0, 100.0),)), 256).boxes
    assert len(boxes) == len(SIDES) + 2 * len(STRETCHED)
    squares = [box for box in boxes if math.isclose(box.x1 - box.x0, box.y1 - box.y0)]
    assert [round(box.x1 - box.x0) for box in squares] == list(SIDES)
    assert all(math.isclose(box.x0 + box.x1, 256) and math.isclose(box.y0 + box.y1, 200) for box in boxes)


def test_sizes_follow_the_model_s_input():
    small, large = (candidate_boxes(Clicks(((size / 2, size / 2),)), size).boxes for size in (256, 1024))
    assert [tuple(4 * side for side in box.as_tuple()) for box in small] == [box.as_tuple() for box in large]


@settings(max_examples=60, deadline=None)
@given(positive=st.lists(PLACES, min_size=1, max_size=4), negative=st.lists(PLACES, max_size=3))
def test_every_box_lies_on_the_input_and_some_holds_all_positive_clicks(positive, negative):
    boxes = candidate_boxes(Clicks(tuple(positive), tuple(negative)), 256).boxes
    assert boxes
    assert all(0 <= box.x0 < box.x1 <= 256 and 0 <= box.y0 < box.y1 <= 256 for box in boxes)
    inner = [place for place in positive if place[0] > 0 and place[1] > 0]
    assert any(all(holds(box, place) for place in inner) for box in boxes)


def test_what_is_grown_and_cut_holds_every_positive_click():
    clicks = Clicks(((100.0, 100.0), (140.0, 100.0)), ((120.0, 101.0), (110.0, 130.0)))
    boxes, plain = candidate_boxes(clicks, 256)
    assert len(boxes) > plain
    assert all(holds(box, place) for box in boxes[plain:] for place in clicks.positive)


def test_a_negative_click_cuts_boxes_on_the_side_that_costs_least():
    boxes = candidate_boxes(Clicks(((100.0, 100.0),), ((120.0, 101.0),)), 256).boxes
    wide = [box for box in boxes if box.y1 - box.y0 > 60]
    assert any(math.isclose(box.x1, 120) and box.x0 < 70 for box in wide)
    assert any(holds(box, (120.0, 101.0)) for box in boxes), "the mask may leave it out all the same"


def test_a_negative_click_among_positive_ones_cannot_be_cut_off():
    around = ((80.0, 100.0), (120.0, 100.0), (100.0, 80.0), (100.0, 120.0))
    boxes = candidate_boxes(Clicks(around, ((100.0, 100.0),)), 256).boxes
    assert any(all(holds(box, place) for place in around) for box in boxes)


def test_a_box_that_came_with_the_clicks_is_resized():
    given_box = Box(80, 90, 120, 110)
    boxes = candidate_boxes(Clicks(((100.0, 100.0),), (), given_box), 256).boxes
    assert [round((box.x1 - box.x0) / 40, 3) for box in boxes] == list(RESIZED)
    assert given_box.as_tuple() in [box.as_tuple() for box in boxes]


def test_corrective_clicks_add_candidates_and_take_none_away():
    first = candidate_boxes(Clicks(((100.0, 100.0),)), 256)
    more = candidate_boxes(Clicks(((100.0, 100.0), (120.0, 100.0)), ((100.0, 70.0),)), 256)
    assert first.plain == more.plain == len(first.boxes)
    assert more.boxes[: more.plain] == first.boxes
    assert len(more.boxes) > more.plain
