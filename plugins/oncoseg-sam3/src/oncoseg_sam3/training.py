"""What the detector is taught by: its candidates are matched with the objects of the target, as Meta does in training.

Matching and terms are those of Meta's published fine-tuning (``roboflow_v100_full_ft_100_images.yaml``; ``matcher.py``
and ``loss_fns.py``). Weights are Meta's divided by its weight of the Dice loss, 10, so that they go with a mask loss of
order one; but for the score's, which Meta divides by the number of queries and takes at every layer. Left out are the
terms on the outputs of earlier decoder layers, and a second set of queries that is matched one to many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from pydantic import Field
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from oncoseg_core import Settings, TrainingOutput
from oncoseg_sam3.boxes import centred, giou, iou
from oncoseg_sam3.decoding import Candidates
from oncoseg_sam3.prompting import Question

COST_FIT, COST_L1, COST_GIOU = 2.0, 5.0, 2.0
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Of the matching cost of a candidate's logit."""
QUALITY_ALPHA = 0.25
"""What a matched candidate's probability shall become: its own to this power times its box's IoU to the rest."""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TeachingWeights(Settings):
    """Weights of what is taught besides the masks; a mask loss of order one is assumed.

    ``presence``: that the answer is there, or is not. ``score``: how well matched candidates fit, and that the others
    do not. ``box_l1``, ``box_giou``: the matched candidates' boxes. ``apart``: that each of several objects gets a mask
    of its own, which their union does not teach.
    """

    presence: Weight = 1.0
    score: Weight = 1.0
    box_l1: Weight = 0.5
    box_giou: Weight = 0.2
    apart: Weight = 1.0


class Objects(NamedTuple):
    """The k objects of one target: ``boxes`` ``(k, 4)`` as fractions of its side, ``masks`` 0/1 ``(k, size, size)``."""

    boxes: torch.Tensor
    masks: torch.Tensor


def taught(
    candidates: Candidates, questions: Sequence[Question], targets: torch.Tensor, weights: TeachingWeights
) -> TrainingOutput:
    """Logits and terms for n questions.

    A box means one object, all of the target. A text or exemplars mean every object, one per connected part of the
    target, each matched with a candidate of its own; the logits are those of the candidates' union.

    On an empty target the masks are not taught, the presence score is. The candidates' own scores are left alone there,
    as Meta does: whether something is there is the presence score's part, which every score is multiplied with.

    Args:
        candidates: from the detector, in training mode.
        questions: what it was asked.
        targets: 0/1 ``(n, size, size)``.
        weights: of the terms.
    """
    side = candidates.masks.shape[-1]
    logits, by_mask, rows = [], [], []
    for row, question in enumerate(questions):
        objects = objects_of(targets[row], one=question.around is not None, cell=(targets.shape[-1] / side) ** 2)
        matched, which = match(candidates, row, objects)
        chosen = matched if len(matched) else candidates.fits[row].argmax()[None]  # keeps the graph the same
        logits.append(candidates.masks[row, chosen].float().amax(dim=0))
        by_mask.append(len(matched) > 0)
        rows.append(_terms(candidates, row, Objects(objects.boxes[which], objects.masks[which]), matched))
    factors = weights.model_dump()
    terms = {name: factors[name] * torch.stack([one[name] for one in rows]) for name in factors}
    return TrainingOutput(torch.stack(logits), torch.tensor(by_mask, device=targets.device), terms)


def objects_of(target: torch.Tensor, *, one: bool, cell: float) -> Objects:
    """The objects in a target ``(size, size)``: its connected parts (diagonals connect), or all of it as ``one``.

    A part smaller than a ``cell``, the pixels under one logit, gets no candidate of its own where there are larger
    ones, and belongs to none: it only counts in the union.
    """
    mask = target.detach().cpu().numpy() > 0.5
    labels, count = (mask.astype(np.int32), int(mask.any())) if one else ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    large = [number for number in range(count) if sizes[number] >= cell] or list(np.argsort(sizes)[-1:])
    around = ndimage.find_objects(labels)
    boxes = [(around[k][1].start, around[k][0].start, around[k][1].stop, around[k][0].stop) for k in large]
    device, side = target.device, target.shape[-1]
    masks = np.stack([labels == number + 1 for number in large]) if large else np.zeros((0, side, side), dtype=bool)
    return Objects(
        torch.tensor(boxes, dtype=torch.float32, device=device).reshape(-1, 4) / side,
        torch.from_numpy(masks).to(device).float(),
    )


