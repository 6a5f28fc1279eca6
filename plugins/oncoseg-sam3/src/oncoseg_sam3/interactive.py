"""One object from clicks, a box or a rough mask: SAM's prompt encoder and mask decoder on the tracker's features.

Meta's predictor keeps one image as its state and answers in numpy. Here many prompts go through in one call, and
gradients pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core import Decoded, Instances
from oncoseg_sam3.prompting import Clicks

CORNERS = (2, 3)
"""SAM's labels of a box's first and last corner; 1 and 0 are points inside and outside."""
MASK_LOGIT = 10.0
"""What a given mask counts inside; its negative outside (as in ``sam3_tracker_base.py``, ``_use_mask_as_output``)."""


class ObjectMasks(NamedTuple):
    """The m masks that SAM offers for each of n objects.

    ``logits`` ``(n, m, h, w)``, ``ious`` ``(n, m)`` are the predicted overlaps with the object, ``presence`` ``(n,)``
    the logits of its being there at all; all float32.
    """

    logits: torch.Tensor
    ious: torch.Tensor
    presence: torch.Tensor


def segment_objects(tracker: Any, embedding: Mapping[str, torch.Tensor], clicks: Sequence[Clicks]) -> list[Decoded]:
    """Segment n objects on one image that all share, or on one image each.

    A single click is ambiguous: of three masks the one with the highest predicted IoU is taken. Several hints together,
    or a box or a mask, give one mask. Both as Meta advises (``sam1_task_predictor.py``).

    Returns:
        Each a :class:`Decoded` of a single prompt; its score is the predicted IoU.
    """
    answers: dict[int, Decoded] = {}
    for numbers, masks in masks_by_form(tracker, embedding, clicks):
        for row, number in enumerate(numbers):
            best = masks.ious[row].argmax()[None]
            instance = Instances(masks.logits[row, best], masks.ious[row, best])
            nan = torch.full_like(instance.scores, torch.nan)
            answers[number] = Decoded(*instance, presence=nan, instances=(instance,))
    return [answers[number] for number in range(len(clicks))]


def masks_by_form(
    tracker: Any, embedding: Mapping[str, torch.Tensor], clicks: Sequence[Clicks]
) -> Iterator[tuple[list[int], ObjectMasks]]:
    """The masks for n prompts on one image that all share, or on one image each, those of one form together.

    Yields the numbers of the prompts with their masks. Padding a prompt with points that are none would change its
    answer, so prompts of different forms cannot go together.
    """
    forms: defaultdict[tuple[int, bool, bool], list[int]] = defaultdict(list)
    for number, one in enumerate(clicks):
        forms[len(one.points), one.box is not None, one.mask is not None].append(number)
    shared = len(embedding["tracker_1x"]) == 1
    for numbers in forms.values():
        rows = [0] * len(numbers) if shared else numbers
        yield numbers, _alike(tracker, embedding, [clicks[number] for number in numbers], rows)


def _alike(
    tracker: Any, embedding: Mapping[str, torch.Tensor], clicks: Sequence[Clicks], rows: list[int]
) -> ObjectMasks:
    """The masks for prompts of one form."""
    device = embedding["tracker_1x"].device
    first = clicks[0]
    coordinates, labels = zip(*(_points(one) for one in clicks), strict=True)
    points = None
    if coordinates[0]:
        # SAM counts from pixel centres, and adds half a pixel to what it is given.
        points = (torch.tensor(coordinates, device=device) - 0.5, torch.tensor(labels, dtype=torch.int, device=device))
    masks = None if first.mask is None else _mask_logits(clicks, tracker.sam_prompt_encoder.mask_input_size, device)
    sparse, dense = tracker.sam_prompt_encoder(points=points, boxes=None, masks=masks)
    one_click = len(first.points) == 1 and first.box is None and first.mask is None
    # Stands for the memory of other frames, of which a single image has none.
    image = embedding["tracker_1x"][rows] + tracker.no_mem_embed.reshape(1, -1, 1, 1)
    logits, predicted_iou, _, presence = tracker.sam_mask_decoder(
        image_embeddings=image,
        image_pe=tracker.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=one_click,
        repeat_image=False,
        high_res_features=[embedding["tracker_4x"][rows], embedding["tracker_2x"][rows]],
    )
    return ObjectMasks(logits.float(), predicted_iou.float(), presence[:, 0].float())


def _points(one: Clicks) -> tuple[list[tuple[float, float]], list[int]]:
    """Coordinates and labels, the box's corners first."""
    corners = [] if one.box is None else [one.box[:2], one.box[2:]]
    coordinates = [*corners, *((point.x, point.y) for point in one.points)]
    return coordinates, [*CORNERS[: len(corners)], *(int(point.positive) for point in one.points)]


def _mask_logits(clicks: Sequence[Clicks], size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """The masks as SAM's prompt encoder takes them: logits ``(n, 1, h, w)`` at the size of its own answers."""
    given = np.stack([one.mask.mask for one in clicks if one.mask is not None])
    covered = torch.from_numpy(given).to(device).float()[:, None]
    smaller = F.interpolate(covered, size, mode="bilinear", align_corners=False, antialias=True)
    return (2 * smaller - 1) * MASK_LOGIT
