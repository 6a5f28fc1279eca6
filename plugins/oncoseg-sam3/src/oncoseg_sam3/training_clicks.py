"""What the interactive predictor and the tracker are taught by.

As Meta trains SAM 2 (Ravi et al., 2024, appendix D): of several masks the best one is taught, every mask its predicted
overlap with the object, and each slice whether the object is there. What the tracker remembers of the first slice is
the target itself, of later ones its own answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core import TrainingOutput
from oncoseg_sam3.interactive import masks_by_form
from oncoseg_sam3.prompting import Clicks
from oncoseg_sam3.tracking import TrackerMemory
from oncoseg_sam3.training import TeachingWeights

Embedding = Mapping[str, torch.Tensor]


def clicks_taught(
    tracker: Any, embedding: Embedding, clicks: Sequence[Clicks], targets: torch.Tensor, weights: TeachingWeights
) -> TrainingOutput:
    """Logits and terms for n prompts of the interactive predictor, on one image each.

    Args:
        tracker: Meta's, in training mode.
        embedding: of the n images.
        clicks: what it is shown.
        targets: 0/1 ``(n, size, size)``; empty where the object is not on the slice.
        weights: ``presence`` and ``score`` are those of the last two terms; the others are the detector's.
    """
    rows: dict[int, TrainingOutput] = {}
    for numbers, masks in masks_by_form(tracker, embedding, clicks):
        for row, number in enumerate(numbers):
            rows[number] = taught_masks(
                masks.logits[row], masks.ious[row], masks.presence[row], targets[number], weights
            )
    return together([rows[number] for number in range(len(clicks))])


def slices_taught(
    memory: TrackerMemory, slices: Sequence[Embedding], targets: torch.Tensor, weights: TeachingWeights
) -> TrainingOutput:
    """Logits and terms for the k slices that follow the first of ``slices``, which shows the object.

    Args:
        memory: of the tracker, in training mode.
        slices: the embeddings of 1 + k neighbouring slices.
        targets: 0/1 ``(1 + k, size, size)``.
        weights: as for :func:`clicks_taught`.
    """
    memory.start(slices[0], targets[:1] > 0.5)
    rows = []
    for embedding, target in zip(slices[1:], targets[1:], strict=True):
        followed = memory.follow(embedding)
        rows.append(
            taught_masks(followed.masks[0], followed.ious[0], followed.presence[0], target, weights, hides=True)
        )
    return together(rows)


def together(rows: Sequence[TrainingOutput]) -> TrainingOutput:
    """Several outputs as one, in their order."""
    return TrainingOutput(
        torch.cat([row.logits for row in rows]),
        torch.cat([row.by_mask for row in rows]),
        {name: torch.cat([row.terms[name] for row in rows]) for name in TeachingWeights.model_fields},
    )


def taught_masks(
    masks: torch.Tensor,
    ious: torch.Tensor,
    presence: torch.Tensor,
    target: torch.Tensor,
    weights: TeachingWeights,
    *,
    hides: bool = False,
) -> TrainingOutput:
    """What one object's m masks ``(m, h, w)`` are taught; the tracker hides them all where it sees no object."""
    share = F.interpolate(target[None, None].float(), masks.shape[-2:], mode="area")[0, 0]
    is_there = share.amax() > 0
    is_taught = is_there & ~(hides & (presence <= 0))
    best = _soft_dice(masks.detach(), share).argmax()
    overlaps = _iou(masks.detach() > 0, share >= share.amax().clamp(max=0.5))
    terms = dict.fromkeys(TeachingWeights.model_fields, 0 * presence)
    terms["presence"] = weights.presence * F.binary_cross_entropy_with_logits(presence, is_there.to(presence.dtype))
    terms["score"] = weights.score * is_taught * F.l1_loss(ious, overlaps)
    each = {name: term[None] for name, term in terms.items()}
    return TrainingOutput(masks[best][None], is_taught[None], each)


def _soft_dice(masks: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Of each mask ``(m, h, w)`` with the target ``(h, w)``."""
    probability = masks.sigmoid().flatten(1)
    both = (probability * share.flatten()).sum(dim=1)
    return (2 * both + 1) / (probability.sum(dim=1) + share.sum() + 1)


def _iou(masks: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of each bool mask ``(m, h, w)`` with the bool target ``(h, w)``; 0 where both are empty."""
    both, either = (masks & target).flatten(1).sum(dim=1), (masks | target).flatten(1).sum(dim=1)
    return both / either.clamp(min=1)
