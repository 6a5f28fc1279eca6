"""SAM3 as a promptable model, at full size and at a test size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import field_validator
from torch import nn

from oncoseg_core.errors import PromptError, UsageError
from oncoseg_core.interfaces import Decoded, PromptableModel, Settings
from oncoseg_core.prompts import Prompt
from oncoseg_core.records import ModelSpec
from oncoseg_sam3 import plugin, sizes
from oncoseg_sam3.weights import RANDOM, network_with_weights

SCALES = ("4x", "2x", "1x")
"""Of the feature maps: cells per patch and side, finest first."""


class Sam3Settings(Settings):
    """How SAM3 is built.

    ``weights``: ``hub`` (Meta's, from the Hugging Face hub), ``random:<seed>``, or the path of a local ``.pt`` or
    ``.safetensors`` in Meta's layout. ``activation_checkpointing``: in training, compute the activations of the vision
    trunk, the geometry encoder and the pixel decoder again instead of keeping them; those of the transformer's layers
    are always computed again, Meta's code insists on it. ``compile``: have ``torch.compile`` make the vision trunk
    faster; the first image then takes minutes.
    """

    weights: str = "hub"
    activation_checkpointing: bool = True
    compile: bool = False

    @field_validator("weights")
    @classmethod
    def _random_has_a_seed(cls, value: str) -> str:
        if value.startswith("random") and not RANDOM.fullmatch(value):
            raise ValueError(f"random weights are written random:<seed>, such as random:0, found {value!r}")
        return value


class Sam3(nn.Module, PromptableModel):
    """SAM3 (Carion et al., 2025, https://arxiv.org/abs/2511.16719), from Meta's package.

    Raises:
        WeightsError: the weights cannot be had, or are not those of this size.
    """

    Settings = Sam3Settings
    spec: ModelSpec = plugin.SAM3
    size: ClassVar[sizes.Size] = sizes.SAM3

    def __init__(self, settings: Sam3Settings | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        # Called as in Meta's checkpoints, so that their names are this model's names.
        self.detector, self.weights_sha256 = network_with_weights(self.size, self.settings.weights)
        if not self.settings.activation_checkpointing:
            self._keep_activations()
        if self.settings.compile:
            self.detector.backbone.vision_backbone.trunk.compile(dynamic=False)
        # Nothing is trained until a policy says what. Besides, torch takes another, equally right path through layers
        # of attention whose weights are trained: an untrained adapter would differ from the model in the last digit.
        self.requires_grad_(requires_grad=False)
        self.eval()

    @property
    def tracker(self) -> Any:
        """SAM3's tracker, which is also its interactive predictor.

        Raises:
            PromptError: the weights have none.
        """
        if self.detector.inst_interactive_predictor is None:
            raise PromptError(
                f"{self.spec.name}: point and mask prompts, and boxes around one object, need the tracker, of which "
                f"{self.settings.weights} has no weights (tracker.*); give a text, or use Meta's whole sam3.pt"
            )
        return self.detector.inst_interactive_predictor.model

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode ``(batch, 3, size, size)`` pixels in [-1, 1] to feature maps, batch first.

        ``detector_4x``, ``_2x`` and ``_1x`` are what the detector sees, ``tracker_*`` what the tracker sees, which are
        missing where it is; ``1x`` has one cell per patch, ``4x`` four per patch and side. The two finer ones of the
        tracker have passed through its ``conv_s0`` and ``conv_s1``, as in Meta's processor; its ``no_mem_embed``, which
        stands for the memory of other frames, is not added.

        Raises:
            UsageError: the pixels have another shape.
        """
        side = self.size.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise UsageError(f"{self.spec.name} takes pixels (batch, 3, {side}, {side}), found {tuple(pixels.shape)}")
        features = self.detector.backbone.forward_image(pixels)
        embedding = _by_scale("detector", features["backbone_fpn"])
        if self.detector.inst_interactive_predictor is not None:
            fine, middle, coarse = features["sam2_backbone_out"]["backbone_fpn"]
            mask_decoder = self.tracker.sam_mask_decoder
            embedding |= _by_scale("tracker", [mask_decoder.conv_s0(fine), mask_decoder.conv_s1(middle), coarse])
        return embedding

    def decode(self, embedding: dict[str, torch.Tensor], prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt."""
        raise NotImplementedError

    def _keep_activations(self) -> None:
        self.detector.backbone.vision_backbone.trunk.use_act_checkpoint = False
        self.detector.geometry_encoder.use_act_ckpt = False
        self.detector.segmentation_head.act_ckpt = False


def _by_scale(name: str, levels: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{name}_{scale}": level for scale, level in zip(SCALES, levels, strict=True)}


class Sam3TinySettings(Sam3Settings):
    """As for SAM3, with random weights unless a file is given."""

    weights: str = "random:0"


class Sam3Tiny(Sam3):
    """SAM3's code at a test size."""

    Settings = Sam3TinySettings
    spec = plugin.SAM3_TINY
    size = sizes.TINY
