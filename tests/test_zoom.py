"""Zoom: the right window, the exact way into it and back, and never another window's embedding.

The model is a stand-in whose right answers are known; the images are generated.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import nn

from oncoseg_core import (
    Box,
    Decoded,
    Exemplar,
    Geometry,
    Instances,
    LoraSpec,
    MaskPrompt,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    Point,
    PromptableModel,
    PromptError,
    Registry,
    Text,
    Volume,
)
from oncoseg_core.inference.predictor import OUTSIDE, EmbeddingCache, Predictor, slice_results
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.path.settings import PathSettings
from oncoseg_core.path.zoom import Window, ZoomSettings, window_for
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_segment.api import smallest_resolvable_mm

SPEC = ModelSpec(
    name="threshold", factory="tests:None", summary="test", prompt_kinds=("box",), input_size=128,
    lora=LoraSpec(targets=("qkv",)), weights="none",
)  # fmt: skip
ALWAYS = ZoomSettings(when="always", context=2, magnification=8)


class ShareOfTheBrightest(Normalizer):
    """Not what a normalizer should do: the result for a pixel depends on its slice, so cutting before is noticed."""

    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return (voxels / max(float(voxels.max()), 1e-6)).astype(np.float32)


class InsideTheBox(nn.Module, PromptableModel):
    """Says that the object is what is brighter than one half inside the box; counts its encodings."""

    spec = SPEC
    weights_sha256 = "random:0"

    def __init__(self):
        nn.Module.__init__(self)
        self.encodings = 0

    def encode_image(self, pixels):
        self.encodings += 1
        return pixels[:, 0]

    def decode(self, embedding, prompts):
        centres = torch.arange(128) + 0.5
        logits = []
        for (box,) in prompts:
            x = (centres > box.x0) & (centres < box.x1)
            y = (centres > box.y0) & (centres < box.y1)
            logits.append(torch.where(y[:, None] & x[None], embedding[0] - 0.5, torch.tensor(-0.5)))
        return Decoded(torch.stack(logits), torch.ones(len(prompts)))


def predictor(zoom=None, model=None, cache=None, fit="letterbox"):
    registry = Registry()
    spec = NormalizerSpec(modality="unit", factory="tests:Unit", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_normalizers", spec, Plugin("test", "1")))
    registry.build = lambda *_args, **_kwargs: ShareOfTheBrightest()
    path = Preprocessor(registry, "unit", SPEC, PathSettings(fit=fit))
    return Predictor(model or InsideTheBox(), {"unit": path}, cache, zoom=zoom)


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (one.sum() + other.sum())


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
    st.floats(-25, 25),
    st.integers(150, 300),
    st.integers(150, 300),
    st.floats(1, 3),
    st.data(),
)
def test_a_small_object_comes_back_where_it_is(axes, signs, tilt, height, width, context, data):
    """For every orientation, flipped, turned or oblique, and also at the border of the slice."""
    direction = np.eye(3)[:, list(axes)] * signs
    direction = Rotation.from_euler("x", tilt, degrees=True).as_matrix() @ direction
    geometry = Geometry.from_parts((3, height, width), (2.0, 0.8, 0.6), direction)
    columns, rows = data.draw(st.integers(20, 40)), data.draw(st.integers(20, 40))
    x0 = data.draw(st.sampled_from([0, width - columns]) | st.integers(3, width - columns - 3))
    y0 = data.draw(st.sampled_from([0, height - rows]) | st.integers(3, height - rows - 3))
    voxels = np.zeros((1, 3, height, width), dtype=np.float32)
    voxels[0, 1, y0 : y0 + rows, x0 : x0 + columns] = 1.0
    volume = Volume(voxels, geometry, "unit")
    running = predictor(ZoomSettings(when="always", context=context, magnification=8))
    box = Box(x0 - 2, y0 - 2, x0 + columns + 2, y0 + rows + 2)
    (result,) = running.predict_slice(running.fit(volume), 1, [(box,)])
    window = result.window
    assert window is not None
    assert max(window.height, window.width) <= max(np.ceil(context * 44) + 1, 44)
    assert dice(result.mask, voxels[0, 1] > 0) >= 0.98
    outside = np.ones((height, width), dtype=bool)
    window.cut(outside)[...] = False
    assert (result.logits[outside] == OUTSIDE).all()


def test_an_object_that_the_whole_slice_loses_is_found():
    voxels = np.zeros((1, 1, 1024, 1024), dtype=np.float32)
    voxels[0, 0, 500:504, 700:704] = 1.0  # half a pixel of the model's
    volume = Volume(voxels, Geometry.from_parts((1, 1024, 1024)), "unit")
    prompt = (Box(698, 498, 706, 506),)
    masks = []
    for zoom in (None, ZoomSettings(minimum_logits=8)):
        running = predictor(zoom)
        (result,) = running.predict_slice(running.fit(volume), 0, [prompt])
        masks.append(result.mask)
    assert not masks[0].any()
    assert np.array_equal(masks[1], voxels[0, 0] > 0)


def random_volume(shape=(2, 90, 128)):
    voxels = np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    return Volume(voxels, Geometry.from_parts(shape), "unit")


def test_a_window_of_the_whole_slice_is_no_zoom():
    volume, prompt = random_volume(), (Box(10, 10, 60, 60),)
    whole, zoomed = predictor(), predictor(ZoomSettings(when="always", context=3))
    (plain,) = whole.predict_slice(whole.fit(volume), 0, [prompt])
    (result,) = zoomed.predict_slice(zoomed.fit(volume), 0, [prompt])
    assert result.window is None
    assert np.array_equal(result.logits, plain.logits)
    fitted = whole.fit(volume)
    everything = Window(0, 0, 90, 128)
    pixels = [fitted.preprocessor.pixels(fitted.volume, 0, fitted.stats, window) for window in (None, everything)]
    assert torch.equal(*pixels)
    assert fitted.to_model(prompt, everything) == fitted.to_model(prompt)
    decoded = Decoded(torch.randn(1, 128, 128), torch.ones(1))
    same = [slice_results(decoded, fitted.grid, window)[0].logits for window in (None, everything)]
    assert np.array_equal(*same)


def test_intensities_are_those_of_the_whole_slice():
    volume = random_volume((1, 200, 300))
    volume.voxels[0, 0, 0, 0] = 4.0  # the brightest, outside of the window
    running = predictor()
    fitted = running.fit(volume)
    window = Window(40, 100, 128, 128)
    pixels = fitted.preprocessor.pixels(fitted.volume, 0, fitted.stats, window)
    upright = fitted.volume.geometry.view.apply(window.cut(volume.voxels[0, 0]) / np.float32(4.0))
    assert np.array_equal(pixels[0].numpy(), upright)


def test_every_window_has_its_own_embedding_and_shares_it():
    model = InsideTheBox()
    running = predictor(ALWAYS, model, EmbeddingCache())
    fitted = running.fit(random_volume())
    left, same, right = (Box(10, 10, 40, 40),), (Box(10, 11, 40, 39),), (Box(80, 40, 110, 70),)
    first = running.predict_slice(fitted, 0, [left, right, same])
    assert model.encodings == 2
    assert first[0].window == first[2].window != first[1].window
    again = running.predict_slice(fitted, 0, [right, left])
    assert model.encodings == 2
    assert np.array_equal(again[0].logits, first[1].logits)
    assert np.array_equal(again[1].logits, first[0].logits)
    alone = predictor(ALWAYS)
    for prompt, result in zip((left, right, same), first, strict=True):
        (fresh,) = alone.predict_slice(alone.fit(random_volume()), 0, [prompt])
        assert np.array_equal(fresh.logits, result.logits)
    running.zoom = None
    running.predict_slice(fitted, 0, [left])
    assert model.encodings == 3


def test_windows_of_the_same_pixels_but_another_place_are_told_apart():
    flat = Volume(np.ones((1, 1, 128, 128), np.float32), Geometry.from_parts((1, 128, 128)), "unit")
    fitted = predictor().fit(flat)
    keys = {
        fitted.preprocessor.slice_key(flat, 0, {}, window)
        for window in (None, Window(0, 0, 64, 64), Window(0, 1, 64, 64), Window(0, 0, 64, 65))
    }
    assert len(keys) == 4


GEOMETRY = Geometry.from_parts((1, 512, 512), (5.0, 0.5, 0.25))
MODEL = SPEC.model_copy(update={"input_size": 1024, "mask_size": 256})
MASK = np.zeros((512, 512), dtype=bool)
MASK[100:110, 200:220] = True


@pytest.mark.parametrize(
    ("prompt", "zoom", "window"),
    [
        ((Box(200, 100, 240, 110),), {}, Window(85, 200, 40, 40)),  # 40 pixels are 20 logits
        ((Box(200, 100, 240, 110),), {"minimum_logits": 20}, None),
        ((Box(200, 100, 240, 110),), {"when": "always", "minimum_logits": 20}, Window(85, 200, 40, 40)),
        ((Box(200, 100, 240, 110),), {"context": 2}, Window(65, 180, 80, 80)),
        ((Box(200, 100, 240, 110),), {"magnification": 16}, Window(73, 188, 64, 64)),
        ((Box(-10, 500, 10, 520),), {"context": 4}, Window(464, 0, 48, 48)),  # 12 rows of it are on the slice
        ((Text("nodule"),), {"when": "always"}, None),
        ((Text("nodule"), Box(200, 100, 240, 110)), {}, Window(85, 200, 40, 40)),
        ((Exemplar(200, 100, 240, 110),), {"when": "always"}, None),
        ((Box(200, 100, 240, 110), Exemplar(5, 5, 9, 9, positive=False)), {"when": "always"}, None),
        ((Point(100.5, 50.5),), {"when": "always"}, None),
        ((Point(100.5, 50.5),), {"expected_mm": 10}, Window(30, 80, 41, 41)),  # 40 columns from 80.5, 20 rows
        ((Point(100.5, 50.5, positive=False),), {"expected_mm": 10}, None),
        ((Point(100.5, 50.5), Point(140.5, 50.5, False)), {"expected_mm": 10}, Window(20, 80, 61, 61)),
        ((Box(200, 100, 240, 110), Point(220.5, 150.5, False)), {}, Window(100, 194, 51, 51)),
        ((Box(200, 100, 240, 110), Point(220.5, 50.5, False)), {}, Window(50, 190, 60, 60)),
        ((MaskPrompt(MASK),), {}, Window(95, 200, 20, 20)),
        ((MaskPrompt(np.zeros((512, 512), dtype=bool)),), {"when": "always"}, None),
        ((Box(0, 0, 512, 512),), {"when": "always"}, None),
    ],
)  # fmt: skip
def test_the_window_follows_from_the_prompt(prompt, zoom, window):
    chosen = ZoomSettings(**{"context": 1, "magnification": 1000, "minimum_logits": 32, **zoom})
    assert window_for(prompt, GEOMETRY, MODEL, chosen) == window


def test_the_window_follows_from_the_pixels_that_the_fit_gives_the_object():
    """20 of 256 rows are 20 pixels of a square of 256; 20 of 128 rows stretched to it are 40."""
    geometry, prompt = Geometry.from_parts((1, 128, 256)), (Box(100, 50, 110, 70),)
    spec = SPEC.model_copy(update={"input_size": 256, "mask_size": None})
    chosen = ZoomSettings(context=1, magnification=1000, minimum_logits=30)
    assert window_for(prompt, geometry, spec, chosen) is not None
    assert window_for(prompt, geometry, spec, chosen, "stretch") is None


def test_a_predictor_zooms_by_the_fit_of_its_path():
    """16 of 64 rows: 16 pixels of the letterboxed 128, 32 of the stretched ones."""
    chosen, prompt = ZoomSettings(context=1, magnification=8, minimum_logits=20), (Box(40, 20, 44, 36),)
    for fit, zoomed in (("letterbox", True), ("stretch", False)):
        running = predictor(chosen, fit=fit)
        fitted = running.fit(random_volume((1, 64, 128)))
        assert (running.window(fitted, prompt) is not None) is zoomed


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_a_zoomed_answer_lies_where_the_box_is_with_either_fit(fit):
    """The window is cut by the slice's border, so that it is not square either."""
    volume = random_volume((1, 48, 128))
    running = predictor(ZoomSettings(when="always", context=4, magnification=8), fit=fit)
    fitted = running.fit(volume)
    (result,) = running.predict_slice(fitted, 0, [(Box(30, 4, 50, 20),)])
    assert result.window is not None
    assert result.window.height != result.window.width
    rows, columns = np.nonzero(result.mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (4, 20, 30, 50)


@given(
    st.integers(8, 90), st.integers(8, 90), st.floats(1, 6), st.sampled_from([1.0, 2.0, 8.0]),
    st.lists(st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2), max_size=3),
    st.tuples(*[st.floats(-0.3, 1.3)] * 4),
)  # fmt: skip
def test_a_window_lies_on_the_slice_and_holds_every_hint(height, width, context, magnification, clicks, corners):
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    prompt = [Point(x * width, y * height, positive=False) for x, y in clicks]
    prompt = [point for point in prompt if point.x < width and point.y < height]
    if x1 > 0.01 and y1 > 0.01 and x0 < min(x1, 0.99) and y0 < min(y1, 0.99):
        prompt.append(Box(x0 * width, y0 * height, x1 * width, y1 * height))
    geometry = Geometry.from_parts((1, height, width))
    chosen = ZoomSettings(when="always", context=context, magnification=magnification)
    window = window_for(tuple(prompt), geometry, SPEC, chosen)
    if window is None:
        return
    bottom, right = window.y0 + window.height, window.x0 + window.width
    assert 0 <= window.y0 < bottom <= height
    assert 0 <= window.x0 < right <= width
    for hint in prompt:
        if isinstance(hint, Point):
            assert window.x0 <= hint.x < right
            assert window.y0 <= hint.y < bottom
        else:
            assert window.x0 <= max(hint.x0, 0)
            assert min(hint.x1, width) <= right
            assert window.y0 <= max(hint.y0, 0)
            assert min(hint.y1, height) <= bottom


