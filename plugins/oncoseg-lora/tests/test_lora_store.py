"""Storing adapters: what comes back, what is refused, and what an interrupted save leaves."""

from __future__ import annotations

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
from toy_model import SPEC, Toy, output, trained

from oncoseg_core import Box, ConfigError, LoraSpec, StorageError, UsageError, WeightsError
from oncoseg_core.path.settings import PathSettings
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.manifest import read_trained_on
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import load_adapter, save_adapter

VERSIONS = {"oncoseg-core": "0.1.0"}


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
    assert files == {"adapter_model.safetensors", "adapter_config.json", "oncoseg.json", "README.md"}
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


def test_a_pointer_in_place_of_the_weights_is_named(adapter):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 39\n"
    (adapter / "adapter_model.safetensors").write_bytes(pointer)
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: is a Git-LFS pointer"):
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_with_nan_is_named(adapter, value):
    tensors = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    name = min(tensors)
    tensors[name].view(-1)[-1] = value
    rewrite(adapter, safetensors.torch.save(tensors))
    with pytest.raises(WeightsError, match=f"{name} holds NaN or infinite numbers: its training diverged"):
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


def test_the_documented_model_adapts_trains_and_is_loaded(tmp_path, monkeypatch):
    """The example of docs/hooks/models.md, as it is printed there."""
    page = (Path(__file__).parents[3] / "docs" / "hooks" / "models.md").read_text()
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


def test_random_base_weights_are_told_apart_both_ways(tmp_path):
    for own, other in (("random:0", "random:1"), ("random:1", "random:0")):
        model, same, wrong = trained(), Toy(), Toy()
        model.base_model.model.weights_sha256 = same.weights_sha256 = own
        wrong.weights_sha256 = other
        save_adapter(model, tmp_path / own, versions=VERSIONS, paths={"ct": PathSettings()})
        load_adapter(same, tmp_path / own)
        with pytest.raises(WeightsError, match=f"trained on base weights {own}, the model has {other}"):
            load_adapter(wrong, tmp_path / own)


def test_the_card_is_peoples_own(adapter):
    (adapter / "README.md").write_text("# Edited by hand\n")
    load_adapter(Toy(), adapter)
    (adapter / "README.md").unlink()
    load_adapter(Toy(), adapter)
    save_adapter(trained(), adapter, versions=VERSIONS, paths={"ct": PathSettings()})
    assert "LoRA adapter for toy" in (adapter / "README.md").read_text()
