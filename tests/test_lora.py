"""LoRA adapters on a small model with the traits that matter: attention, batch normalisation, a decoder.

The model is a toy with random weights and its images are noise; the real model is tested with its plugin.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oncoseg_core import LoraSpec, ModelSpec
from oncoseg_core.errors import ConfigError, PluginError, StorageError, UsageError, WeightsError
from oncoseg_core.fingerprint import weights_fingerprint
from oncoseg_core.interfaces import Decoded, PromptableModel
from oncoseg_core.leakage import TrainedOn
from oncoseg_core.lora import (
    adapt,
    load_adapter,
    read_trained_on,
    save_adapter,
    set_training_mode,
    trainable_parameters,
)
from oncoseg_core.lora_settings import LoraSettings
from oncoseg_core.path_settings import PathSettings
from oncoseg_core.prompts import Box

SPEC = ModelSpec(
    name="toy",
    factory="nowhere:Toy",
    summary="A toy",
    prompt_kinds=("box",),
    input_size=32,
    lora=LoraSpec(targets=("qkv", "proj"), policies={"lora": (), "lora+decoder": ("mask_decoder",)}),
    weights="random",
)
PROMPT = (Box(4, 4, 20, 20),)
VERSIONS = {"oncoseg-core": "0.1.0"}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.proj = nn.Linear(8, 8)

    def forward(self, tokens):
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        return tokens + self.proj(torch.softmax(q @ k.transpose(1, 2), dim=-1) @ v)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.ModuleDict({"proj": nn.Conv2d(3, 8, kernel_size=4, stride=4)})
        self.norm = nn.BatchNorm2d(8)
        self.attention = Attention()

    def forward(self, pixels):
        features = self.norm(self.patches["proj"](pixels))
        tokens = self.attention(features.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, features.shape[2:])


class Toy(nn.Module, PromptableModel):
    spec = SPEC
    weights_sha256 = "random:0"

    def __init__(self, seed=0):
        nn.Module.__init__(self)
        PromptableModel.__init__(self)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.image_encoder = Encoder()
            self.mask_decoder = nn.Sequential(nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 1, kernel_size=4, stride=4))

    def encode_image(self, pixels):
        return self.image_encoder(pixels)

    def decode(self, embedding, prompts):
        logits = self.mask_decoder(embedding)[:, 0].expand(len(prompts), -1, -1)
        return Decoded(logits, logits.mean((1, 2)))


def pixels(seed=1, batch=1):
    return torch.rand((batch, 3, 32, 32), generator=torch.Generator().manual_seed(seed))


def output(model):
    model.eval()
    with torch.no_grad():
        return model.decode(model.encode_image(pixels()), [PROMPT]).logits


def trained(policy="lora", steps=2):
    """An adapted toy whose B matrices are no longer zero."""
    torch.manual_seed(7)
    model = adapt(Toy(), LoraSettings(rank=3, alpha=7, policy=policy))
    set_training_mode(model)
    optimizer = torch.optim.SGD(trainable_parameters(model).values(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        model.decode(model.encode_image(pixels(step)), [PROMPT]).logits.square().mean().backward()
        optimizer.step()
    return model.eval()


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


@pytest.mark.parametrize("policy", ["lora", "lora+decoder"])
def test_saved_adapter_comes_back_bit_for_bit(policy, tmp_path):
    model = trained(policy)
    save_adapter(model, tmp_path / "new" / "adapter", versions=VERSIONS, paths={"ct": PathSettings()})
    again = load_adapter(Toy(), tmp_path / "new" / "adapter")
    assert not torch.equal(output(model), output(Toy()))
    assert torch.equal(output(again), output(model))
    assert again.lora_settings == model.lora_settings
    assert trainable_parameters(again).keys() == trainable_parameters(model).keys()
    files = {path.name for path in (tmp_path / "new" / "adapter").iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json", "oncoseg.json"}
    assert json.loads((tmp_path / "new" / "adapter" / "oncoseg.json").read_text())["versions"] == VERSIONS


@pytest.mark.parametrize("policy", ["lora", "lora+decoder"])
def test_peft_itself_loads_it(policy, tmp_path):
    from peft import PeftModel

    model = trained(policy)
    save_adapter(model, tmp_path, versions=VERSIONS, paths={"ct": PathSettings()})
    assert torch.equal(output(PeftModel.from_pretrained(Toy(), tmp_path)), output(model))


@settings(max_examples=10, deadline=None)
@given(rank=st.integers(1, 12), alpha=st.integers(1, 64), dropout=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_any_settings_come_back(tmp_path_factory, rank, alpha, dropout, seed):
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(seed)
    model = adapt(Toy(), LoraSettings(rank=rank, alpha=alpha, dropout=dropout))
    for parameter in trainable_parameters(model).values():
        nn.init.normal_(parameter)
    save_adapter(model, folder, versions={}, paths={"ct": PathSettings()})
    again = load_adapter(Toy(), folder)
    assert again.lora_settings == model.lora_settings
    assert torch.equal(output(again), output(model))


@pytest.fixture
def adapter(tmp_path):
    save_adapter(trained(), tmp_path, versions=VERSIONS, paths={"ct": PathSettings()})
    return tmp_path


def test_saving_over_an_adapter_replaces_it(adapter):
    save_adapter(trained("lora+decoder"), adapter, versions=VERSIONS, paths={"ct": PathSettings()})
    assert load_adapter(Toy(), adapter).lora_settings.policy == "lora+decoder"


def test_saving_an_unadapted_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match="adapt it first"):
        save_adapter(Toy(), tmp_path / "x", versions={}, paths={"ct": PathSettings()})
    assert not (tmp_path / "x").exists()


def test_a_full_disk_leaves_the_old_adapter(adapter, monkeypatch):
    write = Path.write_bytes
    written = []

    def second_write_fails(self, data):
        written.append(self)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        return write(self, data)

    before = {path.name: path.read_bytes() for path in adapter.iterdir()}
    monkeypatch.setattr(Path, "write_bytes", second_write_fails)
    with pytest.raises(StorageError, match="disk is full"):
        save_adapter(trained("lora+decoder"), adapter, versions=VERSIONS, paths={"ct": PathSettings()})
    assert {path.name: path.read_bytes() for path in adapter.iterdir()} == before


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_save_killed_between_renames_never_loads_as_a_mixture(renames, adapter, monkeypatch):
    replace = Path.replace
    done = []

    def killed(self, target):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        return replace(self, target)

    old = output(load_adapter(Toy(), adapter))
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_adapter(trained(steps=4), adapter, versions=VERSIONS, paths={"ct": PathSettings()})
    monkeypatch.undo()
    if renames == 0:
        assert torch.equal(output(load_adapter(Toy(), adapter)), old)
    else:
        with pytest.raises(WeightsError, match="its save was interrupted"):
            load_adapter(Toy(), adapter)


def test_missing_folder(tmp_path):
    with pytest.raises(WeightsError, match="nowhere: no such folder"):
        load_adapter(Toy(), tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "oncoseg.json"])
def test_missing_file(name, adapter):
    (adapter / name).unlink()
    with pytest.raises(WeightsError, match=f"{name}: No such file"):
        load_adapter(Toy(), adapter)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_altered_file(name, adapter):
    content = bytearray((adapter / name).read_bytes())
    content[-3] ^= 1
    (adapter / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: SHA-256 is .* altered"):
        load_adapter(Toy(), adapter)


def test_adapter_of_another_model(adapter):
    other = Toy()
    other.spec = SPEC.model_copy(update={"name": "other"})
    with pytest.raises(WeightsError, match="trained for model 'toy', this is 'other'"):
        load_adapter(other, adapter)


def test_adapter_of_other_base_weights(adapter):
    other = Toy(seed=1)
    other.weights_sha256 = "random:1"
    with pytest.raises(WeightsError, match="base weights random:0, the model has random:1"):
        load_adapter(other, adapter)


def rewrite(folder, content):
    """Replace the weights and tell the record their hash, as one who makes an adapter by hand would."""
    (folder / "adapter_model.safetensors").write_bytes(content)
    record = json.loads((folder / "oncoseg.json").read_text())
    record["files"]["adapter_model.safetensors"] = hashlib.sha256(content).hexdigest()
    (folder / "oncoseg.json").write_text(json.dumps(record))


def test_missing_and_unknown_tensors_are_named(adapter):
    tensors = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    lost = min(tensors)
    tensors["surplus"] = tensors.pop(lost)
    rewrite(adapter, safetensors.torch.save(tensors))
    with pytest.raises(WeightsError, match=rf"lacks {lost} \(1 in all\), has unknown surplus \(1 in all\)"):
        load_adapter(Toy(), adapter)


def test_a_tensor_of_another_shape_is_named(adapter):
    tensors = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    name = min(tensors)
    tensors[name] = tensors[name][:1].contiguous()
    rewrite(adapter, safetensors.torch.save(tensors))
    with pytest.raises(WeightsError, match=rf"{name} has shape \(1, 8\), the model expects \(3, 8\)"):
        load_adapter(Toy(), adapter)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_truncated_or_pickled_weights_are_refused_and_never_unpickled(adapter, tmp_path_factory):
    sprung = tmp_path_factory.mktemp("trap") / "sprung"
    whole = (adapter / "adapter_model.safetensors").read_bytes()
    for content in (whole[:-5], whole[:4], b"", pickle.dumps(Trap(sprung))):
        rewrite(adapter, content)
        with pytest.raises(WeightsError, match="not a readable safetensors file"):
            load_adapter(Toy(), adapter)
    assert not sprung.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": "toy"}'])
def test_a_record_that_is_none(content, adapter):
    (adapter / "oncoseg.json").write_text(content)
    with pytest.raises(WeightsError, match=r"oncoseg\.json: is not the record of an adapter"):
        load_adapter(Toy(), adapter)


def test_a_policy_the_model_no_longer_has(adapter):
    model = Toy()
    model.spec = SPEC.model_copy(update={"lora": LoraSpec(targets=("qkv", "proj"), policies={"thin": ()})})
    with pytest.raises(ConfigError, match="no LoRA policy 'lora'"):
        load_adapter(model, adapter)


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


def test_the_documented_model_adapts_trains_and_is_loaded(tmp_path, monkeypatch):
    """The example of docs/hooks/models.md, as it is printed there."""
    page = (Path(__file__).parents[1] / "docs" / "hooks" / "models.md").read_text()
    package = tmp_path / "oncoseg_tinyconv"
    package.mkdir()
    (package / "__init__.py").touch()
    for title, code in re.findall(r'```python title="(oncoseg_tinyconv/\w+\.py)"\n(.*?)```', page, re.DOTALL):
        (tmp_path / title).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("oncoseg_tinyconv.model")
    (record,) = importlib.import_module("oncoseg_tinyconv.plugin").oncoseg_models()
    assert record.factory == f"{module.__name__}:{module.TinyConv.__name__}"

    image = torch.rand(1, 3, record.input_size, record.input_size, generator=torch.Generator().manual_seed(0))
    prompts = [(Box(10, 20, 60, 90),), (Box(30, 30, 40, 40),)]
    model = adapt(module.TinyConv(module.TinyConvSettings(seed=1)))
    set_training_mode(model)
    decoded = model.decode(model.encode_image(image), prompts)
    assert decoded.logits.shape[0] == 2
    assert decoded.scores.shape == (2,)
    assert not torch.equal(decoded.logits[0], decoded.logits[1])
    decoded.logits.square().mean().backward()
    torch.optim.SGD(trainable_parameters(model).values(), lr=0.1).step()
    model.eval()
    save_adapter(model, tmp_path / "adapter", versions={}, paths={"ct": PathSettings()})
    again = load_adapter(module.TinyConv(module.TinyConvSettings(seed=1)), tmp_path / "adapter").eval()
    assert torch.equal(
        again.decode(again.encode_image(image), prompts).logits, model.decode(model.encode_image(image), prompts).logits
    )
    with pytest.raises(WeightsError, match="random:1, the model has random:2"):
        load_adapter(module.TinyConv(module.TinyConvSettings(seed=2)), tmp_path / "adapter")


def test_an_adapter_tells_what_it_was_trained_on(tmp_path):
    seen = TrainedOn(("samples",), frozenset({"a" * 64, "b" * 64}))
    save_adapter(trained(), tmp_path / "told", versions=VERSIONS, paths={"ct": PathSettings()}, trained_on=seen)
    assert read_trained_on(tmp_path / "told") == seen
    load_adapter(Toy(), tmp_path / "told")
    (tmp_path / "told" / "trained_on.txt").write_text("a" * 64 + "\n")
    with pytest.raises(WeightsError, match=r"trained_on\.txt: SHA-256 is"):
        read_trained_on(tmp_path / "told")
    save_adapter(trained(), tmp_path / "silent", versions=VERSIONS, paths={"ct": PathSettings()})
    assert read_trained_on(tmp_path / "silent") is None
