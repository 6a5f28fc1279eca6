"""SAM3 as a promptable model, at full size and at a test size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from oncoseg_core.errors import UsageError
from oncoseg_core.interfaces import Decoded, PromptableModel, Settings
from oncoseg_core.prompts import Prompt
from oncoseg_core.records import ModelSpec
from oncoseg_sam3 import plugin, sizes
from oncoseg_sam3.builder import build_network


class Sam3Settings(Settings):
    """``weights``: ``random:<seed>``."""

    weights: str = "random:0"


class Sam3(nn.Module, PromptableModel):
    """SAM3 (Meta, 2025)."""

    Settings = Sam3Settings
    spec: ModelSpec = plugin.SAM3
    size: ClassVar[sizes.Size] = sizes.SAM3

    def __init__(self, settings: Sam3Settings | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        self.weights_sha256 = self.settings.weights
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.settings.weights.removeprefix("random:")))
            # The name is the one that Meta's checkpoints have for it, so their keys are this model's keys.
            self.detector = build_network(self.size)
        self.eval()

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode ``(batch, 3, size, size)`` pixels in [-1, 1] to feature maps, batch first.

        ``detector_4x``, ``_2x``, ``_1x`` are what the detector sees, ``tracker_*`` what the interactive predictor
        sees; ``_1x`` has one cell per patch, ``_4x`` four per patch and side. The two finer ones of the tracker have
        passed through its ``conv_s0`` and ``conv_s1``, as in Meta's processor; ``no_mem_embed`` is not added yet.

        Raises:
            UsageError: the pixels have another shape.
        """
        side = self.size.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise UsageError(f"{self.spec.name} takes pixels (batch, 3, {side}, {side}), found {tuple(pixels.shape)}")
        features = self.detector.backbone.forward_image(pixels)
        scales = ("4x", "2x", "1x")
        embedding = {f"detector_{scale}": level for scale, level in zip(scales, features["backbone_fpn"], strict=True)}
        if self.detector.inst_interactive_predictor is not None:
            fine, middle, coarse = features["sam2_backbone_out"]["backbone_fpn"]
            mask_decoder = self.detector.inst_interactive_predictor.model.sam_mask_decoder
            levels = (mask_decoder.conv_s0(fine), mask_decoder.conv_s1(middle), coarse)
            embedding |= {f"tracker_{scale}": level for scale, level in zip(scales, levels, strict=True)}
        return embedding

    def decode(self, embedding: dict[str, torch.Tensor], prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt."""
        raise NotImplementedError


class Sam3Tiny(Sam3):
    """SAM3's code at a test size."""

    spec = plugin.SAM3_TINY
    size = sizes.TINY
