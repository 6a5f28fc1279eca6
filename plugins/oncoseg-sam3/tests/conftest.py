"""The tiny network, and one forward through the detector, for this plugin's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.patches import Image
from oncoseg_sam3.network.sizes import TINY
from oncoseg_sam3.network.upstream import FindStage, Prompt


@pytest.fixture
def tiny() -> Image:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(TINY)


@pytest.fixture
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, TINY.image_size, TINY.image_size, generator=generator) * 2 - 1


@pytest.fixture
def ground() -> Callable[..., dict[str, torch.Tensor]]:
    """The detector on each image with a text and one box of either label."""

    def run(network: Image, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        batch = len(pixels)
        features = network.backbone.forward_image(pixels)
        features |= network.backbone.forward_text(["liver tumour"] * batch, device=pixels.device)
        boxes = torch.tensor([[0.5, 0.5, 0.3, 0.2], [0.2, 0.3, 0.1, 0.1]], device=pixels.device)
        prompt = Prompt(
            box_embeddings=boxes[:, None].expand(2, batch, 4),
            box_mask=torch.zeros(batch, 2, dtype=torch.bool, device=pixels.device),
            box_labels=torch.tensor([[1], [0]], device=pixels.device).expand(2, batch),
        )
        each = torch.arange(batch, device=pixels.device)
        stage = FindStage(
            img_ids=each,
            text_ids=each,
            input_boxes=None,
            input_boxes_mask=None,
            input_boxes_label=None,
            input_points=None,
            input_points_mask=None,
        )
        return network.forward_grounding(features, stage, None, prompt)

    return run
