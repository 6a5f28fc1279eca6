"""Overlap of boxes (x0, y0, x1, y1), in any unit."""

from __future__ import annotations

import torch


def iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of ``(n, 4)`` with ``(m, 4)``: ``(n, m)``, 0 where both are empty."""
    inside, union = _inside_and_union(one, other)
    return inside / union.clamp(min=1e-9)


def giou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Generalised IoU, in [-1, 1] (Rezatofighi et al., 2019, https://arxiv.org/abs/1902.09630): ``(n, m)``."""
    inside, union = _inside_and_union(one, other)
    around = (
        torch.maximum(one[:, None, 2:], other[None, :, 2:]) - torch.minimum(one[:, None, :2], other[None, :, :2])
    ).prod(dim=-1)
    return inside / union.clamp(min=1e-9) - (around - union) / around.clamp(min=1e-9)


def centred(boxes: torch.Tensor) -> torch.Tensor:
    """Centre and size of boxes ``(..., 4)``: x, y, width, height."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _inside_and_union(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    start = torch.maximum(one[:, None, :2], other[None, :, :2])
    end = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    inside = (end - start).clamp(min=0).prod(dim=-1)
    area, other_area = ((boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1) for boxes in (one, other))
    return inside, area[:, None] + other_area[None] - inside
