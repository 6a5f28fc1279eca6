"""The path there and back: every mask returns to its own voxels.

The images are generated: what is tested holds for any content.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oncoseg_core import (
    Box,
    DataError,
    Geometry,
    LoraSpec,
    MaskPrompt,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    PlaneView,
    Point,
    PromptError,
    Registry,
    SliceGrid,
    Text,
    Volume,
)
from oncoseg_core.path import PathSettings
from oncoseg_core.path.preprocess import Preprocessor, logits_to_slice, mask_to_model, prompt_to_model
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent

views = st.builds(PlaneView, st.booleans(), st.booleans(), st.booleans())
fits = st.sampled_from(("letterbox", "stretch"))


class Unit(Normalizer):
    """Leaves values that are in [0, 1] as they are."""

    def fit(self, voxels):
        return {"seen": (float(voxels.shape[1]),)}

    def apply(self, voxels, stats):
        return voxels.astype(np.float32)


def path(size=64, input_range=(0.0, 1.0), factory=Unit, accepts_nan=False, fit="letterbox"):
    registry = Registry()
    spec = NormalizerSpec(modality="unit", factory="tests:Unit", summary="test", accepts_nan=accepts_nan)
    registry.components.append(RegisteredComponent("oncoseg_normalizers", spec, Plugin("test", "1")))
    registry.build = lambda *_args, **_kwargs: factory()
    model = ModelSpec(
        name="none",
        factory="tests:None",
        summary="test",
        prompt_kinds=("box",),
        input_size=size,
        input_range=input_range,
        lora=LoraSpec(targets=("qkv",)),
        weights="none",
    )
    return Preprocessor(registry, "unit", model, PathSettings(fit=fit))


def volume(voxels, **geometry):
    return Volume(voxels, Geometry.from_parts(voxels.shape[1:], **geometry), "unit")


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (one.sum() + other.sum())


@st.composite
def placed_objects(draw):
    """A slice and an ellipse or rectangle in it, more than 20 model pixels across.

    It touches the slice's border or keeps one model pixel off: a narrower gap there is nothing that logits can show.
    """
    size = draw(st.sampled_from((256, 1008)))
    height, width = draw(st.integers(40, 700)), draw(st.integers(40, 700))
    grid = SliceGrid(draw(views), height, width, size, draw(fits))
    scale = min(grid.letterbox.scale)
    smallest = 20.0 / scale / 2 + 1  # of the coarser axis, where the two scales differ
    if np.ceil(smallest * 2) + 2 / scale + 2 > min(height, width):
        return draw(placed_objects())
    gap = int(np.ceil(1 / scale))
    rows, columns = (draw(spans(length, int(np.ceil(2 * smallest)), gap)) for length in (height, width))
    y, x = np.mgrid[:height, :width] + 0.5
    distance_y, distance_x = (
        (v - (low + high) / 2) / ((high - low) / 2) for v, (low, high) in ((y, rows), (x, columns))
    )
    if draw(st.booleans()):
        return grid, distance_y**2 + distance_x**2 <= 1
    return grid, np.maximum(abs(distance_y), abs(distance_x)) <= 1


@st.composite
def spans(draw, length, least, gap):
    """Where an object starts and ends along one axis: at the border, or at least ``gap`` away from it."""
    low = draw(st.sampled_from([0, *range(gap, length - least + 1)]))
    high = draw(st.sampled_from([*range(low + least, length - gap + 1), length]))
    return low, high


@settings(max_examples=60, deadline=None)
@given(placed_objects())
def test_a_mask_returns_to_its_own_voxels(placed):
    grid, mask = placed
    there = mask_to_model(mask, grid)
    back = logits_to_slice(there - 0.5, grid) > 0
    assert back.shape == mask.shape
    assert dice(back, mask) >= 0.99


@settings(max_examples=60, deadline=None)
@given(placed_objects())
def test_a_thresholded_mask_returns_too(placed):
    """What training sees (0 or 1 per model pixel) loses at most what half a model pixel along the border holds."""
    grid, mask = placed
    back = logits_to_slice((mask_to_model(mask, grid) >= 0.5).float() - 0.5, grid) > 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    border = 2 * (len(rows) + len(columns))
    changed = np.count_nonzero(back != mask)
    assert changed <= border * max(1.0, 0.5 / min(grid.letterbox.scale)) + 4


@given(views, st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_without_a_resize_it_is_the_identity(view, other_side, seed):
    height, width = (64, other_side) if seed % 2 else (other_side, 64)
    grid = SliceGrid(view, height, width, 64)
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert np.array_equal(logits_to_slice(mask_to_model(mask, grid) - 0.5, grid) > 0, mask)


@settings(deadline=None)
@given(views, st.integers(20, 200), st.integers(20, 200), st.integers(0, 2**32 - 1), fits)
def test_image_and_mask_go_the_same_way(view, height, width, seed, fit):
    """An image that IS the mask arrives where the mask arrives, pixel for pixel."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    direction = np.eye(3)  # the view is set by hand below
    preprocessor = path(size=128, fit=fit)
    image = volume(mask[None, None].astype(np.float32), direction=direction)
    object.__setattr__(image.geometry, "view", view)
    pixels = preprocessor.pixels(image, 0, preprocessor.fit(image))
    assert pixels.shape == (3, 128, 128)
    assert torch.allclose(pixels[0], mask_to_model(mask, preprocessor.grid(image)), atol=1e-6)
    assert torch.equal(pixels[0], pixels[2])


