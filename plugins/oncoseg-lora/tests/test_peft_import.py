"""What of a PEFT adapter is carried into ours, what is said of it, and what is refused with nothing written."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from toy_model import Toy

from oncoseg_core import UsageError, WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_lora.manifest import CONFIG_FILE, WEIGHTS_FILE, read_manifest
from oncoseg_lora.peft_import import import_adapter
from oncoseg_lora.store import load_adapter

ensure_torchvision_imports()  # before peft, which imports transformers, which imports torchvision
from peft import LoraConfig, get_peft_model  # noqa: E402


def write(folder: Path, whole=None, targets=("qkv", "attention.proj"), **settings):
    """An adapter of PEFT's own, not of zeros; gives the adapted model."""
    torch.manual_seed(1)
    model = get_peft_model(
        Toy().eval(), LoraConfig(r=3, lora_alpha=7, target_modules=list(targets), modules_to_save=whole, **settings)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    model.save_pretrained(folder)
    return model


def edit(folder, **changes):
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def retensor(folder, change):
    tensors = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / WEIGHTS_FILE)


def run(folder, destination, modalities=("ct",), **more):
    return import_adapter(Toy().eval(), folder, destination, modalities=modalities, versions={"peft": "x"}, **more)


@pytest.mark.parametrize(("whole", "policy"), [(None, "lora"), (["mask_decoder"], "lora+decoder")])
def test_the_imported_adapter_computes_what_pefts_does(whole, policy, tmp_path):
    theirs = write(tmp_path / "peft", whole)
    done = run(tmp_path / "peft", tmp_path / "ours")
    assert (done.settings.rank, done.settings.alpha, done.settings.policy) == (3, 7, policy)
    ours = load_adapter(Toy().eval(), tmp_path / "ours")
    pixels = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected, found = theirs.base_model.model.encode_image(pixels), ours.encode_image(pixels)
    torch.testing.assert_close(found, expected)
    state, copied = theirs.state_dict(), ours.state_dict()
    for name in state:
        if ".lora_" in name or ".modules_to_save." in name:
            assert torch.equal(state[name], copied[name]), name


@pytest.mark.parametrize(("more", "fit"), [({}, "letterbox"), ({"fit": "stretch"}, "stretch")])
def test_how_images_filled_the_square_is_as_it_was_said(more, fit, tmp_path):
    write(tmp_path / "peft")
    done = run(tmp_path / "peft", tmp_path / "ours", **more)
    assert read_manifest(tmp_path / "ours").paths["ct"].fit == fit
    assert any(f"the model's square: {fit} is what was said" in note for note in done.notes)


def test_what_is_not_known_is_in_the_card_and_not_in_the_manifest(tmp_path):
    write(tmp_path / "peft")
    done = run(tmp_path / "peft", tmp_path / "ours", ("ct", "mr"))
    manifest = read_manifest(tmp_path / "ours")
    assert (manifest.splits, manifest.metrics, manifest.datasets) == (None, (), None)
    assert set(manifest.paths) == {"ct", "mr"}
    card = (tmp_path / "ours" / "README.md").read_text()
    for part in (
        "does not record its base weights",
        "data, splits and scores are not known",
        "normalisation and window",
    ):
        assert any(part in note for note in done.notes), part
        assert part in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True, expected False: only plain LoRA"),
        ({"use_rslora": True}, "use_rslora is True"),
        ({"bias": "all"}, "bias is 'all', expected 'none'"),
        ({"rank_pattern": {"qkv": 8}}, "rank_pattern is"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"lora_alpha": 7.5}, "lora_alpha is 7.5, expected a whole number"),
        ({"r": 4}, r"LoRA shapes .*the model and its rank expect"),
    ],
)
def test_other_kinds_of_adapters_are_refused(changes, message, tmp_path):
    write(tmp_path / "peft")
    edit(tmp_path / "peft", **changes)
    refuses(message, tmp_path)


