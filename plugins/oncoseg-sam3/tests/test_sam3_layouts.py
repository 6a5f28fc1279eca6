"""Weights as training programs and other releases leave them: what is loaded, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oncoseg_core import WeightsError
from oncoseg_sam3.layouts import meta_key
from oncoseg_sam3.network.sizes import TINY
from oncoseg_sam3.weights import network_with_weights

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def plain(tiny: Any) -> Tensors:
    """As Meta's trainer keeps an image model."""
    return dict(tiny.state_dict())


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def saved(content: object, path: Path) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda plain: plain,
        lambda plain: prefixed(plain, "module."),
        lambda plain: {"state_dict": prefixed(plain, "model."), "epoch": 3, "callbacks": {}, "loops": None},
        lambda plain: {"state_dict": prefixed(plain, "model._orig_mod.module."), "global_step": 100},
        lambda plain: {"model": plain, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}, "epoch": 3},
        lambda plain: {"model_state_dict": {meta_key(name): tensor for name, tensor in plain.items()}},
        lambda plain: {"state_dict": {f"net.{meta_key(name)}": tensor for name, tensor in plain.items()}},
    ],
    ids=["image model", "DDP", "Lightning", "compiled", "Meta's trainer", "script", "prefix of Meta's release"],
)
def test_checkpoints_of_training_are_loaded(wrap: Any, plain: Tensors, tmp_path: Path) -> None:
    network, _ = network_with_weights(TINY, saved(wrap(plain), tmp_path / "last.pt"))
    state = network.state_dict()
    assert state.keys() == plain.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())


def test_a_fine_tuned_detector_needs_no_tracker(plain: Tensors, tmp_path: Path) -> None:
    alone = {
        name: tensor
        for name, tensor in plain.items()
        if not name.startswith(("inst_interactive_predictor.", "backbone.vision_backbone.sam2_convs."))
    }
    network, _ = network_with_weights(TINY, saved({"state_dict": prefixed(alone, "model.")}, tmp_path / "last.pt"))
    assert network.inst_interactive_predictor is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda plain: {"state_dict": plain, "hyper_parameters": SimpleNamespace(lr=1e-4)},
            r"holds an object of Python \(types.SimpleNamespace\).*save the tensors alone: torch.save\(checkpoint\['sta",
        ),
        (
            lambda plain: {"model": plain, "ema": plain},
            r"holds several sets of tensors \(model, ema\); save the one that is meant alone",
        ),
        (
            lambda plain: {"state_dict": prefixed(plain, "model.") | {"criterion.pos_weight": torch.ones(1)}},
            r"has 'criterion.pos_weight' beside \d+ tensors of Meta's image model, whose names begin with model.backbone.",
        ),
        (
            lambda plain: prefixed(dict(list(plain.items())[:-1]), "module."),
            r"read as Meta's image model below 'module.': lacks 1 \(such as inst_interactive_predictor.model",
        ),
        (
            lambda plain: {f"{name}.lora_A.default.weight": tensor for name, tensor in plain.items()},
            r"holds LoRA layers.*merge them first.*oncoseg adapters import",
        ),
        (
            lambda plain: {"image_encoder.patch_embed.weight": torch.ones(1)},
            r"has 'image_encoder.patch_embed.weight', the name of no tensor of SAM3; expected one of the layouts Meta's",
        ),
        (lambda plain: {}, r"holds no tensors"),
        (lambda plain: {"state_dict": {}}, r"holds no tensors"),
    ],
    ids=["object", "two sets", "loss", "incomplete", "LoRA", "other model", "empty", "empty state"],
)
def test_other_checkpoints_are_refused_in_one_line(content: Any, message: str, plain: Tensors, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"last.pt: .*{message}") as raised:
        network_with_weights(TINY, saved(content(plain), tmp_path / "last.pt"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "detector.backbone.vision_backbone.interactive_convs.0.conv_1x1.weight",
        "detector.backbone.vision_backbone.propagation_convs.2.conv_3x3.bias",
        "tracker.model.interactive_sam_mask_decoder.iou_token.weight",
        "tracker.model.interactivity_no_mem_embed",
    ],
)
def test_sam_31_is_refused_by_name(name: str, plain: Tensors, tmp_path: Path) -> None:
    released = {meta_key(one): tensor for one, tensor in plain.items() if ".sam2_convs." not in one}
    path = saved(released | {name: torch.ones(1)}, tmp_path / "sam3.1_multiplex.pt")
    with pytest.raises(WeightsError, match=r"is a checkpoint of SAM 3.1 .*Object Multiplex.*use sam3.pt"):
        network_with_weights(TINY, path)
