"""An adapter that was not taught a kind of prompt: the answer is the model's without it, and the result says so."""

import numpy as np
import pytest

from oncoseg_core import Geometry, Volume, load_plugins
from oncoseg_core.contract.records import ModelSpec
from oncoseg_core.path import PathSettings
from oncoseg_lora.card import Evidence
from oncoseg_lora.inject import adapt, trainable_parameters
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import save_adapter
from oncoseg_segment import api

pytestmark = pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")

CLICK = api.StructureRequest("lesion", (api.Hint("point", (20, 20)),), slice_index=1)
BOX = api.StructureRequest("lesion", (api.Hint("box", (10, 10, 30, 30)),), slice_index=1, propagate=True)
EVERY = "lora+detector+interactive"


@pytest.fixture
def volume():
    voxels = np.random.default_rng(0).normal(40, 30, (1, 3, 40, 48)).astype(np.float32)
    return Volume(voxels, Geometry.from_parts((3, 40, 48), spacing=(3.0, 1.0, 1.0)), "ct")


@pytest.fixture
def adapter(tmp_path):
    def write(policy, prompts=()):
        import torch

        model = adapt(load_plugins().build(ModelSpec, "sam3-tiny", {}), LoraSettings(rank=2, policy=policy))
        with torch.no_grad():
            for weight in trainable_parameters(model).values():
                weight.add_(torch.randn_like(weight) * 0.02)
        folder = tmp_path / policy
        save_adapter(model, folder, versions={}, paths={"ct": PathSettings()}, evidence=Evidence(prompts=prompts))
        return folder

    return write


def warnings_of(result):
    return [finding.message for finding in result.findings if "adapter" in finding.message]


def logits(result):
    return [one.logits for structure in result.structures for one in structure.result.found]


def test_a_click_that_was_not_taught_is_answered_without_the_adapter_and_said(volume, adapter):
    untouched = api.segment(volume, [CLICK], model="sam3-tiny")
    result = api.segment(volume, [CLICK], model="sam3-tiny", adapter=str(adapter("lora")))
    assert result.structures[0].result.score == untouched.structures[0].result.score
    assert np.array_equal(result.masks["lesion"], untouched.masks["lesion"])
    (line,) = warnings_of(result)
    assert line == (
        f"LoRA policy 'lora' does not teach prompts of kind 'point', {EVERY} does: of 'lesion', that part is the "
        "model's answer without its adapter"
    )
    assert warnings_of(untouched) == []


def test_the_models_own_tracker_counts_too(volume, adapter):
    folder = str(adapter("lora"))
    own = api.PropagationSettings(tracker="own")
    assert len(warnings_of(api.segment(volume, [BOX], model="sam3-tiny", adapter=folder, propagation=own))) == 1
    assert warnings_of(api.segment(volume, [BOX], model="sam3-tiny", adapter=folder)) == []


def test_what_was_taught_is_the_adapters(volume, adapter):
    result = api.segment(volume, [CLICK], model="sam3-tiny", adapter=str(adapter(EVERY)))
    assert warnings_of(result) == []
    untouched = api.segment(volume, [CLICK], model="sam3-tiny")
    assert result.structures[0].result.score != untouched.structures[0].result.score


@pytest.mark.parametrize(
    ("prompts", "structure", "tracker", "words"),
    [
        (("box", "text"), CLICK, "neighbour", "prompts of kind box, text, and none of those that teach what answers"),
        (("box", "mask"), CLICK, "neighbour", None),  # clicks and masks are taught together
        (("box", "point"), BOX, "own", "without sequences of slices, so its own tracker was not taught"),
        (("box", "point", "sequences"), BOX, "own", None),
        (("box", "text"), BOX, "neighbour", None),
        ((), CLICK, "own", None),  # an older adapter, which does not tell
    ],
)
def test_heads_that_were_trained_and_never_prompted_are_warned_of(prompts, structure, tracker, words, volume, adapter):
    result = api.segment(
        volume,
        [structure],
        model="sam3-tiny",
        adapter=str(adapter(EVERY, prompts)),
        propagation=api.PropagationSettings(tracker=tracker),
    )
    found = [line for line in warnings_of(result) if "the adapter was trained" in line]
    assert [words in line for line in found] == ([] if words is None else [True])
