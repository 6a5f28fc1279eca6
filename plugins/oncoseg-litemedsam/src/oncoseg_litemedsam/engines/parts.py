"""The parts of LiteMedSAM that an engine can run: what is exported of each, and how its answers are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from torch import nn

from oncoseg_core import Box
from oncoseg_litemedsam.engines.box_decoder import BoxDecoder
from oncoseg_litemedsam.engines.runtimes import Runtime

BOXES = ((Box(40, 40, 104, 104),), (Box(148, 60, 218, 100),), (Box(60, 150, 90, 215),), (Box(150, 150, 166, 170),))
"""Around the objects of the phantom, in pixels of the input."""


class Part(ABC):
    """One ONNX file. ``inputs`` and ``outputs`` are its tensors' names."""

    name: ClassVar[str]
    modules: ClassVar[Sequence[str]]
    """The model's attributes whose weights are in it."""
    inputs: ClassVar[Sequence[str]]
    outputs: ClassVar[Sequence[str]]
    batch: ClassVar[Sequence[str]] = ()
    """Of these, those whose first axis has any length."""

    @abstractmethod
    def graph(self, network: Any) -> nn.Module:
        """What is exported of a network without adapters."""

    @abstractmethod
    def examples(self) -> tuple[torch.Tensor, ...]:
        """Inputs that have the right shapes."""

    @abstractmethod
    def deviation(self, model: Any, runtime: Runtime) -> tuple[float, float]:
        """The lowest Dice of masks on the phantom against torch's, and the largest difference of the outputs, relative.

        Both are computed by the model as it is now, in float32.
        """


class Encoder(Part):
    """The image encoder: pixels ``(1, 3, 256, 256)`` to an embedding ``(1, 256, 64, 64)``."""

    name, modules = "encoder", ("image_encoder",)
    inputs, outputs = ("pixels",), ("embedding",)

    def graph(self, network: Any) -> nn.Module:
        """The encoder as it is."""
        return cast("nn.Module", network.image_encoder)

    def examples(self) -> tuple[torch.Tensor, ...]:
        """The phantom."""
        return (phantom(),)

    def deviation(self, model: Any, runtime: Runtime) -> tuple[float, float]:
        """Masks of the objects of the phantom, decoded by torch from both embeddings."""
        pixels = phantom()
        expected = model.image_encoder(pixels)
        (found,) = runtime(pixels)
        masks = [model.decode_with_torch(embedding, BOXES).logits > 0 for embedding in (expected, found)]
        return lowest_dice(*masks), relative(found, expected)


class Decoder(Part):
    """Prompt encoder and mask decoder: an embedding and boxes ``(n, 4)`` to logits ``(n, 256, 256)`` and scores."""

    name, modules = "decoder", ("prompt_encoder", "mask_decoder")
    inputs, outputs = ("embedding", "boxes"), ("logits", "scores")
    batch = ("boxes", "logits", "scores")

    def graph(self, network: Any) -> nn.Module:
        """All boxes of one image as a batch."""
        return BoxDecoder(network).eval()

    def examples(self) -> tuple[torch.Tensor, ...]:
        """Any embedding, and the boxes of the phantom."""
        return torch.zeros(1, 256, 64, 64), torch.tensor([box.as_tuple() for (box,) in BOXES], dtype=torch.float32)

    def deviation(self, model: Any, runtime: Runtime) -> tuple[float, float]:
        """Masks of the objects of the phantom, from torch's embedding."""
        embedding = model.image_encoder(phantom())
        expected = model.decode_with_torch(embedding, BOXES).logits
        found, _ = runtime(embedding, self.examples()[1])
        return lowest_dice(found > 0, expected > 0), relative(found, expected)


def phantom() -> torch.Tensor:
    """A synthetic input with four objects, brighter and darker than a noisy ground: ``(1, 3, 256, 256)`` in [0, 1]."""
    rows, columns = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    grey = 0.35 + 0.1 * torch.sin(columns / 40) * torch.cos(rows / 55)
    for (box,), brightness in zip(BOXES, (0.8, 0.1, 0.65, 0.9), strict=True):
        x, y = (columns - (box.x0 + box.x1) / 2), (rows - (box.y0 + box.y1) / 2)
        inside = (2 * x / (box.x1 - box.x0)) ** 2 + (2 * y / (box.y1 - box.y0)) ** 2 <= 1
        grey = torch.where(inside, torch.tensor(brightness), grey)
    noise = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    return (grey + 0.03 * noise).clamp(0, 1).expand(1, 3, -1, -1).contiguous()


def lowest_dice(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of n masks ``(n, h, w)``; 1 where both are empty."""
    both = (found & expected).flatten(1).sum(1).double()
    sizes = (found.flatten(1).sum(1) + expected.flatten(1).sum(1)).double()
    return float(torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).min())


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference by the largest value; infinite where a number is not finite."""
    difference = float((found - expected).abs().max() / expected.abs().max())
    return difference if bool(torch.isfinite(found).all()) else float("inf")
