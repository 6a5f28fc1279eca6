"""Clicks that correct the model's own answers, in training as a person makes them in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core import Point, Prompt, PromptableModel
from oncoseg_prompts.api import next_click


@torch.no_grad()
def with_corrections(
    model: PromptableModel,
    embedding: Any,
    prompts: Sequence[Prompt],
    target: torch.Tensor,
    corrections: Sequence[int],
) -> list[Prompt]:
    """The prompts, each with as many more clicks where the model is most wrong; fewer where nothing is wrong any more.

    Args:
        model: answers the prompts so far.
        embedding: of one image per prompt (tensors, batch first).
        prompts: n of them, in pixels of the model's input.
        target: 0/1 ``(n, size, size)``. An empty one is not corrected: nobody clicks on what is not there.
        corrections: how many clicks are added to each.
    """
    corrected = list(prompts)
    if not any(corrections):
        return corrected  # without waiting for a GPU to say what is there
    there = target.flatten(1).any(dim=1).tolist()
    rows = [row for row, many in enumerate(corrections) if many and there[row]]
    for done in range(max(corrections, default=0)):
        rows = [row for row in rows if corrections[row] > done]
        if not rows:
            break
        logits = model.decode(_rows(embedding, rows), [corrected[row] for row in rows]).logits.float()
        large = F.interpolate(logits[:, None], target.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
        masks, references = (large > 0).cpu().numpy(), (target[rows] > 0.5).cpu().numpy()
        for row, mask, reference in zip(rows, masks, references, strict=True):
            clicked = [hint for hint in corrected[row] if isinstance(hint, Point)]
            click = next_click(mask, reference, clicked)
            corrected[row] = corrected[row] if click is None else (*corrected[row], click)
    return corrected


def _rows(embedding: Any, rows: list[int]) -> Any:
    """Some of the images of an embedding."""
    if isinstance(embedding, torch.Tensor):
        return embedding[rows]
    if isinstance(embedding, Mapping):
        return {name: _rows(value, rows) for name, value in embedding.items()}
    parts = [_rows(value, rows) for value in embedding]
    return type(embedding)._make(parts) if hasattr(embedding, "_make") else type(embedding)(parts)
