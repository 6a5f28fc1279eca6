"""Adapters that PEFT trained on Meta's modules give the same answers when they are imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from oncoseg_core import WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_lora import import_adapter, load_adapter
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.patches import Image
from oncoseg_sam3.network.sizes import TINY

ensure_torchvision_imports()  # before peft, which imports transformers, which imports torchvision
from peft import LoraConfig, get_peft_model  # noqa: E402

Ground = Callable[..., dict[str, torch.Tensor]]
ANSWERS = ("pred_masks", "pred_logits", "pred_boxes", "presence_logit_dec")


def perturbed(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if ".lora_" in name or ".modules_to_save." in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def imported(base: Path, folder: Path, tmp_path: Path) -> Any:
    destination = tmp_path / "imported"

    def build() -> Sam3Tiny:
        return Sam3Tiny(Sam3TinySettings(weights=str(base)))

    done = import_adapter(build(), folder, destination, modalities=("ct",), versions={})
    model: Any = load_adapter(build(), destination)
    assert model.lora_settings == done.settings
    return model


@pytest.fixture
def base(tiny: Image, tmp_path: Path) -> Path:
    path = tmp_path / "base.pt"
    torch.save(tiny.state_dict(), path)
    return path


@pytest.mark.parametrize("whole", [None, ["segmentation_head", "dot_prod_scoring"]])
@pytest.mark.parametrize("prefix", ["", "detector"])
def test_an_adapter_on_metas_names(
    prefix: str, whole: list[str] | None, base: Path, tiny: Image, pixels: torch.Tensor, ground: Ground, tmp_path: Path
) -> None:
    network: Any = torch.nn.ModuleDict({prefix: tiny}) if prefix else tiny
    adapted: Any = get_peft_model(
        network, LoraConfig(r=4, lora_alpha=6, target_modules=["qkv", "attn.proj"], modules_to_save=whole)
    )
    perturbed(adapted)
    adapted.eval().save_pretrained(tmp_path / "peft")
    model = imported(base, tmp_path / "peft", tmp_path)
    assert (model.lora_settings.rank, model.lora_settings.alpha) == (4, 6)
    assert model.lora_settings.policy == ("lora+detector" if whole else "lora")
    with torch.inference_mode():
        found, expected = ground(model.get_base_model().detector, pixels), ground(tiny, pixels)
    for name in ANSWERS:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["qkv", "fc1"], r"trains what none of the model's policies does: beyond lora \(4, such as .*mlp.fc1"),
        (["qkv", "out_proj"], r"adapts \d+ layers that the model has not|beyond lora"),
    ],
)
def test_layers_that_no_policy_adapts_are_not_dropped(
    targets: list[str], message: str, base: Path, tmp_path: Path
) -> None:
    adapted: Any = get_peft_model(build_network(TINY), LoraConfig(r=2, target_modules=targets))
    adapted.save_pretrained(tmp_path / "peft")
    with pytest.raises(WeightsError, match=message):
        imported(base, tmp_path / "peft", tmp_path)
    assert not (tmp_path / "imported").exists()
