"""Clicks that a mask does not keep: how wrong each says the mask is, and the mask mended at each.

Who corrects a mask clicks in the middle of what is wrong with it. So a disc around the click that reaches the mask's
rim lies in that region, and its area says how large the error is.
"""

from __future__ import annotations

import math

import torch

from oncoseg_clicks.candidates import Clicks, Place

MENDED = 1.0
"""The logit of what a click added to a mask, and with a minus of what it took away."""

MOST_RADIUS = 0.5
"""The largest disc, by the radius of a disc as large as the mask: a click far from the mask is no word on what lies
between."""


def kept(masks: torch.Tensor, clicks: Clicks, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whether masks keep the first positive click, and the share of each that the others say is wrong.

    Args:
        masks: bool ``(n, h, w)`` over the whole input.
        clicks: in pixels of the input.
        size: the input's side.

    Returns:
        bool ``(n,)``, True where there is no positive click; and ``(n,)``, at most 1 for each click.
    """
    first = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
    wrong = torch.zeros(len(masks), device=masks.device)
    for number, (place, inside) in enumerate(_places(clicks)):
        row, column = _pixel(place, masks, size)
        right = masks[:, row, column] == inside
        if number == 0 and inside:
            first = right
        else:
            radius = _radius(masks, row, column, inside=inside)
            area = masks.sum((1, 2)).clamp(min=1)
            wrong += torch.where(right, 0.0, (math.pi * radius**2 / area).clamp(max=1.0))
    return first, wrong


def mended(logits: torch.Tensor, clicks: Clicks, size: int) -> torch.Tensor:
    """Logits ``(h, w)`` of a mask that keeps every click: discs are added and taken away where it does not.

    Of two that contradict each other the negative one wins: it comes last.
    """
    answer = logits.clone()
    for place, inside in _places(clicks):
        mask = answer[None] > 0
        row, column = _pixel(place, mask, size)
        if bool(mask[0, row, column]) is inside:
            continue
        most = MOST_RADIUS * torch.sqrt(mask.sum() / math.pi)
        radius = torch.minimum(_radius(mask, row, column, inside=inside)[0], most).clamp(min=1.0)
        answer[_far(mask, row, column) < radius] = MENDED if inside else -MENDED
    return answer


def _places(clicks: Clicks) -> list[tuple[Place, bool]]:
    return [*((place, True) for place in clicks.positive), *((place, False) for place in clicks.negative)]


def _pixel(place: Place, masks: torch.Tensor, size: int) -> tuple[int, int]:
    return int(place[1] * masks.shape[-2] / size), int(place[0] * masks.shape[-1] / size)


def _far(masks: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """Of each pixel ``(h, w)`` from one of them, in pixels."""
    rows, columns = (torch.arange(number, device=masks.device) for number in masks.shape[-2:])
    return torch.hypot((rows[:, None] - row).float(), (columns[None] - column).float())


def _radius(masks: torch.Tensor, row: int, column: int, *, inside: bool) -> torch.Tensor:
    """From a pixel to the nearest one that is as it should be, in each mask: ``(n,)``; endless where there is none."""
    far = _far(masks, row, column)
    return torch.where(masks == inside, far, torch.inf).amin((1, 2))
