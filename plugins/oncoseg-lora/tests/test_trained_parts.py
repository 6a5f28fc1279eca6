"""An adapter's record says what was trained, and so whether its random base weights still mean that it knows nothing."""

import pytest
import torch
from toy_model import SPEC, Toy, trained

from oncoseg_core.path import PathSettings
from oncoseg_lora import has_random_weights, load_adapter, read_manifest, save_adapter, trained_parts


@pytest.mark.parametrize(("policy", "whole"), [("lora", ()), ("lora+decoder", ("mask_decoder",))])
def test_what_was_trained_is_recorded_and_comes_back(tmp_path, policy, whole):
    model = trained(policy)
    save_adapter(model, tmp_path, versions={}, paths={"ct": PathSettings()})
    found = read_manifest(tmp_path).trained
    assert found == trained_parts(model)
    assert found.whole == whole
    assert load_adapter(Toy(), tmp_path).trained_parts == found


def test_parameters_that_a_copy_replaces_do_not_count():
    plain = sum(p.numel() for p in Toy().parameters())
    decoder = sum(p.numel() for p in Toy().mask_decoder.parameters())
    lora, with_decoder = trained_parts(trained("lora")), trained_parts(trained("lora+decoder"))
    assert lora.n_parameters == plain + lora.n_trained
    assert with_decoder.n_trained >= decoder
    assert with_decoder.n_parameters <= plain + with_decoder.n_trained


def test_a_model_trained_whole_is_one_trained_from_scratch(tmp_path, monkeypatch):
    modules = tuple(name for name, _ in Toy().named_children())
    assert modules
    policies = {**SPEC.lora.policies, "most": modules[1:]}
    spec = SPEC.model_copy(update={"lora": SPEC.lora.model_copy(update={"policies": policies})})
    monkeypatch.setattr(Toy, "spec", spec)
    model = trained("most")
    save_adapter(model, tmp_path, versions={}, paths={"ct": PathSettings()})
    found = read_manifest(tmp_path).trained
    assert set(found.whole) == set(modules[1:])
    share = found.n_trained / found.n_parameters
    assert has_random_weights("random:0", found) == (share < 0.5)
    assert str(found).startswith(f"{share:.0%} of ")
    with torch.inference_mode():
        load_adapter(Toy(), tmp_path)
