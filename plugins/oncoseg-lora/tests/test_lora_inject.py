"""Adapting a model with LoRA: what is trained, what is left alone, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from toy_model import PROMPT, SPEC, Toy, output, pixels, trained

from oncoseg_core import ConfigError, LoraSpec, PluginError, UsageError
from oncoseg_core.inference.weights_fingerprint import weights_fingerprint
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings


@pytest.mark.parametrize("policy", ["lora", "lora+decoder"])
def test_adapted_model_is_still_the_promptable_model_and_gives_its_output(policy):
    base = Toy().eval()
    before = output(base)
    model = adapt(base, LoraSettings(policy=policy))
    assert torch.equal(output(model), before)
    assert model.spec is SPEC
    assert model.weights_sha256 == "random:0"
    assert model.lora_settings == LoraSettings(policy=policy)
    assert model.decode(model.encode_image(pixels(batch=1)), [PROMPT] * 3).logits.shape == (3, 32, 32)


@pytest.mark.parametrize("training", [True, False])
def test_adapting_keeps_the_mode(training):
    model = adapt(Toy().train(training))
    assert {module.training for module in model.modules()} == {training}


def test_only_lora_on_the_linear_layers_named_is_trained():
    model = adapt(Toy(), LoraSettings(rank=3))
    layers = {name.split("base_model.model.")[1]: p.numel() for name, p in trainable_parameters(model).items()}
    assert layers == {
        "image_encoder.attention.qkv.lora_A.default.weight": 3 * 8,
        "image_encoder.attention.qkv.lora_B.default.weight": 24 * 3,
        "image_encoder.attention.proj.lora_A.default.weight": 3 * 8,
        "image_encoder.attention.proj.lora_B.default.weight": 8 * 3,
    }


def test_a_policy_trains_its_modules_whole_and_only_these():
    model = adapt(Toy(), LoraSettings(policy="lora+decoder"))
    names = trainable_parameters(model)
    whole = {name for name in names if "lora_" not in name}
    assert len(names) - len(whole) == 4
    assert len(whole) == len(list(Toy().mask_decoder.parameters()))
    assert all("mask_decoder.modules_to_save" in name for name in whole)


def test_dropout_is_as_set():
    model = adapt(Toy(), LoraSettings(dropout=0.25))
    assert model.image_encoder.attention.proj.lora_dropout["default"].p == 0.25


def test_the_first_policy_is_the_default():
    assert adapt(Toy()).lora_settings.policy == "lora"


def test_weight_is_w_plus_scaled_b_a():
    model = trained()
    layer = model.image_encoder.attention.qkv
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert b.abs().max() > 0
    tokens = torch.rand(5, 8, generator=torch.Generator().manual_seed(3))
    by_hand = tokens @ (layer.base_layer.weight + 7 / 3 * b @ a).T + layer.base_layer.bias
    torch.testing.assert_close(layer(tokens), by_hand)


def test_unknown_policy_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'toy' has no LoRA policy 'lora\+decode'; did you mean 'lora\+decoder'"):
        adapt(Toy(), LoraSettings(policy="lora+decode"))


def toy_with(**lora):
    model = Toy()
    model.spec = SPEC.model_copy(update={"lora": LoraSpec(**lora)})
    return model


def test_targets_that_match_no_linear_layer_are_named():
    with pytest.raises(PluginError, match=r"ends with the LoRA targets 'k_proj', 'patches'"):
        adapt(toy_with(targets=("qkv", "k_proj", "patches")))
    with pytest.raises(PluginError, match="ends with the LoRA target 'kv'"):
        adapt(toy_with(targets=("kv",)))


def test_a_target_inside_a_module_trained_whole_does_not_count():
    with pytest.raises(PluginError, match="'qkv'"):
        adapt(toy_with(targets=("qkv",), policies={"whole": ("image_encoder",)}))


@pytest.mark.parametrize(("name", "problem"), [("neck", "is not a module"), ("decoder", "is not a module")])
def test_a_policy_that_names_no_module(name, problem):
    with pytest.raises(PluginError, match=f"'{name}' {problem}"):
        adapt(toy_with(targets=("qkv",), policies={"wrong": (name,)}))


def test_a_policy_name_that_means_several_modules():
    with pytest.raises(PluginError, match=r"'norm' means several modules \(image_encoder.norm"):
        adapt(toy_with(targets=("qkv",), policies={"wrong": ("norm",)}))


def test_adapting_twice_is_refused():
    with pytest.raises(UsageError, match="adapted already"):
        adapt(adapt(Toy()))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"dropout": 1.0}, {"alpha": 0}, {"ranks": 8}])
def test_settings_are_strict(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoraSettings(**wrong)


def statistics(model):
    return {n: b.clone() for n, b in model.named_buffers() if "image_encoder" in n and "running" in n}


def step(model):
    model.decode(model.encode_image(pixels(5)), [PROMPT]).logits.mean().backward()


def test_frozen_batch_normalisation_does_not_move():
    model = adapt(Toy())
    before = statistics(model)
    assert len(before) == 2
    set_training_mode(model)
    step(model)
    assert all(torch.equal(before[name], now) for name, now in statistics(model).items())
    model.train()
    step(model)
    assert not any(torch.equal(before[name], now) for name, now in statistics(model).items()), "the trap has gone"


def test_a_normalisation_layer_that_is_trained_trains():
    model = adapt(Toy(), LoraSettings(policy="lora+decoder"))
    set_training_mode(model)
    decoder = model.mask_decoder
    assert decoder.modules_to_save["default"][0].training
    assert not decoder.original_module[0].training
    assert not model.image_encoder.norm.training
    assert not model.image_encoder.attention.norm.training
    assert model.image_encoder.attention.qkv.lora_dropout["default"].training


def test_fingerprint_tells_models_apart_and_copies_not():
    model = Toy()
    same = weights_fingerprint(model)
    assert same == weights_fingerprint(copy.deepcopy(model)) == weights_fingerprint(Toy().train())
    assert same != weights_fingerprint(Toy(seed=1))
    assert same != weights_fingerprint(copy.deepcopy(model).to(torch.bfloat16))
    assert same != weights_fingerprint(adapt(copy.deepcopy(model)))


def test_fingerprint_tells_the_same_bytes_under_another_name_shape_or_type_apart():
    def holding(name, tensor):
        module = nn.Module()
        module.register_buffer(name, tensor)
        return weights_fingerprint(module)

    zeros = torch.zeros(2, 3)
    assert holding("a", zeros) == holding("a", zeros.clone())
    assert len({holding("a", zeros), holding("b", zeros), holding("a", zeros.T), holding("a", zeros.int())}) == 4


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_fingerprint_sees_every_single_value(data):
    model = Toy()
    before = weights_fingerprint(model)
    tensor = data.draw(st.sampled_from(list(model.state_dict().values()))).view(-1)
    tensor[data.draw(st.integers(0, tensor.numel() - 1))] += 1
    assert weights_fingerprint(model) != before