def test_padding_is_the_lowest_value_of_the_models_range():
    preprocessor = path(size=64, input_range=(-1.0, 1.0))
    image = volume(np.full((1, 1, 32, 64), 0.75, dtype=np.float32))
    pixels = preprocessor.pixels(image, 0, preprocessor.fit(image))
    assert torch.allclose(pixels[:, :32], torch.tensor(0.5))
    assert torch.equal(pixels[:, 32:], torch.full((3, 32, 64), -1.0))


@pytest.mark.parametrize(
    "view", [PlaneView(), PlaneView(transpose=True), PlaneView(True, True, False), PlaneView(False, True, True)]
)
def test_a_stretched_slice_fills_the_square(view):
    """Whatever its shape and its spacing: each half of the slice is half of the square."""
    halves = np.zeros((1, 1, 32, 48), dtype=np.float32)
    halves[..., :16, :] = 1.0
    image = volume(halves, spacing=(3.0, 0.5, 2.0))
    object.__setattr__(image.geometry, "view", view)
    preprocessor = path(size=96, input_range=(-1.0, 1.0), fit="stretch")
    pixels = view.undo(preprocessor.pixels(image, 0, preprocessor.fit(image))[0].numpy())
    # Bilinear: the border between the halves is soft, over one pixel of the slice.
    assert np.array_equal(pixels[:46], np.ones((46, 96)))
    assert np.array_equal(pixels[50:], -np.ones((46, 96)))


@settings(deadline=None)
@given(views, fits, st.integers(1, 700), st.integers(1, 700), st.sampled_from((64, 1008)), st.data())
def test_points_and_boxes_lie_in_the_model_where_the_mask_does(view, fit, height, width, size, data):
    """By the edges of rows and columns: what lies at a share of a turned slice, lies at that share of what it fills."""
    grid = SliceGrid(view, height, width, size, fit)
    x, y = data.draw(st.floats(0, width, exclude_max=True)), data.draw(st.floats(0, height, exclude_max=True))
    (point,) = prompt_to_model((Point(x, y),), grid)
    rows, columns = grid.letterbox.scaled
    across, down = (y / height, x / width) if view.transpose else (x / width, y / height)
    across, down = (1 - across if view.flip_columns else across), (1 - down if view.flip_rows else down)
    assert (point.x, point.y) == pytest.approx((across * columns, down * rows))
    (whole,) = prompt_to_model((Box(-1, -1, width + 1, height + 1),), grid)
    assert whole.as_tuple() == pytest.approx((0, 0, columns, rows))
    assert (rows, columns) == (size, size) or fit == "letterbox"


