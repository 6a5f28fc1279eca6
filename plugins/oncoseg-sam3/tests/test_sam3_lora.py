"""Adapting SAM3: what each policy trains, that trained copies are the ones used, and merged checkpoints."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from peft.utils import ModulesToSaveWrapper

from oncoseg_core import StorageError, UsageError
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import load_adapter, save_adapter
from oncoseg_sam3.checkpoint import merged_state, write_checkpoint
from oncoseg_sam3.model import Sam3, Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network import sizes
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.plugin import LORA

pytestmark = pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
LOGITS = ("pred_masks", "pred_logits", "pred_boxes", "presence_logit_dec", "semantic_seg")
POLICIES = ("lora+detector", "lora", "lora+detector+interactive")


@pytest.fixture
def model() -> Sam3Tiny:
    return Sam3Tiny()


def detector(adapted: Any) -> Any:
    return adapted.get_base_model().detector


def perturb(adapted: torch.nn.Module, scale: float = 0.02) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainable_parameters(adapted).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def without_dropout(model: torch.nn.Module) -> None:
    for module in model.modules():
        for name in {"p", "drop_prob", "dropout"} & vars(module).keys():
            setattr(module, name, 0.0)


@pytest.mark.parametrize(
    ("policy", "trained", "share"),
    [
        ("lora", 3_145_728, 0.0037),
        ("lora+detector", 43_693_110, 0.052),
        ("lora+detector+interactive", 62_384_824, 0.0742),
    ],
)
def test_full_size_counts(policy: str, trained: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oncoseg_sam3.model.network_with_weights", lambda *_: (build_network(sizes.SAM3, "meta"), "x"))
    with torch.device("meta"):
        model = adapt(Sam3(), LoraSettings(rank=16, alpha=32, dropout=0.1, policy=policy))
    parameters = trainable_parameters(model)
    total = sum(p.numel() for p in parameters.values())
    assert total == trained
    assert total / 840_509_750 == pytest.approx(share, abs=5e-4)
    adapters = [name for name in parameters if ".lora_A." in name]
    assert len(adapters) == 64
    assert all(".vision_backbone.trunk.blocks." in name for name in adapters)
    assert not any("language_backbone" in name for name in parameters)
    second_branch = any("sam2_convs" in name or "inst_interactive" in name for name in parameters)
    assert second_branch == (policy == "lora+detector+interactive")


def test_the_first_policy_is_the_papers() -> None:
    assert next(iter(LORA.policies)) == "lora+detector"


@pytest.mark.parametrize("policy", POLICIES)
def test_an_untrained_adapter_changes_nothing(policy: str, model: Any, pixels: torch.Tensor, ground: Any) -> None:
    with torch.inference_mode():
        expected = ground(model.detector, pixels)
        found = ground(detector(adapt(model, LoraSettings(policy=policy))), pixels)
    for name in LOGITS:
        assert torch.equal(expected[name], found[name]), name


def test_every_trained_copy_is_the_one_that_is_used(model: Any, pixels: torch.Tensor, ground: Any) -> None:
    # PEFT keeps the original beside the copy that it trains; nothing may read the original any more.
    adapted = adapt(model, LoraSettings(policy="lora+detector"))
    wrappers = {n: m for n, m in adapted.named_modules() if isinstance(m, ModulesToSaveWrapper)}
    assert sorted(name.removeprefix("base_model.model.") for name in wrappers) == sorted(LORA.policies["lora+detector"])
    with torch.inference_mode():
        expected = ground(detector(adapted), pixels)
        for wrapper in wrappers.values():
            for parameter in wrapper.original_module.parameters():
                parameter.fill_(float("nan"))
        found = ground(detector(adapted), pixels)
    for name in LOGITS:
        assert torch.equal(expected[name], found[name]), name


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_training_step_reaches_what_the_policy_says(
    policy: str, checkpointing: bool, pixels: torch.Tensor, ground: Any
) -> None:
    model = Sam3Tiny(Sam3TinySettings(activation_checkpointing=checkpointing))
    adapted = adapt(model, LoraSettings(policy=policy))
    perturb(adapted)  # with B = 0 no gradient reaches A
    without_dropout(adapted)  # nor where a layer is left out for both images
    set_training_mode(adapted)
    found = ground(detector(adapted), pixels)
    sum(found[name].float().square().mean() for name in LOGITS).backward()
    trained = trainable_parameters(adapted)
    for name, parameter in adapted.named_parameters():
        if name not in trained:
            assert parameter.grad is None, name
    # What Meta's detector has and does not use: clicks, the neck's coarsest level (scalp), the pixel decoder's third
    # step, which would need that level.
    unused = ("points_", "convs.3.", "pixel_decoder.conv_layers.2.", "pixel_decoder.norms.2.")
    unused += ("sam2_convs.", "inst_interactive_predictor.")  # test_sam3_every_prompt.py teaches these
    without = {name for name, parameter in trained.items() if parameter.grad is None or not parameter.grad.any()}
    assert without == {name for name in trained if any(part in name for part in unused)}


def test_activation_checkpointing_changes_memory_not_gradients(pixels: torch.Tensor, ground: Any) -> None:
    gradients = []
    for checkpointing in (True, False):
        model = Sam3Tiny(Sam3TinySettings(activation_checkpointing=checkpointing))
        without_dropout(model)
        model.detector.train()
        model.detector.backbone.vision_backbone.trunk.requires_grad_(True)
        ground(model.detector, pixels)["pred_masks"].square().mean().backward()
        gradients.append(model.detector.backbone.vision_backbone.trunk.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_merging_and_unmerging_are_exact_enough(model: Any, pixels: torch.Tensor, ground: Any) -> None:
    adapted: Any = adapt(model)
    perturb(adapted)
    layer = detector(adapted).backbone.vision_backbone.trunk.blocks[0].attn.qkv
    before = layer.base_layer.weight.clone()
    with torch.inference_mode():
        expected = ground(detector(adapted), pixels)["pred_masks"]
        adapted.merge_adapter()
        torch.testing.assert_close(ground(detector(adapted), pixels)["pred_masks"], expected, atol=1e-5, rtol=1e-5)
        delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * (32 / 16)
        torch.testing.assert_close(layer.base_layer.weight, before + delta, atol=1e-6, rtol=1e-5)
        merged = merged_state(adapted)
        torch.testing.assert_close(merged[QKV], before + delta, atol=1e-6, rtol=1e-5)
        adapted.unmerge_adapter()
        torch.testing.assert_close(layer.base_layer.weight, before, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ground(detector(adapted), pixels)["pred_masks"], expected, atol=1e-5, rtol=1e-5)


QKV = "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_from_metas_layout_through_an_adapter_and_back(
    policy: str, suffix: str, model: Any, pixels: torch.Tensor, ground: Any, tmp_path: Path
) -> None:
    base = tmp_path / f"base{suffix}"
    write_checkpoint(model, base)
    settings = Sam3TinySettings(weights=str(base))

    adapted = adapt(Sam3Tiny(settings), LoraSettings(policy=policy))
    perturb(adapted)
    save_adapter(adapted, tmp_path / "adapter", versions={}, paths={})
    loaded = load_adapter(Sam3Tiny(settings), tmp_path / "adapter")
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    write_checkpoint(loaded, tmp_path / f"merged{suffix}")
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())

    merged = Sam3Tiny(Sam3TinySettings(weights=str(tmp_path / f"merged{suffix}"))).detector
    with torch.inference_mode():
        expected = ground(detector(adapted), pixels)
        again = ground(detector(loaded), pixels)
        found = ground(merged, pixels)
        unadapted = ground(model.detector, pixels)
    for name in LOGITS:
        assert torch.equal(expected[name], again[name]), name
        # The sum W + BA is rounded once, x W + x BA twice.
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)
    assert (found["pred_masks"] - unadapted["pred_masks"]).abs().max() > 0.01
    cast("Any", loaded).merge_adapter()
    loaded.requires_grad_(False)  # torch's path through layers of attention depends on it
    with torch.inference_mode():
        same = ground(detector(loaded), pixels)
    assert all(torch.equal(found[name], same[name]) for name in LOGITS)


def test_an_unadapted_model_is_written_as_it_was_read(model: Any, tmp_path: Path) -> None:
    write_checkpoint(model, tmp_path / "a.safetensors")
    again = Sam3Tiny(Sam3TinySettings(weights=str(tmp_path / "a.safetensors")))
    write_checkpoint(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    (tmp_path / "any").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode
    names = safetensors.torch.load_file(tmp_path / "a.safetensors").keys()
    assert names == {
        *(f"detector.{n}" for n in model.detector.state_dict() if not n.startswith("inst_interactive_predictor.")),
        *(f"tracker.{n}" for n in model.tracker.state_dict()),
    }


def test_merged_state_has_the_names_of_an_unadapted_model(model: Any) -> None:
    names = merged_state(model).keys()
    every_head = LoraSettings(policy="lora+detector+interactive")
    assert merged_state(adapt(copy.deepcopy(model), every_head)).keys() == names


def test_a_checkpoint_is_written_whole_or_not_at_all(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "merged.pt"
    path.write_bytes(b"as it was")
    with pytest.raises(UsageError, match=r"merged.bin: a checkpoint ends in .pt or .safetensors"):
        write_checkpoint(model, tmp_path / "merged.bin")

    def full_disk(tensors: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(StorageError, match="the disk is full"):
        write_checkpoint(model, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["merged.pt"]
    assert path.read_bytes() == b"as it was"


@pytest.mark.parametrize("module", ["checkpoint", "weights", "layouts", "model"])
def test_a_module_is_imported_in_a_fresh_process(module: str) -> None:
    # Here torchvision is guarded already, by whatever was imported before.
    done = subprocess.run(
        [sys.executable, "-c", f"import oncoseg_sam3.{module}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readmes_program_runs_on_the_test_size(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    adapted = adapt(model, LoraSettings(rank=2))
    perturb(adapted)
    monkeypatch.chdir(tmp_path)
    save_adapter(adapted, Path("runs/my-lungs/adapter"), versions={}, paths={})
    exec(compile(code.replace('"sam3"', '"sam3-tiny"'), "README.md", "exec"), {})
    written = safetensors.torch.load_file("merged.safetensors")
    expected = merged_state(adapted)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
