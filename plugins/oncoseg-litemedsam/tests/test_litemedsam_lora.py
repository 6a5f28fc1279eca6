"""Adapting LiteMedSAM: what a training step changes, and above all what it must not. Synthetic noise as the image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from oncoseg_core import Box
from oncoseg_core.inference.weights_fingerprint import weights_fingerprint
from oncoseg_core.path.settings import PathSettings
from oncoseg_litemedsam.model import LiteMedSAM
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import load_adapter, save_adapter

PIXELS = torch.rand((1, 3, 256, 256), generator=torch.Generator().manual_seed(0))
PROMPT = [(Box(60, 70, 120, 150),)]


def predict(model):
    model.eval()
    with torch.inference_mode():
        return model.decode(model.encode_image(PIXELS), PROMPT).logits


def snapshot(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def moved(before, model):
    return {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}


def step(model):
    """One optimizer step with batch 1; returns the names of parameters that got a gradient."""
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-3)
    model.decode(model.encode_image(PIXELS), PROMPT).logits.square().mean().backward()
    optimizer.step()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("policy", "count"), [("lora", 178_176), ("lora+decoder", 178_176 + 4_058_340)])
def test_trainable_counts(policy, count):
    model = adapt(LiteMedSAM(), LoraSettings(policy=policy))
    assert sum(p.numel() for p in trainable_parameters(model).values()) == count


def test_one_step_moves_lora_and_nothing_else():
    base = LiteMedSAM()
    untouched = predict(base)
    model = adapt(base)
    assert torch.equal(predict(model), untouched), "a new adapter must change nothing"
    set_training_mode(model)
    before = snapshot(model)
    trainable = set(trainable_parameters(model))
    with_gradient = step(model)
    changed = moved(before, model)
    assert with_gradient == trainable
    assert changed <= trainable
    assert {name for name in changed if "lora_B" in name} == {name for name in trainable if "lora_B" in name}
    assert not torch.equal(predict(model), untouched)


def test_the_trap_that_set_training_mode_avoids():
    model = adapt(LiteMedSAM())
    before = snapshot(model)
    model.train()
    step(model)
    statistics = {name for name in moved(before, model) if "running_" in name}
    batch_norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert batch_norms == 27
    assert len(statistics) == 2 * batch_norms


def test_training_the_decoder_whole_and_bringing_the_adapter_back(tmp_path):
    model = adapt(LiteMedSAM(), LoraSettings(policy="lora+decoder"))
    set_training_mode(model)
    before = snapshot(model)
    step(model)
    changed = moved(before, model)
    assert all("lora_" in name or ".modules_to_save." in name for name in changed)
    assert any(".modules_to_save." in name for name in changed)
    save_adapter(model, tmp_path, versions={"oncoseg-litemedsam": "0.1.0"}, paths={"ct": PathSettings()})
    again = load_adapter(LiteMedSAM(), tmp_path)
    assert torch.equal(predict(again), predict(model))
    assert weights_fingerprint(again) == weights_fingerprint(model)


def test_mode_toggles_and_copies_do_not_change_the_output():
    """The encoder's attention caches its bias table on entering eval mode; the cache must never be stale or saved."""
    model = adapt(LiteMedSAM())
    first = predict(model)
    for _ in range(2):
        set_training_mode(model)
    model.eval().train().train().eval()
    assert torch.equal(predict(model), first)
    assert torch.equal(predict(copy.deepcopy(model)), first)
    state = model.state_dict()
    assert not any(name.endswith(".ab") for name in state)
    set_training_mode(model)
    assert model.state_dict().keys() == state.keys()
    fresh = adapt(LiteMedSAM())
    fresh.load_state_dict(state)
    assert torch.equal(predict(fresh), first)
