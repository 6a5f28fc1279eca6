"""Clicking on an object until its mask is right, or no click is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from oncoseg_core import BoolArray, Point, Prompt
from oncoseg_prompts.api import next_click

GOOD_DICE = 0.9
"""NoC@90: the number of clicks to a Dice of 0.9 on the slice."""


@dataclass(frozen=True, eq=False)
class Clicked:
    """What clicking led to: the last mask ``(y, x)``, all clicks, and how many it took to ``GOOD_DICE``.

    ``clicks_needed`` is one more than was allowed where that was never reached.
    """

    mask: BoolArray
    prompt: Prompt
    clicks_needed: int


def click(ask: Callable[[Prompt], BoolArray], reference: BoolArray, n: int) -> Clicked:
    """Click up to ``n`` times, and stop early only where no error is left to click on.

    Args:
        ask: answers all clicks so far with a mask ``(y, x)``.
        reference: bool ``(y, x)``, with at least one pixel.
        n: how many clicks are allowed.
    """
    mask: BoolArray = np.zeros(reference.shape, dtype=bool)
    clicks: list[Point] = []
    needed = n + 1
    while len(clicks) < n:
        point = next_click(mask, reference, clicks)
        if point is None:
            break
        clicks.append(point)
        mask = ask(tuple(clicks))
        if dice(mask, reference) >= GOOD_DICE:
            needed = min(needed, len(clicks))
    return Clicked(mask, tuple(clicks), needed)


def dice(mask: BoolArray, reference: BoolArray) -> float:
    """Dice of two masks of which one has a pixel."""
    return float(2 * np.count_nonzero(mask & reference) / (np.count_nonzero(mask) + np.count_nonzero(reference)))
