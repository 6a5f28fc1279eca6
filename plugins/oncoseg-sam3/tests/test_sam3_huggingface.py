"""Weights in transformers' layout: names and shapes of the full size, and the same answers at the test size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from oncoseg_core import Point, PromptError, WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_lora import import_adapter, load_adapter
from oncoseg_sam3.layouts import COMPUTED, Weights
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network import huggingface
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.sizes import SAM3, TINY
from oncoseg_sam3.weights import network_with_weights

ensure_torchvision_imports()
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import Sam3VideoConfig, Sam3VideoModel  # noqa: E402

SIZE = TINY._replace(width=128, memory_width=64)
"""transformers knows no other width of memories, which Meta projects only to another width than the rest has."""
DETECTOR = "detector_model."
TRACKER_NECK = "backbone.vision_backbone.sam2_convs."
ATTENTION = r".*vision_encoder.*\.(q_proj|k_proj|v_proj|o_proj)"


class Sam3Small(Sam3Tiny):
    """The test size, as far as transformers can build it."""

    size = SIZE


def tiny_config() -> Sam3VideoConfig:
    """What transformers calls the numbers of our test size."""
    wide = {"hidden_size": SIZE.width, "num_attention_heads": SIZE.heads, "intermediate_size": SIZE.feedforward}
    wide["layer_norm_eps"] = 1e-5  # Meta's
    grid = SIZE.grid
    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": TINY.trunk_width,
            "intermediate_size": int(TINY.trunk_width * TINY.trunk_mlp_ratio),
            "num_hidden_layers": TINY.trunk_depth,
            "num_attention_heads": TINY.trunk_heads,
            "image_size": TINY.image_size,
            "window_size": TINY.window,
            "global_attn_indexes": list(TINY.global_layers),
            "pretrain_image_size": TINY.pretrained_image_size,
        },
        "fpn_hidden_size": SIZE.width,
        "backbone_feature_sizes": [[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
    }
    return Sam3VideoConfig(
        detector_config={
            "model_type": "sam3",
            "vision_config": vision,
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": 49408,
                "hidden_size": TINY.text_width,
                "intermediate_size": 4 * TINY.text_width,
                "projection_dim": 512,
                "num_hidden_layers": TINY.text_depth,
                "num_attention_heads": TINY.text_heads,
                "max_position_embeddings": 32,
                "hidden_act": "gelu",
            },
            "geometry_encoder_config": wide | {"num_layers": TINY.geometry_layers},
            "detr_encoder_config": wide | {"num_layers": TINY.encoder_layers},
            "detr_decoder_config": wide | {"num_layers": TINY.decoder_layers, "num_queries": TINY.queries},
            "mask_decoder_config": {"hidden_size": SIZE.width, "num_attention_heads": SIZE.heads},
        },
        tracker_config={
            "model_type": "sam3_tracker_video",
            "vision_config": vision | {"model_type": "sam3_vision_model"},
            "image_size": TINY.image_size,
            "prompt_encoder_config": {"hidden_size": SIZE.width, "image_size": TINY.image_size},
            "mask_decoder_config": {"hidden_size": SIZE.width},
            "memory_attention_hidden_size": SIZE.width,
            "memory_attention_num_layers": TINY.tracker_layers,
            "memory_attention_feed_forward_hidden_size": SIZE.feedforward,
            "memory_attention_rope_feat_sizes": [grid, grid],
            "memory_encoder_hidden_size": SIZE.width,
            "memory_encoder_output_channels": SIZE.memory_width,
            "mask_downsampler_embed_dim": SIZE.width,
            "memory_fuser_embed_dim": SIZE.width,
            "memory_fuser_intermediate_dim": 4 * SIZE.width,
        },
        low_res_mask_size=TINY.mask_size,
    )


@pytest.fixture(scope="module")
def theirs() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Sam3VideoModel(tiny_config()).eval()
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                tensor.add_(torch.randn(tensor.shape) * 0.05)
                if name.endswith("pred_obj_score_head.proj_out.bias"):
                    tensor.fill_(5.0)  # an object is there: their model hides masks of none
        tracker = model.tracker_model
        tracker.prompt_encoder.shared_embedding.positional_embedding.copy_(
            tracker.shared_image_embedding.positional_embedding
        )
    return model


@pytest.fixture(scope="module")
def tensors(theirs: Any) -> dict[str, torch.Tensor]:
    """By the names of the hub's file."""
    return {name: tensor.clone().contiguous() for name, tensor in theirs.state_dict().items()}


