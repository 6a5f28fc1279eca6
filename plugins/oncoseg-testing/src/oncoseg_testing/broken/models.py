"""Models that each break one rule; :class:`Tiny` breaks none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from oncoseg_core import (
    Box,
    Decoded,
    Instances,
    Licence,
    LoraSpec,
    ModelSpec,
    Point,
    Prompt,
    PromptableModel,
    PromptError,
)
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.models import check_model


def check(broken: type[PromptableModel]) -> None:
    """Check a class."""
    check_model(broken())


EXAMPLES = BrokenExamples("model", check)


class Tiny(nn.Module, PromptableModel):
    spec = ModelSpec(
        name="tiny",
        factory="a:b",
        summary="s",
        prompt_kinds=("box", "point"),
        input_size=32,
        weights="random",
        licence=Licence(code="Apache-2.0", weights="none"),
        lora=LoraSpec(targets=("qkv",), policies={"lora": (), "lora+head": ("head",)}),
    )
    weights_sha256 = "random:0"

    def __init__(self, settings: BaseModel | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patch = nn.Conv2d(3, 8, 4, 4)
            self.norm = nn.BatchNorm2d(8)
            self.drop = nn.Dropout(0.5)
            self.qkv = nn.Linear(8, 8)
            self.head = nn.Conv2d(10, 1, 3, padding=1)

    def encode_image(self, pixels: torch.Tensor) -> Any:
        patches = self.drop(self.norm(self.patch(pixels))).permute(0, 2, 3, 1)
        return {"features": [torch.tanh(self.qkv(patches)).permute(0, 3, 1, 2)]}

    def where(self, prompt: Prompt) -> torch.Tensor:
        (hint,) = prompt
        if isinstance(hint, Box):
            x, y = (hint.x0 + hint.x1) / 2, (hint.y0 + hint.y1) / 2
        elif isinstance(hint, Point):
            x, y = hint.x, hint.y
        else:
            raise PromptError(f"tiny takes a box or a point, not {hint.kind}")
        grid = torch.arange(8) * 4 + 2.0
        return torch.stack([(grid - x).expand(8, 8), (grid - y)[:, None].expand(8, 8)]) / 32

    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        (features,) = embedding["features"]
        seen = torch.cat([features.expand(len(prompts), -1, -1, -1), torch.stack([self.where(p) for p in prompts])], 1)
        logits = self.head(seen)[:, 0]
        return Decoded(logits, logits.amax((1, 2)).sigmoid())


@EXAMPLES.breaks("a model states the licence")
class Unlicensed(Tiny):
    spec = Tiny.spec.model_copy(update={"licence": None})


@EXAMPLES.breaks("in eval mode gives the very same result")
class Noisy(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        embedding = super().encode_image(pixels)
        return {"features": [f + 0.0005 * torch.rand_like(f) for f in embedding["features"]]}


@EXAMPLES.breaks("a batch of images gives what each image gives alone")
class AcrossTheBatch(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        return super().encode_image(pixels - pixels.mean(0))


@EXAMPLES.breaks("a batch of images gives what each image gives alone")
class FirstPromptForAll(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        return super().decode(embedding, [prompts[0]] * len(prompts))


@EXAMPLES.breaks("two prompts on one image give what each gives alone")
class AcrossThePrompts(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        shared = len(embedding["features"][0]) < len(prompts)
        return Decoded(decoded.logits - decoded.logits.mean(0) if shared else decoded.logits, decoded.scores)


@EXAMPLES.breaks("the prompt matters")
class Blind(Tiny):
    def where(self, prompt: Prompt) -> torch.Tensor:
        return super().where(prompt) * 0


@EXAMPLES.breaks("the prompt matters")
class BlindAndDenying(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        logits = super().decode(embedding, prompts).logits * 0 - 1
        never = logits[:, 0, 0].sigmoid()
        return Decoded(logits, never, presence=never)


@EXAMPLES.breaks("presence is a probability")
class PresenceAsLogit(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return decoded._replace(presence=decoded.scores - 2)


@EXAMPLES.breaks("instances are one entry per prompt")
class WorstInstanceFirst(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        two = tuple(Instances(one.expand(2, -1, -1), torch.tensor([0.1, 0.9])) for one in decoded.logits)
        return decoded._replace(instances=two)


@EXAMPLES.breaks("no logit is positive where the model found nothing")
class MaskOfNothing(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        logits = decoded.logits.abs() + 1
        nothing = Instances(logits[:0], decoded.scores[:0])
        return decoded._replace(logits=logits, instances=(nothing,) * len(prompts))


@EXAMPLES.breaks("refused with PromptError")
class TakesAll(Tiny):
    def where(self, prompt: Prompt) -> torch.Tensor:
        return super().where(prompt if prompt[0].kind in self.spec.prompt_kinds else (Point(1, 1),))


@EXAMPLES.breaks("refused with PromptError")
class KeyErrorForOthers(Tiny):
    def where(self, prompt: Prompt) -> torch.Tensor:
        if prompt[0].kind not in self.spec.prompt_kinds:
            raise KeyError(prompt[0].kind)
        return super().where(prompt)


@EXAMPLES.breaks("finite logits (n, h, h)")
class ExtraAxis(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits[:, None], decoded.scores)


@EXAMPLES.breaks("finite scores (n,)")
class ScorePerPixel(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits, decoded.logits)


@EXAMPLES.breaks("finite scores (n,)")
class NotFinite(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits, decoded.scores / 0)


@EXAMPLES.breaks("batch first")
class BatchLast(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        return {"features": [f.permute(1, 2, 3, 0) for f in super().encode_image(pixels)["features"]]}


@EXAMPLES.breaks("consists of tensors")
class NoTensors(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        return "embedding"


@EXAMPLES.breaks("the gradient reaches every LoRA target")
class CutOff(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        with torch.no_grad():
            return super().encode_image(pixels)


@EXAMPLES.breaks("nor to parameters and buffers")
class MovingStatistics(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        self.norm.train()
        self.norm(self.patch(pixels))
        self.norm.eval()
        return super().encode_image(pixels)


@EXAMPLES.breaks("writes neither to the pixels")
class InPlacePixels(Tiny):
    def encode_image(self, pixels: torch.Tensor) -> Any:
        return super().encode_image(pixels.mul_(0.5))


@EXAMPLES.breaks("every LoRA target is the last part")
class NoSuchTarget(Tiny):
    spec = Tiny.spec.model_copy(update={"lora": LoraSpec(targets=("qkv", "fc1"))})


@EXAMPLES.breaks("every module that a LoRA policy trains whole exists")
class NoSuchModule(Tiny):
    spec = Tiny.spec.model_copy(update={"lora": LoraSpec(targets=("qkv",), policies={"lora+decoder": ("decoder",)})})


@EXAMPLES.breaks("nor to parameters and buffers")
class WritesWhenDecoding(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        with torch.no_grad():
            self.norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return super().decode(embedding, prompts)


@EXAMPLES.breaks("two prompts on one image give what each gives alone")
class OneMaskPerImage(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        return super().decode(embedding, prompts[: len(embedding["features"][0])])


@EXAMPLES.breaks("its record as spec")
class NoSpec(Tiny):
    spec = None  # type: ignore[assignment]


@EXAMPLES.breaks("weights_sha256")
class NoDigest(Tiny):
    weights_sha256 = None  # type: ignore[assignment]


@EXAMPLES.breaks("a torch.nn.Module")
class NoModule(PromptableModel):
    spec = Tiny.spec
    weights_sha256 = "random:0"

    def encode_image(self, pixels: torch.Tensor) -> Any:
        return pixels

    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        return Decoded(embedding, embedding)


@EXAMPLES.breaks("logits are those before the sigmoid")
class Probabilities(Tiny):
    def decode(self, embedding: Any, prompts: Sequence[Prompt]) -> Decoded:
        decoded = super().decode(embedding, prompts)
        return Decoded(decoded.logits.sigmoid(), decoded.scores)
