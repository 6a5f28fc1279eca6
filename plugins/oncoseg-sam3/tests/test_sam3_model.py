"""SAM3 as a model of this project: its records, settings and embeddings."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from oncoseg_core import ModelSpec, UsageError, load_plugins
from oncoseg_sam3 import plugin
from oncoseg_sam3.model import Sam3, Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network import sizes

pytestmark = pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")


def test_both_sizes_are_found_by_name() -> None:
    model: Any = load_plugins().build(ModelSpec, "sam3-tiny")
    assert type(model) is Sam3Tiny
    assert (model.spec, model.weights_sha256, model.training) == (plugin.SAM3_TINY, "random:0", False)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("record", "model", "size"), [(plugin.SAM3, Sam3, sizes.SAM3), (plugin.SAM3_TINY, Sam3Tiny, sizes.TINY)]
)
def test_records_models_and_sizes_agree(record: ModelSpec, model: type[Sam3], size: sizes.Size) -> None:
    assert record.input_size == size.image_size == model.size.image_size
    assert model.spec is record
    assert record.factory == f"{model.__module__}:{model.__name__}"
    assert record.input_range == (-1.0, 1.0)
    assert size.mask_size == size.image_size // size.patch_size * 4
    assert size.global_layers[-1] == size.trunk_depth - 1
    assert size.width % size.memory_width == 0


def test_the_record_is_read_without_torch() -> None:
    script = "import sys, oncoseg_sam3.plugin; assert not {'torch', 'sam3'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_image_becomes_six_feature_maps(pixels: torch.Tensor) -> None:
    model = Sam3Tiny()
    with torch.inference_mode():
        embedding = model.encode_image(pixels)
        single = model.encode_image(pixels[1:])
    grid, width = sizes.TINY.grid, sizes.TINY.width
    assert {name: tuple(level.shape) for name, level in embedding.items()} == {
        "detector_4x": (2, width, 4 * grid, 4 * grid),
        "detector_2x": (2, width, 2 * grid, 2 * grid),
        "detector_1x": (2, width, grid, grid),
        "tracker_4x": (2, width // 8, 4 * grid, 4 * grid),
        "tracker_2x": (2, width // 4, 2 * grid, 2 * grid),
        "tracker_1x": (2, width, grid, grid),
    }
    for name, level in embedding.items():
        torch.testing.assert_close(level[1:], single[name], atol=1e-5, rtol=1e-5)


def test_the_trackers_features_are_those_of_metas_processor(pixels: torch.Tensor) -> None:
    from sam3.model.sam3_image_processor import Sam3Processor

    model = Sam3Tiny()
    processor = Sam3Processor(model.detector, resolution=sizes.TINY.image_size, device="cpu")
    processor.transform = torch.nn.Identity()  # the pixels are normalised already
    theirs = processor.set_image(pixels[0])["backbone_out"]
    with torch.inference_mode():
        ours = model.encode_image(pixels[:1])
    for name, levels in {"detector": theirs, "tracker": theirs["sam2_backbone_out"]}.items():
        for scale, level in zip(("4x", "2x", "1x"), levels["backbone_fpn"], strict=True):
            assert torch.equal(ours[f"{name}_{scale}"], level)


@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 1, 224, 224), (1, 3, 224, 208), (1, 3, 1008, 1008)])
def test_other_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"sam3-tiny takes pixels \(batch, 3, 224, 224\), found"):
        Sam3Tiny().encode_image(torch.zeros(shape))


def test_a_model_that_has_run_can_be_moved(pixels: torch.Tensor) -> None:
    # The meta device stands for a second device: a tensor that stayed behind is an error there too.
    model = Sam3Tiny()
    with torch.inference_mode():
        model.encode_image(pixels)
        model.to("meta")
        embedding = model.encode_image(pixels.to("meta"))
    assert {level.device.type for level in embedding.values()} == {"meta"}
    assert model.detector.device.type == model.detector.segmentation_head.device.type == model.tracker.device.type
    assert model.tracker.device.type == "meta"


def test_what_is_encoded_for_inference_can_be_followed_by_training(pixels: torch.Tensor, ground: Any) -> None:
    # Meta's classes keep what they computed first; kept under inference_mode, it must not be met in training.
    model = Sam3Tiny()
    with torch.inference_mode():
        ground(model.detector, pixels)
    model.detector.train().requires_grad_(True)
    ground(model.detector, pixels)["pred_masks"].mean().backward()


def test_the_settings_reach_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(options))
    kept = Sam3Tiny(Sam3TinySettings(activation_checkpointing=False, compile=True)).detector
    plain = Sam3Tiny().detector
    assert compiled == [{"dynamic": False}]

    def switches(network: Any) -> list[bool]:
        return [
            network.backbone.vision_backbone.trunk.use_act_checkpoint,
            network.geometry_encoder.use_act_ckpt,
            network.segmentation_head.act_ckpt,
        ]

    assert (switches(kept), switches(plain)) == ([False] * 3, [True] * 3)