def test_all_kinds_of_hints_move_into_the_window():
    window = Window(90, 190, 30, 40)
    moved = window.prompt((Box(200, 100, 220, 110), Point(205.5, 101.5, False), MaskPrompt(MASK), Text("nodule"),
                           Exemplar(191, 92, 193, 95, positive=False)))  # fmt: skip
    assert moved[0] == Box(10, 10, 30, 20)
    assert moved[1] == Point(15.5, 11.5, False)
    assert np.array_equal(moved[2].mask, MASK[90:120, 190:230])
    assert moved[3:] == (Text("nodule"), Exemplar(1, 2, 3, 5, positive=False))


def test_a_mask_that_reaches_the_windows_border_is_noticed():
    for column, row, cut in ((10, 20, True), (30, 5, True), (49, 20, True), (30, 24, True), (30, 15, False)):
        mask = np.zeros((60, 70), dtype=bool)
        mask[row, column] = True
        assert Window(5, 10, 20, 40).cuts(mask) is cut
    corner = np.zeros((20, 20), dtype=bool)
    corner[0, 0] = corner[19, 19] = True
    assert not Window(0, 0, 10, 10).cuts(corner)  # the border of the slice cuts nothing off
    assert not Window(10, 10, 10, 10).cuts(corner)


def test_instances_are_put_back_too():
    logits = torch.full((1, 128, 128), -1.0)
    logits[:, :64, :64] = 1.0
    decoded = Decoded(logits, torch.ones(1), None, (Instances(logits, torch.ones(1)),))
    grid = predictor().fit(random_volume((1, 100, 100))).grid
    (result,) = slice_results(decoded, grid, Window(20, 30, 16, 16))
    ((mask, _),) = result.instances
    assert np.array_equal(mask, result.mask)
    assert set(zip(*np.nonzero(mask), strict=True)) == {
        (20 + row, 30 + column) for row in range(8) for column in range(8)
    }