@torch.no_grad()
def match(candidates: Candidates, row: int, objects: Objects) -> tuple[torch.Tensor, torch.Tensor]:
    """Candidates, and the object that each is matched with, by the cheapest assignment (Hungarian).

    Of more objects than there are candidates, the dearest are left over.

    The cost is Meta's: the logit's and the distance and overlap of boxes, but not of masks, since box and score are
    also what a candidate is chosen by when there is no target.
    """
    boxes, fits = candidates.boxes[row], candidates.fits[row]
    if not len(objects.boxes):
        nothing = torch.zeros(0, dtype=torch.long, device=boxes.device)
        return nothing, nothing
    probability = fits.sigmoid()
    cost_fit = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * F.softplus(-fits)
    cost_fit = cost_fit - (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * F.softplus(fits)
    cost_l1 = torch.cdist(centred(boxes), centred(objects.boxes), p=1)
    cost = COST_FIT * cost_fit[:, None] + COST_L1 * cost_l1 - COST_GIOU * giou(boxes, objects.boxes)
    # What is not finite is told of by the loss, which then is not finite either.
    chosen, which = linear_sum_assignment(np.nan_to_num(cost.double().cpu().numpy()))
    return torch.from_numpy(chosen).to(boxes.device), torch.from_numpy(which).to(boxes.device)


def _terms(candidates: Candidates, row: int, objects: Objects, matched: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each term of one question, not weighted yet; the objects are those of the matched candidates, in their order."""
    fits, presence = candidates.fits[row], candidates.presence[row]
    nothing = 0.0 * (fits.sum() + candidates.boxes[row].sum())
    terms = dict.fromkeys(TeachingWeights.model_fields, nothing)
    terms["presence"] = F.binary_cross_entropy_with_logits(presence, torch.full_like(presence, float(len(matched) > 0)))
    if not len(matched):
        return terms
    boxes, wanted = candidates.boxes[row, matched], objects.boxes
    terms["score"] = _score_term(fits, matched, iou(boxes, wanted).diagonal())
    terms["box_l1"] = (centred(boxes) - centred(wanted)).abs().sum(dim=-1).mean()
    terms["box_giou"] = (1 - giou(boxes, wanted).diagonal()).mean()
    if len(matched) > 1:
        terms["apart"] = _dice(candidates.masks[row, matched].float(), objects.masks)
    return terms


def _score_term(fits: torch.Tensor, matched: torch.Tensor, overlap: torch.Tensor) -> torch.Tensor:
    """Meta's ``IABCEMdetr`` per object: matched candidates learn their quality, the others 0, the surer the stronger.

    A tenth of the weight is the others' (``pos_weight`` 10).
    """
    probability = fits.detach().sigmoid()
    quality = probability[matched] ** QUALITY_ALPHA * overlap.detach().clamp(min=0) ** (1 - QUALITY_ALPHA)
    mine = F.binary_cross_entropy_with_logits(fits[matched], quality.clamp(min=0.01), reduction="sum")
    others = torch.ones_like(fits, dtype=torch.bool)
    others[matched] = False
    false = F.softplus(fits[others]) * fits[others].sigmoid() ** FOCAL_GAMMA
    return (mine + 0.1 * false.sum()) / len(matched)


def _dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean soft Dice loss of each mask ``(k, h, w)`` with its own object ``(k, size, size)``."""
    share = F.interpolate(masks[:, None], logits.shape[-2:], mode="area")[:, 0].flatten(1)
    probability = logits.sigmoid().flatten(1)
    both = (probability * share).sum(dim=1)
    return (1 - (2 * both + 1) / (probability.sum(dim=1) + share.sum(dim=1) + 1)).mean()