def refuses(message, tmp_path):
    with pytest.raises(WeightsError, match=message) as raised:
        run(tmp_path / "peft", tmp_path / "ours")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: [t.update({n.replace("encoder.", "x."): t.pop(n)}) for n in list(t)],
            "none of its 2 layers is one of",
        ),
        (lambda t: t.pop(min(t)), "LoRA shapes"),
        (lambda t: t.update({min(t): torch.ones(3, 9)}), r"LoRA shapes .*\(3, 9\)"),
        (lambda t: t[min(t)].fill_(float("nan")), "NaN or infinite"),
        (
            lambda t: t.update({"base_model.model.y.lora_A.weight": torch.ones(3, 8)}),
            "adapts 1 layers that the model has not",
        ),
        (
            lambda t: t.update({"base_model.model.encoder.y.weight": torch.ones(3)}),
            "has 1 trained tensors that the model",
        ),
        (
            lambda t: t.update({"base_model.model.encoder.lora_magnitude_vector": torch.ones(3)}),
            "no part of a plain LoRA",
        ),
        (lambda t: (t.clear(), t.update({"a": torch.ones(1)})), "holds no LoRA layers"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(change, message, tmp_path):
    write(tmp_path / "peft")
    retensor(tmp_path / "peft", change)
    refuses(message, tmp_path)


def test_a_convolution_that_no_policy_adapts_is_not_dropped(tmp_path):
    write(tmp_path / "peft", targets=("qkv", "proj"))
    refuses(r"none of the model's policies does: beyond lora \(1, such as image_encoder.patches.proj\)", tmp_path)


def test_a_module_that_no_policy_trains_is_not_dropped(tmp_path):
    write(tmp_path / "peft", whole=["encoder.norm"])
    refuses(r"trains what none of the model's policies does: beyond lora \(", tmp_path)


def test_folders_that_are_no_adapter_of_peft(tmp_path):
    refuses("no such folder; expected adapter_config.json", tmp_path)
    write(tmp_path / "peft")
    (tmp_path / "peft" / WEIGHTS_FILE).rename(tmp_path / "peft" / "adapter_model.bin")
    refuses("is a pickle, which is not read", tmp_path)
    (tmp_path / "peft" / "adapter_model.bin").rename(tmp_path / "peft" / WEIGHTS_FILE)
    run(tmp_path / "peft", tmp_path / "ours")
    with pytest.raises(UsageError, match="exists and is not empty"):
        run(tmp_path / "peft", tmp_path / "ours")
    with pytest.raises(WeightsError, match="is an adapter of OncoSeg already"):
        run(tmp_path / "ours", tmp_path / "again")
    with pytest.raises(UsageError, match="no `modality` is given"):
        run(tmp_path / "peft", tmp_path / "third", ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 4}, "r is 4, but oncoseg.json beside it means 3"),
        ({"lora_alpha": 8}, "lora_alpha is 8, but oncoseg.json beside it means 7"),
        ({"lora_dropout": 0.5}, "lora_dropout is 0.5"),
        ({"target_modules": ["qkv"]}, r"target_modules is 1 layers, .* means 2 layers \(they differ in .*proj\)"),
        ({"modules_to_save": ["mask_decoder"]}, r"modules_to_save is \['mask_decoder'\], .* means \[\]"),
        ({"base_model_name_or_path": "facebook/sam3.1"}, "base_model_name_or_path is facebook/sam3.1.*facebook/sam3;"),
        ({"use_dora": True}, "use_dora is True"),
    ],
)
def test_a_record_that_contradicts_the_manifest_is_refused(changes, message, tmp_path):
    import hashlib

    write(tmp_path / "peft")
    run(tmp_path / "peft", tmp_path / "ours")
    edit(tmp_path / "ours", **changes)
    path = tmp_path / "ours" / "oncoseg.json"
    manifest = json.loads(path.read_text())
    manifest["files"][CONFIG_FILE] = hashlib.sha256((tmp_path / "ours" / CONFIG_FILE).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
    model = Toy().eval()
    model.spec = model.spec.model_copy(update={"hub_id": "facebook/sam3"})
    with pytest.raises(WeightsError, match=message):
        load_adapter(model, tmp_path / "ours")


def test_layers_that_the_adapter_has_not_stay_as_they_were(tmp_path):
    write(tmp_path / "peft", targets=("qkv",))
    done = run(tmp_path / "peft", tmp_path / "ours")
    assert done.n_layers == 1
    tensors = safetensors.torch.load_file(tmp_path / "ours" / WEIGHTS_FILE)
    others = [tensor for name, tensor in tensors.items() if ".qkv." not in name]
    assert others
    assert not any(tensor.any() for tensor in others)
