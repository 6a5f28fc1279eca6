"""Every kind of prompt keeps its rules: on a slice, in a window, on the model's input and back."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core import (
    PROMPTS,
    Box,
    Exemplar,
    Geometry,
    Lasso,
    LoraSpec,
    MaskPrompt,
    ModelSpec,
    PlaneView,
    Point,
    PromptError,
    PromptKind,
    Scribble,
    SliceGrid,
    Text,
    box_around,
    check_on_slice,
    prompt_from_points,
)
from oncoseg_core.path import Window, ZoomSettings, prompt_to_model, window_for

SPEC = ModelSpec(
    name="none", factory="tests:None", summary="test", prompt_kinds=("box",), input_size=128,
    lora=LoraSpec(targets=("qkv",)), weights="none",
)  # fmt: skip
MASK = np.zeros((60, 50), dtype=bool)
MASK[10:20, 5:9] = True
LINE = ((5.0, 6.0), (9.5, 8.0), (7.0, 12.0))


@pytest.mark.parametrize(
    ("hint", "bounds", "clicks", "points_at_object", "needs_whole_slice", "record"),
    [
        (Box(1, 2, 3, 4.5), Box(1, 2, 3, 4.5), (), True, False, {"x0 y0 x1 y1": [1, 2, 3, 4.5], "positive": True}),
        (Exemplar(1, 2, 3, 4, positive=False), Box(1, 2, 3, 4), (), False, True, {"x0 y0 x1 y1": [1, 2, 3, 4], "positive": False}),
        (Point(5.5, 6, positive=False), Box(5, 6, 6, 7), ((5.5, 6),), True, False, {"x y": [5.5, 6], "positive": False}),
        (Scribble(LINE), Box(5, 6, 10, 13), LINE, True, False, {"points x y": [[5, 6], [9.5, 8], [7, 12]], "positive": True}),
        (Lasso(LINE), Box(5, 6, 9.5, 12), (), True, False, {"points x y": [[5, 6], [9.5, 8], [7, 12]], "positive": True}),
        (MaskPrompt(MASK), Box(5, 10, 9, 20), (), True, False, {"positive": True}),
        (MaskPrompt(MASK & False), None, (), True, False, {"positive": True}),
        (Text("cyst"), None, (), False, False, {"text": "cyst"}),
    ],
)  # fmt: skip
def test_the_rules_of_each_kind(hint, bounds, clicks, points_at_object, needs_whole_slice, record):
    assert PROMPTS[hint.kind] is type(hint)
    assert (hint.bounds(), hint.clicks()) == (bounds, clicks)
    assert (hint.points_at_object, hint.needs_whole_slice) == (points_at_object, needs_whole_slice)
    assert hint.as_record() == {"kind": hint.kind, **record}
    assert hint.outlines_object == (hint.kind in {"box", "mask", "lasso"})
    check_on_slice((hint,), 60, 50)


def test_each_kind_has_its_class():
    assert tuple(PROMPTS) == get_args(PromptKind)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scribble(((1, 2),)), "a scribble is at least 2 points"),
        (lambda: Scribble(((1, 2, 3), (4, 5, 6))), "a scribble is at least 2 points"),
        (lambda: Scribble(((1, 2), (math.nan, 3))), "not finite"),
        (lambda: Lasso(((1, 2), (3, 4))), "a lasso is at least 3 points"),
        (lambda: Lasso(((1, 2), (3, math.inf), (4, 4))), "not finite"),
        (lambda: Lasso(((1.1, 1.1), (2.2, 2.2), (3.3, 3.3))), "encloses no area"),
        (lambda: Lasso(((1, 1), (1, 1), (1, 5), (1, 2))), "encloses no area"),
        (lambda: Lasso(((0, 0), (2, 2), (2, 0), (0, 2))), "encloses no area"),
        (lambda: prompt_from_points("text", [(1, 2)]), "'text' is made of 0 to 0 points, found 1"),
        (lambda: prompt_from_points("box", [(1, 2)]), "'box' is made of 2 to 2 points, found 1"),
        (lambda: check_on_slice((), 9, 9), "expected at least one box, point, text, mask, exemplar, scribble or lasso$"),
        (lambda: check_on_slice((Scribble(((1, 1), (9, 5))),), 9, 9), r"scribble point \(9, 5\) lies outside the slice"),
        (lambda: check_on_slice((Lasso(((1, 1), (9, 5), (9.1, 1))),), 9, 9), r"lasso point \(9.1, 1\) lies outside the slice"),
        (lambda: ModelSpec(**{**SPEC.model_dump(), "reads_as": {"lasso": "a box"}}), "reads_as holds lasso, which prompt_kinds"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(make, message):
    with pytest.raises((PromptError, ValueError), match=message):
        make()


@st.composite
def hints_on_slices(draw):
    """A hint that has a place, and the height and width of its slice."""
    height, width = draw(st.integers(30, 300)), draw(st.integers(30, 300))
    x0, y0 = draw(st.floats(0, width - 5)), draw(st.floats(0, height - 5))
    x1, y1 = draw(st.floats(x0 + 1, width - 1)), draw(st.floats(y0 + 1, height - 1))
    kind = draw(st.sampled_from([kind for kind in PROMPTS if PROMPTS[kind].corners[0]]))
    places = [(x0, y0), (x1, y1), (x0, y1)][: PROMPTS[kind].corners[0]]
    return prompt_from_points(kind, places), height, width


def numbers(hint):
    ((_, values), *_) = hint.coordinates().items()
    return values


@settings(max_examples=150, deadline=None)
@given(hints_on_slices(), st.builds(PlaneView, st.booleans(), st.booleans(), st.booleans()))
def test_to_the_model_and_back_is_the_same_prompt(drawn, view):
    hint, height, width = drawn
    grid = SliceGrid(view, height, width, 128)
    (moved,) = prompt_to_model((hint,), grid)
    corner = np.array(grid.point(0, 0))
    inverse = np.linalg.inv(np.array([grid.point(1, 0), grid.point(0, 1)]).T - corner[:, None])
    back = moved.moved(lambda x, y: tuple(inverse @ ((x, y) - corner)))
    assert (type(back), back.positive) == (type(hint), hint.positive)
    np.testing.assert_allclose(numbers(back), numbers(hint), atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(hints_on_slices(), st.floats(1, 4), st.floats(2, 20))
def test_a_zoom_window_holds_the_prompt(drawn, context, expected_mm):
    hint, height, width = drawn
    geometry = Geometry.from_parts((1, height, width))
    zoom = ZoomSettings(when="always", context=context, magnification=8, expected_mm=expected_mm)
    window = window_for((hint,), geometry, SPEC, zoom)
    if window is None:
        return
    assert not hint.needs_whole_slice
    (inside,) = window.prompt((hint,))
    check_on_slice((inside,), window.height, window.width)
    clipped = inside.clipped(window.height, window.width)
    assert clipped == inside
    np.testing.assert_allclose(
        np.array(numbers(inside)).reshape(-1, 2) + (window.x0, window.y0), np.reshape(numbers(hint), (-1, 2)), atol=1e-9
    )


def test_a_lasso_is_zoomed_to_like_its_box_and_a_scribble_like_its_points():
    geometry = Geometry.from_parts((1, 400, 400))
    lasso, scribble = Lasso(((200, 100), (220, 100), (210, 130))), Scribble(((200, 100), (212, 108)))
    always = ZoomSettings(when="always")
    assert window_for((lasso,), geometry, SPEC, always) == window_for((lasso.bounds(),), geometry, SPEC, always)
    assert window_for((scribble,), geometry, SPEC, always) is None
    sized = ZoomSettings(when="always", expected_mm=10)
    points = tuple(Point(*place) for place in scribble.points)
    assert window_for((scribble,), geometry, SPEC, sized) == window_for(points, geometry, SPEC, sized) != None  # noqa: E711


def test_a_mask_is_cut_with_the_window():
    (cut,) = Window(8, 4, 20, 20).prompt((MaskPrompt(MASK),))
    assert box_around(cut.mask) == Box(1, 2, 5, 12)
