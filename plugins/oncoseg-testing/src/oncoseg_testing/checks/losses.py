"""The rules of a training loss."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from oncoseg_core import SegmentationLoss
from oncoseg_testing.checks.rules import for_all, require, rule

Pair = tuple[torch.Tensor, torch.Tensor]

SURE = 8.0
"""A logit that says 99.97 %."""
ALIKE = 1e-5
"""Relative difference that the order of summing float32 may make."""


def check_loss(loss: SegmentationLoss) -> None:
    """Check a loss on generated logits and targets, also empty and full ones and logits of +-10000.

    Args:
        loss: built, with whatever settings and modality.

    Raises:
        AssertionError: a rule is broken.
    """
    shapes = st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9))
    shares = st.sampled_from((0.0, 0.1, 0.5, 1.0))
    scales = st.sampled_from((0.0, 1.0, 30.0, 1e4))
    for_all(st.tuples(shapes, shares, scales, st.integers(0, 2**31)), lambda drawn: _check(loss, *drawn), count=60)
    for_all(st.tuples(shapes, st.integers(0, 2**31)), lambda drawn: _check_slope(loss, *drawn), count=30)


def _check(loss: SegmentationLoss, shape: tuple[int, int, int], share: float, scale: float, seed: int) -> None:
    example = f"logits {shape} of scale {scale:g}, {share:.0%} of the target set, seed {seed}"
    logits, target = _draw(shape, share, scale, seed)
    kept = logits.clone(), target.clone()
    with rule("terms takes logits and target (batch, y, x) and does not write to them", example):
        terms = loss.terms(logits, target)
        require(torch.equal(logits, kept[0]) and torch.equal(target, kept[1]), "the input was modified")
    with rule("terms returns named scalar tensors", example):
        require(isinstance(terms, dict) and len(terms) > 0, repr(terms))
        for name, term in terms.items():
            right = isinstance(name, str) and isinstance(term, torch.Tensor) and term.shape == ()
            require(right, f"{name!r}: {getattr(term, 'shape', term)}")
    with rule("every term is finite", example):
        require(all(bool(term.isfinite()) for term in terms.values()), repr(terms))
    with rule("each term is the mean over the batch of one value per sample", example):
        singles = [loss.terms(logits[i : i + 1], target[i : i + 1]) for i in range(shape[0])]
        for name, term in terms.items():
            mean = float(torch.stack([single[name].double() for single in singles]).mean())
            alike = abs(float(term) - mean) <= ALIKE * max(1.0, abs(mean))
            require(alike, f"{name!r} is {float(term):.8g} for the batch, {mean:.8g} as the mean of its samples")
    with rule("the gradient is finite", example):
        gradient = _gradient(loss, logits, target)
        require(bool(gradient.isfinite().all()), f"{int((~gradient.isfinite()).sum())} values that are not")


def _check_slope(loss: SegmentationLoss, shape: tuple[int, int, int], seed: int) -> None:
    example = f"undecided logits {shape}, half of the target set, seed {seed}"
    logits, target = _draw(shape, 0.5, 1.0, seed)
    target[:, 0, 0], target[:, 0, 1] = 0.0, 1.0
    with rule("the gradient reaches the logits of every sample", example):
        reached = _gradient(loss, logits, target).flatten(1).abs().amax(dim=1) > 0
        require(bool(reached.all()), f"a gradient of zero for {int((~reached).sum())} of {shape[0]} samples")
    with rule("a perfect prediction costs less than its inverse", example):
        perfect = SURE * (2 * target - 1)
        right, wrong = float(_total(loss, perfect, target)), float(_total(loss, -perfect, target))
        require(right < wrong, f"{right:.6g} for the perfect one, {wrong:.6g} for its inverse")


def _draw(shape: tuple[int, int, int], share: float, scale: float, seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator) * scale
    return logits, (torch.rand(shape, generator=generator) < share).to(logits.dtype)


def _total(loss: SegmentationLoss, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.stack(list(loss.terms(logits, target).values())).sum()


def _gradient(loss: SegmentationLoss, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    total = _total(loss, leaf, target)
    return torch.autograd.grad(total, leaf)[0]
