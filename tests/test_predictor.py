"""The predictor: prompts on stored slices, masks in the image's own geometry, embeddings that are never the wrong ones.

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
    Geometry,
    Instances,
    LoraSpec,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    Point,
    PromptableModel,
    PromptError,
    Registry,
    SliceGrid,
    Volume,
)
from oncoseg_core.inference.predictor import EmbeddingCache, Predictor, slice_results
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_lora.inject import adapt
from oncoseg_lora.settings import LoraSettings

SPEC = ModelSpec(
    name="threshold", factory="tests:None", summary="test", prompt_kinds=("box",), input_size=128,
    lora=LoraSpec(targets=("qkv",)), weights="none",
)  # fmt: skip


class Unit(Normalizer):
    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return voxels.astype(np.float32)


class InsideTheBox(nn.Module, PromptableModel):
    """Says that the object is what is brighter than one half inside the box; counts its encodings."""

    spec = SPEC
    weights_sha256 = "random:0"

    def __init__(self):
        nn.Module.__init__(self)
        self.qkv = nn.Linear(1, 1)
        nn.init.eye_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        self.encodings = 0

    def encode_image(self, pixels):
        self.encodings += 1
        return self.qkv(pixels[:, 0, :, :, None])[..., 0]

    def decode(self, embedding, prompts):
        centres = torch.arange(128) + 0.5
        logits = []
        for number, ((box,),) in enumerate(zip(prompts, strict=True)):
            image = embedding[number if len(embedding) > 1 else 0]
            x = (centres > box.x0) & (centres < box.x1)
            y = (centres > box.y0) & (centres < box.y1)
            logits.append(torch.where(y[:, None] & x[None], image - 0.5, torch.tensor(-0.5)))
        return Decoded(torch.stack(logits), torch.ones(len(prompts)))


def predictor(model=None, cache=None, precision="fp32"):
    registry = Registry()
    spec = NormalizerSpec(modality="unit", factory="tests:Unit", summary="test")
    registry.components.append(RegisteredComponent("oncoseg_normalizers", spec, Plugin("test", "1")))
    registry.build = lambda *_args, **_kwargs: Unit()
    model = model or InsideTheBox()
    return Predictor(model, {"unit": Preprocessor(registry, "unit", SPEC)}, cache, precision=precision)


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3),
    st.floats(-25, 25),
    st.integers(70, 250),
    st.integers(70, 250),
    st.data(),
)
def test_a_box_on_a_stored_slice_gives_the_mask_on_that_slice(axes, signs, tilt, height, width, data):
    """For every orientation, flipped, turned or oblique: a bright rectangle in the box comes back where it is."""
    direction = np.eye(3)[:, list(axes)] * signs
    direction = Rotation.from_euler("x", tilt, degrees=True).as_matrix() @ direction
    geometry = Geometry.from_parts((3, height, width), (2.0, 0.8, 0.6), direction)
    least, gap = int(np.ceil(20 * max(height, width) / 128)) + 2, int(np.ceil(max(height, width) / 128))
    x0 = data.draw(st.integers(gap, width - least - gap))  # the box cuts the stand-in's mask off at whole model pixels,
    y0 = data.draw(st.integers(gap, height - least - gap))  # so the object keeps away from the border
    x1 = data.draw(st.integers(x0 + least, width - gap))
    y1 = data.draw(st.integers(y0 + least, height - gap))
    voxels = np.zeros((1, 3, height, width), dtype=np.float32)
    voxels[0, 1, y0:y1, x0:x1] = 1.0
    volume = Volume(voxels, geometry, "unit")
    segmentation = predictor().segment(volume, {1: (Box(x0 - 3, y0 - 3, x1 + 3, y1 + 3),)}, "tumour")
    mask = segmentation.masks["tumour"]
    assert segmentation.geometry is geometry
    assert not mask[[0, 2]].any()
    truth = voxels[0] > 0
    assert 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum()) >= 0.99


def random_volume(seed=0, shape=(2, 40, 50)):
    voxels = np.random.default_rng(seed).random((1, *shape)).astype(np.float32)
    return Volume(voxels, Geometry.from_parts(shape), "unit")


BOX = (Box(5, 5, 30, 30),)


def test_one_encoding_serves_many_prompts_and_the_cache_later_calls():
    model = InsideTheBox()
    cached = predictor(model, EmbeddingCache())
    fitted = cached.fit(random_volume())
    first = cached.predict_slice(fitted, 0, [BOX, (Box(10, 10, 20, 20),)])
    assert model.encodings == 1
    again = cached.predict_slice(cached.fit(random_volume()), 0, [BOX])
    assert model.encodings == 1
    assert np.array_equal(first[0].mask, again[0].mask)
    cached.predict_slice(fitted, 1, [BOX])
    assert model.encodings == 2


def test_another_image_never_gets_the_first_ones_embedding():
    cached = predictor(cache=EmbeddingCache())
    results = [cached.predict_slice(cached.fit(random_volume(seed)), 0, [BOX])[0] for seed in (0, 1)]
    fresh = [predictor().predict_slice(predictor().fit(random_volume(seed)), 0, [BOX])[0] for seed in (0, 1)]
    for cached_result, fresh_result in zip(results, fresh, strict=True):
        assert np.array_equal(cached_result.logits, fresh_result.logits)
    assert not np.array_equal(results[0].logits, results[1].logits)


def test_changed_weights_and_a_switched_adapter_are_noticed():
    torch.manual_seed(0)
    adapted = adapt(InsideTheBox(), LoraSettings(rank=1, alpha=1, dropout=0.0))
    cached = predictor(adapted, EmbeddingCache())
    fitted = cached.fit(random_volume())

    def logits():
        return cached.predict_slice(fitted, 0, [BOX])[0].logits

    before = logits()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter += 1.0
    after = logits()
    assert not np.array_equal(before, after)
    with adapted.disable_adapter():
        assert np.array_equal(logits(), before)
    assert np.array_equal(logits(), after)
    adapted.base_model.model.qkv.scaling["default"] = 3.0
    scaled = logits()
    assert not np.array_equal(scaled, after)
    adapted.add_adapter("other", adapted.peft_config["default"])
    adapted.set_adapter("other")
    assert np.array_equal(logits(), before)


def test_a_cleared_cache_holds_nothing_and_takes_as_much_as_before():
    model, cache = InsideTheBox(), EmbeddingCache(max_bytes=128 * 128 * 4)
    cached = predictor(model, cache)
    fitted = cached.fit(random_volume())
    for encodings in (1, 2):
        cached.predict_slice(fitted, 0, [BOX])
        cached.predict_slice(fitted, 0, [BOX])
        assert model.encodings == encodings
        cache.clear()


def test_the_cache_keeps_to_its_limit_and_drops_the_oldest():
    model = InsideTheBox()
    size = 128 * 128 * 4
    cached = predictor(model, EmbeddingCache(max_bytes=2 * size))
    fitted = cached.fit(random_volume(shape=(3, 40, 50)))
    for index in (0, 1, 0, 2, 0, 1):  # 1 was used longest ago when 2 came
        cached.predict_slice(fitted, index, [BOX])
    assert model.encodings == 4


@pytest.mark.parametrize(
    ("index", "prompt", "message"),
    [
        (2, BOX, "slice 2 does not exist: the image has slices 0 to 1"),
        (-1, BOX, "slice -1 does not exist"),
        (0, (Box(60, 0, 70, 5),), "lies outside the slice, which is 50 pixels wide and 40 high"),
        (0, (Point(3, 3),), "model 'threshold' takes prompts of kind box, not 'point'"),
        (0, (), "no prompt was given"),
    ],
)
def test_wrong_prompts_are_refused(index, prompt, message):
    with pytest.raises(PromptError, match=message):
        predictor().predict_slice(predictor().fit(random_volume()), index, [prompt])


def test_a_modality_that_was_not_prepared_is_refused():
    volume = random_volume()
    with pytest.raises(PromptError, match="takes unit, not 'ct'"):
        predictor().fit(Volume(volume.voxels, volume.geometry, "ct"))


def test_presence_and_instances_come_back_on_the_slice():
    volume = Volume(np.zeros((1, 1, 40, 64)), Geometry.from_parts((1, 40, 64)), "unit")
    logits = torch.full((2, 128, 128), -1.0)
    logits[:, 20:40, 40:80] = 1.0
    found = (Instances(logits[:1], torch.tensor([0.75])), Instances(logits[:0], torch.zeros(0)))
    decoded = Decoded(logits, torch.tensor([0.5, 0.1]), torch.tensor([0.25, torch.nan]), found)
    one, other = slice_results(decoded, grid_of(volume))
    assert (one.score, one.presence, other.presence) == (0.5, 0.25, None)
    assert other.instances == ()
    ((mask, score),) = one.instances
    assert score == 0.75
    assert mask.shape == (40, 64)
    assert np.array_equal(mask, one.mask)
    assert mask.sum() == 10 * 20


def grid_of(volume):
    return SliceGrid.of(volume.geometry, 128)


def test_an_adapted_model_refuses_prompts_that_no_policy_trains():
    lora = LoraSpec(targets=("qkv",), untrained={"point": "clicks go through a part that stays as it was"})
    model = InsideTheBox()
    model.spec = SPEC.model_copy(update={"prompt_kinds": ("box", "point"), "lora": lora})
    prompts = [(Point(1.0, 1.0),)]
    Predictor(model, {}).require_served(prompts)
    with pytest.raises(PromptError, match="with an adapter takes no prompt of kind 'point': clicks go through"):
        Predictor(adapt(model, LoraSettings(rank=1)), {}).require_served(prompts)


def test_half_precision_runs_under_autocast_and_gives_float32():
    volume = Volume(np.ones((1, 1, 128, 128)), Geometry.from_parts((1, 128, 128)), "unit")
    seen = []

    class Telling(InsideTheBox):
        def encode_image(self, pixels):
            embedding = super().encode_image(pixels)
            seen.append(embedding.dtype)
            return embedding.float()

    for precision in ("fp32", "bf16"):
        running = predictor(Telling(), precision=precision)
        (result,) = running.predict_slice(running.fit(volume), 0, [(Box(2, 2, 9, 9),)])
        assert result.logits.dtype == np.float32
    assert seen == [torch.float32, torch.bfloat16]
