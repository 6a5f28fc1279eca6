"""The detector's answers: candidates for each question, and which of them are meant.

Scores are Meta's (``sam3_image_processor.py``): the probability that a candidate is what was asked for, times the
probability that it is there at all. As there, overlapping candidates are not suppressed: each was taught to stand for
another object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from oncoseg_core import Decoded, Instances
from oncoseg_sam3.boxes import giou, iou
from oncoseg_sam3.network.upstream import FindStage
from oncoseg_sam3.phrases import Phrases
from oncoseg_sam3.prompting import Corners, Question, geometric_prompt

ABSENT = -10.0
"""The logit everywhere where nothing was found."""


class Candidates(NamedTuple):
    """What the detector gives for n questions: q candidates each.

    ``fits`` ``(n, q)`` and ``presence`` ``(n,)`` are logits, ``boxes`` ``(n, q, 4)`` x0, y0, x1, y1 as fractions of the
    input's side, all float32; ``masks`` ``(n, q, h, w)`` are logits as the network made them.
    """

    fits: torch.Tensor
    presence: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor

    @property
    def scores(self) -> torch.Tensor:
        """``(n, q)``, in [0, 1]."""
        return self.fits.sigmoid() * self.presence.sigmoid()[:, None]


def ground(
    detector: Any, phrases: Phrases, embedding: Mapping[str, torch.Tensor], questions: Sequence[Question]
) -> Candidates:
    """Ask the detector n questions about one image that all share, or about one image each."""
    levels = [embedding[f"detector_{scale}"] for scale in ("4x", "2x", "1x")]
    device, count = levels[0].device, len(questions)
    each = torch.arange(count, device=device)
    features = phrases.encode([question.phrase for question in questions])
    position = detector.backbone.vision_backbone.position_encoding
    out = detector.forward_grounding(
        backbone_out={
            "backbone_fpn": levels,
            "vision_pos_enc": [position(level).to(level.dtype) for level in levels],
            "language_features": features.tokens,
            "language_mask": features.padding,
        },
        find_input=FindStage(
            img_ids=each if len(levels[0]) == count else torch.zeros_like(each),
            text_ids=each,
            input_boxes=None,
            input_boxes_mask=None,
            input_boxes_label=None,
            input_points=None,
            input_points_mask=None,
        ),
        find_target=None,
        geometric_prompt=geometric_prompt(questions, device),
    )
    return Candidates(
        fits=out["pred_logits"][..., 0].float(),
        presence=out["presence_logit_dec"][:, 0].float(),
        boxes=out["pred_boxes_xyxy"].float(),
        masks=out["pred_masks"],
    )


def answer(candidates: Candidates, questions: Sequence[Question], threshold: float) -> list[Decoded]:
    """One answer per question, each a :class:`Decoded` of a single prompt."""
    answers = []
    for row, question in enumerate(questions):
        if question.around is None:
            answers.append(_concept(candidates, row, threshold))
        else:
            answers.append(_object(candidates, row, question.around))
    return answers


def _concept(candidates: Candidates, row: int, threshold: float) -> Decoded:
    """Every candidate above the threshold, and their union; nothing where there is none."""
    scores, masks = candidates.scores[row], candidates.masks[row]
    best_first = scores.argsort(descending=True, stable=True)
    kept = best_first[scores[best_first] > threshold]
    instances = Instances(masks[kept].float(), scores[kept])
    union = instances.logits.amax(dim=0) if len(kept) else torch.full(masks.shape[-2:], ABSENT, device=masks.device)
    return Decoded(
        logits=union[None],
        scores=scores.max()[None],
        presence=candidates.presence[row].sigmoid()[None],
        instances=(instances,),
    )


def _object(candidates: Candidates, row: int, around: Corners) -> Decoded:
    """The candidate that fits the question and the box best, whatever its score: somebody points at it."""
    chosen = best_in_box(candidates.fits[row].sigmoid(), candidates.boxes[row], around)
    # A copy: a view would keep every candidate's mask, 66 MB a prompt at full size, as long as the answer.
    logits, score = candidates.masks[row, chosen, None].float().clone(), candidates.scores[row, chosen, None]
    nan = torch.full_like(score, torch.nan)
    return Decoded(logits, score, presence=nan, instances=(Instances(logits, score),))


def best_in_box(probabilities: torch.Tensor, boxes: torch.Tensor, around: Corners) -> int:
    """The candidate with the largest product of probability ``(q,)`` and IoU of its box ``(q, 4)`` with the given one.

    Where no box meets it, the products are all zero and the one that comes nearest, by generalised IoU, is chosen.
    """
    wanted = boxes.new_tensor(around)[None]
    overlaps = iou(boxes, wanted)[:, 0]
    if not bool((overlaps > 0).any()):
        return int(giou(boxes, wanted)[:, 0].argmax())
    return int((probabilities * overlaps).argmax())