@pytest.fixture(scope="module")
def path(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model.safetensors"
    safetensors.torch.save_file(tensors, path)
    return path


@pytest.mark.parametrize("alone", [False, True])
def test_at_full_size_every_tensor_has_its_place_and_shape(alone: bool) -> None:
    with torch.device("meta"):
        model: Any = Sam3VideoModel(Sam3VideoConfig())
    if alone:
        model = model.detector_model
    tensors, ours = model.state_dict(), build_network(SAM3, "meta").state_dict()
    if alone:
        ours = {name: t for name, t in ours.items() if not name.startswith((huggingface.PREDICTOR, TRACKER_NECK))}
    weights = Weights(tensors, Path("model.safetensors"))
    assert weights.layout.title == f"transformers' {type(model).__name__}"
    used: list[str] = []
    for name, tensor in ours.items():
        if COMPUTED.fullmatch(name) or huggingface.LEFT_OUT.fullmatch(name):
            continue
        found = weights.layout.source(name)
        assert found.value(tensors).shape == tensor.shape, name
        used += found.names if found.row in {None, 0} else []
    assert len(used) == len(set(used))
    assert {name for name in tensors.keys() - set(used) if not huggingface.REPEATED.search(name)} == set()
    left_out = {name for name in ours if huggingface.LEFT_OUT.fullmatch(name)}
    assert {name.split(".")[1] for name in left_out} == {
        "points_direct_project",
        "points_pool_project",
        "points_pos_enc_project",
    }


def test_the_detector_answers_as_theirs(
    theirs: Any, path: Path, pixels: torch.Tensor, ground: Callable[..., dict[str, torch.Tensor]]
) -> None:
    network, digest = network_with_weights(SIZE, str(path))
    tokens = network.backbone.language_backbone.tokenizer(["liver tumour"] * 2, context_length=32)
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.2], [0.2, 0.3, 0.1, 0.1]]).expand(2, 2, 4)
    with torch.inference_mode():
        ours = ground(network, pixels)
        expected = theirs.detector_model(
            pixel_values=pixels,
            input_ids=tokens,
            attention_mask=(tokens != 0).long(),
            input_boxes=boxes,
            input_boxes_labels=torch.tensor([[1, 0]]).expand(2, 2),
        )
    assert len(digest) == 64
    torch.testing.assert_close(ours["pred_masks"], expected.pred_masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours["pred_logits"][..., 0], expected.pred_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours["pred_boxes_xyxy"], expected.pred_boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours["presence_logit_dec"], expected.presence_logits, atol=1e-4, rtol=1e-4)


def test_a_click_gives_their_mask(theirs: Any, path: Path, pixels: torch.Tensor) -> None:
    model = Sam3Small(Sam3TinySettings(weights=str(path)))
    hint = Point(x=100.0, y=60.0, positive=True)
    with torch.inference_mode():
        ours = model.decode(model.encode_image(pixels[:1]), [(hint,)])
        trunk = theirs.detector_model.vision_encoder.backbone(pixels[:1]).last_hidden_state
        side = SIZE.grid
        levels, _ = theirs.tracker_neck(trunk.view(1, side, side, -1).permute(0, 3, 1, 2))
        tracker = theirs.tracker_model
        decoder = tracker.mask_decoder
        embeddings = [decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]), levels[2]]
        embeddings[2] = embeddings[2] + tracker.no_memory_embedding.reshape(1, -1, 1, 1)
        expected = tracker._single_frame_forward(
            image_embeddings=embeddings,
            input_points=torch.tensor([[[[100.0, 60.0]]]]) - 0.5,
            input_labels=torch.ones(1, 1, 1, dtype=torch.int),
            multimask_output=True,
        )
    best = expected.iou_scores[0, 0].argmax()
    torch.testing.assert_close(ours.logits[0], expected.pred_masks[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.scores[0], expected.iou_scores[0, 0, best], atol=1e-4, rtol=1e-4)


def test_a_model_that_their_library_saved_is_loaded(theirs: Any, path: Path, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)  # its tracker's names are other than those of the hub's file
    expected, _ = network_with_weights(SIZE, str(path))
    found, _ = network_with_weights(SIZE, str(tmp_path / "model.safetensors"))
    state = found.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.state_dict().items())


