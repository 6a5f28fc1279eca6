"""Losses that each break one rule; :class:`CrossEntropy` breaks none."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn

from oncoseg_core import SegmentationLoss
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.losses import check_loss

Terms: TypeAlias = dict[str, torch.Tensor]


def check(broken: type[SegmentationLoss]) -> None:
    """Check a class."""
    check_loss(broken(modality="ct"))


EXAMPLES = BrokenExamples("loss", check)


class CrossEntropy(SegmentationLoss):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return {"bce": nn.functional.binary_cross_entropy_with_logits(logits, target)}


@EXAMPLES.breaks("mean over the batch of one value per sample")
class Summed(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return {"bce": nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")}


@EXAMPLES.breaks("mean over the batch of one value per sample")
class PooledDice(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        both = logits.sigmoid() * target
        return {"dice": 1 - (2 * both.sum() + 1) / (logits.sigmoid().sum() + target.sum() + 1)}


@EXAMPLES.breaks("named scalar tensors")
class PerSample(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return {"bce": super().terms(logits, target)["bce"].expand(len(logits))}


@EXAMPLES.breaks("the gradient")
class Detached(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return super().terms(logits.detach(), target)


@EXAMPLES.breaks("the gradient reaches the logits of every sample")
class FirstOnly(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        weight = (torch.arange(len(logits)) == 0).float()
        each = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
        return {"bce": (weight * each + (1 - weight) * each.detach()).mean()}


@EXAMPLES.breaks("a perfect prediction costs less than its inverse")
class Backwards(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return super().terms(-logits, target)


@EXAMPLES.breaks("every term is finite")
class NaiveLogarithm(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        p = logits.sigmoid()
        return {"bce": -(target * p.log() + (1 - target) * (1 - p).log()).mean()}


@EXAMPLES.breaks("the gradient is finite")
class BadSlope(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return {"root": (logits.sigmoid() - target).abs().sqrt().mean((1, 2)).mean()}


@EXAMPLES.breaks("named scalar tensors")
class Bare(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return super().terms(logits, target)["bce"]  # type: ignore[return-value]


@EXAMPLES.breaks("named scalar tensors")
class NoTerms(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        return {}


@EXAMPLES.breaks("does not write to them")
class Clamping(CrossEntropy):
    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> Terms:
        with torch.no_grad():
            logits.clamp_(-5, 5)
        return super().terms(logits, target)