def test_a_prompt_beside_the_slice_is_refused_before_anything_is_encoded():
    model = InsideTheBox()
    running = predictor(ALWAYS, model)
    with pytest.raises(PromptError, match="lies outside the slice, which is 128 pixels wide and 90 high"):
        running.predict_slice(running.fit(random_volume()), 0, [(Box(10, 10, 20, 20),), (Box(130, 0, 140, 5),)])
    assert model.encodings == 0


@pytest.mark.parametrize(
    ("shape", "spacing", "sizes", "window", "millimetres"),
    [
        ((512, 512), (0.75, 0.75), (1008, 288), None, 2 * 0.75 * 512 / 288),
        ((512, 512), (0.75, 0.75), (1008, 288), Window(0, 0, 360, 360), 2 * 0.75 * 360 / 288),
        ((512, 512), (0.75, 0.75), (1008, 288), Window(0, 0, 100, 100), 2 * 0.75),  # the image's own pixels
        ((512, 512), (0.5, 0.75), (256, None), None, 2 * 0.75 * 2),
        ((128, 128), (0.5, 0.75), (256, None), None, 2 * 0.75),
        ((256, 512), (2.0, 0.75), (256, None), None, 2 * 2.0 * 2),
        ((3, 700), (2.0, 0.75), (256, None), None, 2 * 2.0 * 3),  # 3 rows are rounded to 1
    ],
)
def test_the_smallest_resolvable_lesion(shape, spacing, sizes, window, millimetres):
    geometry = Geometry.from_parts((4, *shape), (5.0, *spacing))
    spec = SPEC.model_copy(update=dict(zip(("input_size", "mask_size"), sizes, strict=True)))
    assert smallest_resolvable_mm(geometry, spec, window) == pytest.approx(millimetres)
    turned = Geometry.from_parts((4, *shape), (5.0, *spacing), ((0, 0, 1), (1, 0, 0), (0, 1, 0)))
    assert smallest_resolvable_mm(turned, spec, window) == pytest.approx(millimetres)


def test_stretching_resolves_more_along_the_shorter_side():
    geometry = Geometry.from_parts((4, 256, 1024), (5.0, 1.0, 0.25))
    spec = SPEC.model_copy(update={"input_size": 512, "mask_size": None})
    assert smallest_resolvable_mm(geometry, spec) == pytest.approx(2 * 1.0 * 2)
    assert smallest_resolvable_mm(geometry, spec, None, "stretch") == pytest.approx(2 * 1.0)
