"""How the network runs: what is kept for the backward pass, the format of weights, the layout of memory, the kernels.

None of it changes what is computed but for rounding. What each is worth is counted in ``docs/which-gpu.md``.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from oncoseg_core import UsageError
from oncoseg_sam3.network.attention import KERNELS, ChosenAttention

WeightPrecision: TypeAlias = Literal["fp32", "bf16", "fp16"]
AttentionKernel: TypeAlias = Literal["auto", "flash", "cudnn", "efficient", "math"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def keep_activations(detector: Any) -> None:
    """Have training keep the activations of trunk, geometry encoder and pixel decoder."""
    detector.backbone.vision_backbone.trunk.use_act_checkpoint = False
    detector.geometry_encoder.use_act_ckpt = False
    detector.segmentation_head.act_ckpt = False


def choose_attention(detector: Any, kernel: AttentionKernel) -> None:
    """Set the kernel that the trunk's attention takes where it can."""
    if kernel == "auto":
        return
    for block in detector.backbone.vision_backbone.trunk.blocks:
        block.attn.__class__ = ChosenAttention  # not a new module, whose weights would have to be carried over
        block.attn.kernels = KERNELS[kernel]


def halve_weights(detector: Any, precision: WeightPrecision) -> None:
    """Keep the matrices of the vision trunk and the text encoder, 0.75 of 0.86 billion weights, in a half format.

    These are the weights that autocast rounds at each call, and to the same numbers: a run in that precision gives the
    same bits, in half the memory. Norms, biases and positions stay float32, and so does everything that a policy trains
    whole; a conversion of the whole model would lose the imaginary part of the trunk's rotations, and break the layers
    that leave autocast.
    """
    if precision == "fp32":
        return
    for part in (detector.backbone.vision_backbone.trunk, detector.backbone.language_backbone):
        for module in part.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight = _in(module.weight, precision)
            elif isinstance(module, nn.MultiheadAttention):
                module.in_proj_weight = _in(module.in_proj_weight, precision)


def _in(weight: torch.Tensor, precision: WeightPrecision) -> nn.Parameter:
    return nn.Parameter(weight.detach().to(_DTYPES[precision]), requires_grad=False)


def require_precision(name: str, precision: WeightPrecision, device: torch.device) -> None:
    """Refuse to run halved weights in another precision.

    Raises:
        UsageError: autocast is off, or in another format.
    """
    if precision == "fp32":
        return
    found = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    if found != _DTYPES[precision]:
        raise UsageError(
            f"{name} keeps its weights in {precision} (setting weight_precision) and runs in that `precision` only, "
            f"found {str(found).removeprefix('torch.')}; set both alike"
        )
