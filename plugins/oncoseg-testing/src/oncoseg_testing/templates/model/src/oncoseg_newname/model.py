"""A promptable model that trains in milliseconds, to be replaced by yours."""

from collections.abc import Sequence
from typing import Annotated

import torch
from oncoseg_core import (
    Box,
    Decoded,
    Point,
    Prompt,
    PromptableModel,
    PromptError,
    Settings,
)
from pydantic import Field
from torch import nn

from oncoseg_newname.plugin import SPEC

PATCH = 4
WIDTH = 16


class NewnameSettings(Settings):
    """``seed``: of the random weights."""

    seed: Annotated[int, Field(ge=0)] = 0


class NewnameModel(nn.Module, PromptableModel[NewnameSettings]):
    """Features at a quarter of the resolution, decoded together with a picture of the prompt."""

    Settings = NewnameSettings
    spec = SPEC

    def __init__(self, settings: NewnameSettings | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.patches = nn.Sequential(nn.Conv2d(3, WIDTH, PATCH, stride=PATCH), nn.GELU())
            self.mix = nn.Linear(WIDTH, WIDTH)
            self.decoder = nn.Sequential(
                nn.Conv2d(WIDTH + 1, WIDTH, 3, padding=1), nn.GELU(), nn.Conv2d(WIDTH, 1, 3, padding=1)
            )
        self.weights_sha256 = f"random:{self.settings.seed}"
        self.eval()

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode ``(batch, 3, 64, 64)`` pixels to ``(batch, 16, 16, 16)``."""
        features: torch.Tensor = self.mix(self.patches(pixels).movedim(1, -1)).movedim(-1, 1)
        return features

    def decode(self, embedding: torch.Tensor, prompts: Sequence[Prompt]) -> Decoded:
        """One mask per prompt: logits ``(n, 16, 16)``, and as its score the mean probability within the mask."""
        drawn = torch.stack([_drawn(prompt, embedding) for prompt in prompts])
        images = embedding.expand(len(prompts), -1, -1, -1)
        logits = self.decoder(torch.cat([images, drawn], dim=1))[:, 0]
        probability = logits.sigmoid()
        inside = (logits > 0).to(logits.dtype)
        scores = (probability * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        return Decoded(logits, scores)


def _drawn(prompt: Prompt, embedding: torch.Tensor) -> torch.Tensor:
    """A picture of the prompt on the embedding's cells ``(1, y, x)``: boxes are filled, points fade with distance."""
    side = embedding.shape[-1]
    centres = PATCH * (torch.arange(side, device=embedding.device, dtype=embedding.dtype) + 0.5)
    picture = embedding.new_zeros((side, side))
    for hint in prompt:
        if isinstance(hint, Box):
            columns = (centres >= hint.x0) & (centres < hint.x1)
            rows = (centres >= hint.y0) & (centres < hint.y1)
            picture = picture + (rows[:, None] & columns).to(embedding.dtype)
        elif isinstance(hint, Point):
            squared = (centres[:, None] - hint.y) ** 2 + (centres - hint.x) ** 2
            picture = picture + (1 if hint.positive else -1) * torch.exp(-squared / (2 * (2 * PATCH) ** 2))
        else:
            raise PromptError(f"newname takes boxes and points, found a prompt of kind {hint.kind!r}")
    return picture[None]