def test_what_it_leaves_out_changes_no_answer(
    path: Path, pixels: torch.Tensor, ground: Callable[..., dict[str, torch.Tensor]]
) -> None:
    network, _ = network_with_weights(SIZE, str(path))
    with torch.inference_mode():
        before = ground(network, pixels)
        for name, tensor in network.state_dict().items():
            if huggingface.LEFT_OUT.fullmatch(name):
                assert not tensor.any(), name
                tensor.normal_()
            elif name.endswith("trunk.pos_embed"):
                assert not tensor[:, 0].any()
                tensor[:, 0].normal_()
        after = ground(network, pixels)
    for name in ("pred_masks", "pred_logits", "pred_boxes", "presence_logit_dec"):
        assert torch.equal(before[name], after[name]), name


def test_a_detector_alone_refuses_clicks(
    tensors: dict[str, torch.Tensor], tmp_path: Path, pixels: torch.Tensor
) -> None:
    alone = {name.removeprefix(DETECTOR): t for name, t in tensors.items() if name.startswith(DETECTOR)}
    path = tmp_path / "fine-tuned.safetensors"
    safetensors.torch.save_file(alone, path)
    model = Sam3Small(Sam3TinySettings(weights=str(path)))
    with torch.inference_mode():
        assert set(model.encode_image(pixels)) == {"detector_4x", "detector_2x", "detector_1x"}
    with pytest.raises(PromptError, match=r"need the tracker, of which .*fine-tuned.safetensors has no weights"):
        _ = model.tracker


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("detector_model.detr_decoder.layers.0.self_attn.v_proj.bias"),
            r"read as transformers' Sam3VideoModel: lacks 1 \(such as detector_model.detr_decoder.layers.0.self_attn.v_",
        ),
        (lambda t: t.update({"tracker_model.x": torch.ones(1)}), r"has unknown 1 \(such as tracker_model.x\)"),
        (
            lambda t: t.update({"detector_model.detr_decoder.query_embed.weight": torch.ones(3, 64)}),
            r"detector_model.detr_decoder.query_embed.weight has shape \(3, 64\), this size of SAM3 expects \(10, 128\)",
        ),
        (
            lambda t: t.update({"detector_model.detr_decoder.layers.0.self_attn.k_proj.weight": torch.ones(128, 63)}),
            r"self_attn.q_proj.weight \(with 2 more\): the tensors do not fit one another",
        ),
        (
            lambda t: t.update({"tracker_model.prompt_encoder.point_embed.weight": torch.ones(3, 128)}),
            r"point_embed.weight has shape \(0, 128\), this size of SAM3 expects \(1, 128\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_own_names(
    change: Any, message: str, tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    changed = dict(tensors)
    change(changed)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(changed, path)
    with pytest.raises(WeightsError, match=message) as raised:
        network_with_weights(SIZE, str(path))
    assert "\n" not in str(raised.value)


def test_an_adapter_that_peft_trained_on_it_is_imported(
    theirs: Any, path: Path, pixels: torch.Tensor, ground: Callable[..., dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    detector = copy.deepcopy(theirs.detector_model)
    adapted: Any = get_peft_model(detector, LoraConfig(r=3, lora_alpha=5, target_modules=ATTENTION))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_" in name:
                parameter.add_(torch.randn(parameter.shape) * 0.05)
    adapted.save_pretrained(tmp_path / "peft")
    settings = Sam3TinySettings(weights=str(path))
    import_adapter(Sam3Small(settings), tmp_path / "peft", tmp_path / "ours", modalities=("ct",), versions={})
    model: Any = load_adapter(Sam3Small(settings), tmp_path / "ours")
    assert (model.lora_settings.rank, model.lora_settings.alpha) == (9, 15)
    network, _ = network_with_weights(SIZE, str(path))
    tokens = network.backbone.language_backbone.tokenizer(["liver tumour"] * 2, context_length=32)
    with torch.inference_mode():
        found, untouched = (ground(one, pixels) for one in (model.get_base_model().detector, network))
        expected = adapted(
            pixel_values=pixels,
            input_ids=tokens,
            attention_mask=(tokens != 0).long(),
            input_boxes=torch.tensor([[0.5, 0.5, 0.3, 0.2], [0.2, 0.3, 0.1, 0.1]]).expand(2, 2, 4),
            input_boxes_labels=torch.tensor([[1, 0]]).expand(2, 2),
        )
    torch.testing.assert_close(found["pred_masks"], expected.pred_masks, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["pred_logits"][..., 0], expected.pred_logits, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found["pred_masks"], untouched["pred_masks"], atol=1e-2), "the adapter does nothing"
