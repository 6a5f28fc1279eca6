"""Which of several candidates' masks is the one that was clicked on.

The first click must be in the mask. Then these add up: the model's own score, how clearly the mask's rim differs in
brightness from what lies around it, how much it is like the other candidates' masks, and, against it, what the further
clicks say is wrong. The model's score alone likes whole organs and heads; the weights were chosen on the sample scans
(docs/clicks.md has the scores with and without).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_clicks.candidates import Clicks
from oncoseg_clicks.corrections import kept

CONTRAST, MOST_CONTRAST = 0.5, 2.0
"""The weight of the rim's contrast, and the contrast beyond which more is not better."""

AGREEMENT = 0.5
"""The weight of the mean Dice with all candidates' masks. 1.0 is as good on tumours (.814 and .813) and worse on
vertebrae (.428 and .520), of which it takes a part for the whole."""

RIM = 2
"""Width of the rim within, and of that without, in pixels of the logits."""

FIRST_CLICK = 10.0
"""The weight of the first positive click, more than all else."""

WRONG = 1.0
"""The weight of the share of a mask that further clicks say is wrong: little for one beside its rim."""

NOISE = 0.03
"""Added to the spread of brightness, of which 1 is the whole range of the input."""


def choose(
    logits: torch.Tensor, scores: torch.Tensor, grey: torch.Tensor, clicks: Clicks, plain: int | None = None
) -> int:
    """The number of the best candidate; of equals the first.

    Args:
        logits: ``(n, h, w)`` over the whole input.
        scores: the model's own, ``(n,)``.
        grey: the input's brightness ``(size, size)`` in [0, 1].
        clicks: in pixels of the input.
        plain: with how many of the candidates, from the first, all are compared; all when omitted. Candidates that
            corrective clicks bring then change nothing about the others.
    """
    masks = logits > 0
    first, wrong = kept(masks, clicks, len(grey))
    return int((quality(masks, scores.float(), grey, plain) + FIRST_CLICK * first - WRONG * wrong).argmax())


def quality(masks: torch.Tensor, scores: torch.Tensor, grey: torch.Tensor, plain: int | None = None) -> torch.Tensor:
    """What speaks for each of n masks ``(n, h, w)``, clicks aside: ``(n,)``."""
    brightness = F.interpolate(grey[None, None], size=masks.shape[1:], mode="area")[0, 0]
    solid = masks.float()
    contrast = rim_contrast(solid, brightness).clamp(max=MOST_CONTRAST)
    return scores + CONTRAST * contrast + AGREEMENT * agreement(solid, plain)


def rim_contrast(masks: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """How far the means within and without the rim of masks 0/1 ``(n, h, w)`` are apart, by the spread of both.

    0 where a mask is empty or fills the image.
    """
    solid = masks > 0
    within, without = (rim.float() for rim in (solid & _wider(~solid), _wider(solid) & ~solid))
    (n_in, mean_in, spread_in), (n_out, mean_out, spread_out) = (_statistics(rim, grey) for rim in (within, without))
    contrast = (mean_in - mean_out).abs() / (spread_in + spread_out + NOISE)
    return contrast * ((n_in > 0) & (n_out > 0))


def agreement(masks: torch.Tensor, plain: int | None = None) -> torch.Tensor:
    """The mean Dice of each of n masks 0/1 ``(n, h, w)`` with the first ``plain`` of them, or with all."""
    flat = masks.flatten(1)
    sizes = flat.sum(1)
    dice = 2 * flat @ flat[:plain].T / (sizes[:, None] + sizes[None, :plain]).clamp(min=1)
    return dice.mean(1)


def _wider(masks: torch.Tensor) -> torch.Tensor:
    """Bool masks, each wider by ``RIM`` pixels on all sides: shifted and joined, a fiftieth of a max-pooling's time."""
    for axis in (1, 2):
        wider, size = masks.clone(), masks.shape[axis]
        for step in range(1, RIM + 1):
            rest = max(size - step, 0)
            wider.narrow(axis, size - rest, rest).logical_or_(masks.narrow(axis, 0, rest))
            wider.narrow(axis, 0, rest).logical_or_(masks.narrow(axis, size - rest, rest))
        masks = wider
    return masks


def _statistics(rim: torch.Tensor, grey: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels, mean and standard deviation of the brightness under each rim."""
    number = rim.sum((1, 2))
    weights = rim / number.clamp(min=1)[:, None, None]
    mean = (weights * grey).sum((1, 2))
    return number, mean, (weights * (grey - mean[:, None, None]) ** 2).sum((1, 2)).sqrt()
