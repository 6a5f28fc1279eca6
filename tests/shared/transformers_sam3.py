"""Hugging Face's SAM3 at a test size, and a file of its weights, which are random.

Call :func:`oncoseg_core.inference.ensure_torchvision_imports` before: ``transformers`` imports torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch._dynamo

from oncoseg_sam3.network.sizes import TINY

torch._dynamo.config.disable = True

SIZE = TINY._replace(image_size=256, patch_size=16, pretrained_image_size=128, width=128, memory_width=64)
"""``transformers`` knows one width of the tracker's memories, 64, which are a part of the other features here, too."""
SAM_FEEDFORWARD, SAM_IOU_WIDTH = 2048, 256
"""Of Meta's mask decoder in every size."""


def write_video_model(folder: Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` of a ``Sam3VideoModel``, as the hub's repository has them."""
    from transformers.models.sam3_video import Sam3VideoConfig, Sam3VideoModel

    config: Any = Sam3VideoConfig(
        detector_config=detector_config(), tracker_config=tracker_config(), low_res_mask_size=SIZE.mask_size
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Sam3VideoModel(config)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "norm" in name and name.endswith("weight"):
                    tensor.normal_(1.0, 0.1)
                elif "positional_embedding" not in name:
                    # So large that every input matters to every output, also half a pixel.
                    tensor.normal_(0.0, 0.1 if tensor.ndim < 2 else tensor[0].numel() ** -0.5)
        tied = model.tracker_model.prompt_encoder.shared_embedding.positional_embedding
        model.tracker_model.shared_image_embedding.positional_embedding.data.copy_(tied)
        # Random weights see nothing anywhere.
        model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.data.add_(3.0)
    config.save_pretrained(folder)
    # With the names of the hub's file; its own save_pretrained doubles the tracker's prefix (transformers 5.24).
    tensors = {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def vision_config() -> dict[str, Any]:
    """Of the trunk and its neck."""
    return {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": SIZE.width,
        "backbone_feature_sizes": [[scale * SIZE.grid] * 2 for scale in (4, 2, 1)],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": SIZE.trunk_width,
            "intermediate_size": int(SIZE.trunk_width * SIZE.trunk_mlp_ratio),
            "num_hidden_layers": SIZE.trunk_depth,
            "num_attention_heads": SIZE.trunk_heads,
            "image_size": SIZE.image_size,
            "patch_size": SIZE.patch_size,
            "window_size": SIZE.window,
            "global_attn_indexes": list(SIZE.global_layers),
            "pretrain_image_size": SIZE.pretrained_image_size,
        },
    }


def detector_config() -> dict[str, Any]:
    """Of text encoder and detector."""
    part = {
        "hidden_size": SIZE.width,
        "num_attention_heads": SIZE.heads,
        "intermediate_size": SIZE.feedforward,
        "layer_norm_eps": 1e-5,
    }
    return {
        "model_type": "sam3",
        "vision_config": vision_config(),
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 49408,
            "hidden_size": SIZE.text_width,
            "intermediate_size": 4 * SIZE.text_width,
            "projection_dim": 512,
            "num_hidden_layers": SIZE.text_depth,
            "num_attention_heads": SIZE.text_heads,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
        },
        "geometry_encoder_config": part | {"num_layers": SIZE.geometry_layers},
        "detr_encoder_config": part | {"num_layers": SIZE.encoder_layers},
        "detr_decoder_config": part | {"num_layers": SIZE.decoder_layers, "num_queries": SIZE.queries},
        "mask_decoder_config": {"hidden_size": SIZE.width, "num_attention_heads": SIZE.heads},
    }


def tracker_config() -> dict[str, Any]:
    """Of the interactive predictor and the tracker."""
    return {
        "model_type": "sam3_tracker_video",
        "vision_config": vision_config(),
        "image_size": SIZE.image_size,
        "prompt_encoder_config": {
            "hidden_size": SIZE.width,
            "image_size": SIZE.image_size,
            "patch_size": SIZE.patch_size,
        },
        "mask_decoder_config": {
            "hidden_size": SIZE.width,
            "mlp_dim": SAM_FEEDFORWARD,
            "iou_head_hidden_dim": SAM_IOU_WIDTH,
        },
        "memory_attention_hidden_size": SIZE.width,
        "memory_attention_num_layers": SIZE.tracker_layers,
        "memory_attention_feed_forward_hidden_size": SIZE.feedforward,
        "memory_encoder_hidden_size": SIZE.width,
        "memory_encoder_output_channels": SIZE.memory_width,
        "mask_downsampler_embed_dim": SIZE.width,
        "memory_fuser_embed_dim": SIZE.width,
        "memory_fuser_intermediate_dim": 4 * SIZE.width,
    }