def test_a_box_and_its_mask_are_stretched_alike():
    grid = SliceGrid(PlaneView(flip_rows=True), 32, 64, 128, "stretch")
    mask = np.zeros((32, 64), dtype=bool)
    mask[4:8, 10:20] = True
    box, moved = prompt_to_model((Box(10, 4, 20, 8), MaskPrompt(mask)), grid)
    assert box == Box(20, 96, 40, 112)
    rows, columns = np.nonzero(moved.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (20, 96, 40, 112)
    assert np.array_equal(logits_to_slice(torch.from_numpy(moved.mask).float() - 0.5, grid) > 0, mask)


def test_logits_of_a_coarser_model_are_scaled_to_the_whole_input_first():
    grid = SliceGrid(PlaneView(), 50, 100, 1008)
    logits = torch.full((288, 288), -1.0)
    logits[:72, 144:] = 1.0  # upper half of the image (a quarter of the square), right half
    back = logits_to_slice(logits, grid) > 0
    expected = np.zeros((50, 100), dtype=bool)
    expected[:25, 50:] = True
    assert dice(back, expected) > 0.99


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted_and_refused(bad):
    voxels = np.zeros((1, 3, 4, 5), dtype=np.float32)
    voxels[0, 1, 2, 3] = voxels[0, 2, 0, 0] = bad
    with pytest.raises(DataError, match="2 voxels are NaN or infinite"):
        path().fit(volume(voxels))
    path(accepts_nan=True).fit(volume(voxels))


def test_four_channels_without_a_choice_are_refused():
    with pytest.raises(DataError, match=r"has 4 channels without names; say which three: channels: \[0, 1, 2\]"):
        path().fit(volume(np.zeros((4, 1, 4, 4), dtype=np.float32)))


@pytest.mark.parametrize(("count", "expected"), [(1, (0, 0, 0)), (2, (0, 1, 1)), (3, (0, 1, 2))])
def test_three_channels_come_out(count, expected):
    image = volume(np.random.default_rng(0).random((count, 1, 8, 8)).astype(np.float32))
    preprocessor = path(size=32)
    pixels = preprocessor.pixels(image, 0, preprocessor.fit(image))
    assert pixels.shape == (3, 32, 32)
    assert pixels.is_contiguous()
    alone = [volume(image.voxels[c : c + 1]) for c in expected]
    for channel, one in zip(pixels, alone, strict=True):
        assert torch.equal(channel, preprocessor.pixels(one, 0, preprocessor.fit(one))[0])


def test_values_as_stored_are_not_normalised():
    stored = replace(volume(np.zeros((1, 1, 4, 4), np.float32)), headers=({"Modality": "DX"},))
    preprocessor = path()
    with pytest.raises(DataError, match="calibrate it first"):
        preprocessor.fit(stored)
    assert preprocessor.calibrated(stored).headers == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_monochrome1_is_turned_around(dtype):
    info = np.iinfo(dtype) if dtype != np.float32 else None
    values = [0, 1, 5] if info is None else [info.min, info.min + 1, 5, info.max]
    stored = volume(np.array(values, dtype).reshape(1, 1, 1, -1))
    turned = path().calibrated(replace(stored, headers=({"PhotometricInterpretation": "MONOCHROME1"},))).voxels
    assert turned.dtype == dtype
    gaps = np.diff(np.array(values, dtype=np.float64))
    np.testing.assert_array_equal(np.diff(turned.ravel().astype(np.float64)), -gaps)
    if info is not None:
        assert (turned.min(), turned.max()) == (info.min, info.max)


def test_the_slice_key_depends_on_what_the_pixels_depend_on():
    rng = np.random.default_rng(0)
    voxels = rng.random((1, 2, 8, 8)).astype(np.float32)
    preprocessor, image = path(), volume(voxels)
    stats = preprocessor.fit(image)
    key = preprocessor.slice_key(image, 0, stats)
    assert key == preprocessor.slice_key(volume(voxels.copy()), 0, stats)
    changed = voxels.copy()
    changed[0, 0, 3, 3] += 0.25
    flipped = volume(voxels, direction=np.diag([-1.0, 1, 1]))
    others = [
        preprocessor.slice_key(image, 1, stats),
        preprocessor.slice_key(volume(changed), 0, stats),
        preprocessor.slice_key(image, 0, {"seen": (3.0,)}),
        preprocessor.slice_key(flipped, 0, stats),
        path(size=128).slice_key(image, 0, stats),
        path(fit="stretch").slice_key(image, 0, stats),
        path(input_range=(-1.0, 1.0)).slice_key(image, 0, stats),
    ]
    assert len({key, *others}) == len(others) + 1


def test_every_kind_of_prompt_moves_with_the_image():
    grid = SliceGrid(PlaneView(flip_columns=True), 32, 64, 128)
    mask = np.zeros((32, 64), dtype=bool)
    mask[4:8, 10:20] = True
    box, point, moved_mask, text = prompt_to_model(
        (Box(10, 4, 20, 8), Point(10.5, 4.5), MaskPrompt(mask), Text("x")), grid
    )
    assert box == Box(88, 8, 108, 16)
    assert point == Point(107, 9)
    rows, columns = np.nonzero(moved_mask.mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (88, 8, 108, 16)
    assert text == Text("x")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((), "no prompt was given"),
        ((Box(64, 0, 70, 10),), r"box .* lies outside the slice, which is 64 pixels wide and 32 high"),
        ((Point(1, 32),), "point .* lies outside"),
        ((MaskPrompt(np.ones((3, 3), dtype=bool)),), "mask prompt is"),
    ],
)
def test_prompts_off_the_slice_are_refused(prompt, message):
    with pytest.raises(PromptError, match=message):
        prompt_to_model(prompt, SliceGrid(PlaneView(), 32, 64, 128))


@pytest.mark.parametrize("box", [(1, 1, 1, 5), (5, 1, 2, 3), (0, 0, float("nan"), 3)])
def test_boxes_without_area_are_refused(box):
    with pytest.raises(PromptError):
        Box(*box)


def test_a_mask_narrower_than_a_pixel_of_the_model_does_not_vanish():
    grid = SliceGrid(PlaneView(), 512, 512, 64)
    small, empty, large = np.zeros((3, 512, 512), dtype=bool)
    small[202:204, 100:103] = True
    large[100:164, 201:300] = True
    for mask in (small, empty, large):
        (moved,) = prompt_to_model((MaskPrompt(mask),), grid)
        covered = mask_to_model(mask, grid).numpy()
        if mask is small:
            assert (covered < 0.5).all()
            assert moved.mask[25, 12]
            assert moved.mask.sum() <= 4
        else:
            assert np.array_equal(moved.mask, covered >= 0.5)
