"""What a prompt asks of SAM3: the detector for a concept or for the object in a box, or the interactive predictor.

Text and exemplars name a kind of thing, and the detector finds every instance of it. A box around one object goes
through the detector too, as an exemplar whose own object is wanted: that path is the one that can be trained. Points
and masks are understood by the interactive predictor only ("Point prompts are ignored in PCS", says Meta's detector).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch

from oncoseg_core import Box, Exemplar, MaskPrompt, Point, Prompt, PromptError, PromptKind, Rectangle, Text
from oncoseg_sam3.network.upstream import Prompt as GeometricPrompt
from oncoseg_sam3.plugin import SAM3

WITHOUT_WORDS = "visual"
"""The phrase beside boxes alone, as in Meta's ``sam3_image_processor.py``."""

Corners: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of the input's side."""


class Question(NamedTuple):
    """What the detector is asked: a phrase, boxes with their signs, and, where one object is meant, its box."""

    phrase: str
    boxes: tuple[Corners, ...]
    positive: tuple[bool, ...]
    around: Corners | None


class Clicks(NamedTuple):
    """What the interactive predictor is shown of one object, in pixels of the input."""

    box: Corners | None
    points: tuple[Point, ...]
    mask: MaskPrompt | None


def understand(
    prompt: Prompt, side: int, boxes_by: Literal["grounding", "interactive"], name: str
) -> Question | Clicks:
    """Decide what a prompt in pixels of the input is for.

    Args:
        prompt: of one answer.
        side: of the square input; what of a box lies outside is cut off.
        boxes_by: who segments the object in a box.
        name: the model's, for messages.

    Raises:
        PromptError: the hints have no meaning together, or lie outside the input; the message says why.
    """
    texts = [hint for hint in prompt if isinstance(hint, Text)]
    exemplars = [hint for hint in prompt if isinstance(hint, Exemplar)]
    boxes = [hint for hint in prompt if isinstance(hint, Box)]
    points = tuple(hint for hint in prompt if isinstance(hint, Point))
    masks = [hint for hint in prompt if isinstance(hint, MaskPrompt)]
    counts = {"texts": len(texts), "boxes": len(boxes), "masks": len(masks)}
    several = next((what for what, count in counts.items() if count > 1), None)
    problem = _problem({hint.kind for hint in prompt}, several, points, exemplars)
    if problem:
        raise PromptError(f"{name}: {problem}")
    box = _visible(boxes[0], side, name) if boxes else None
    if points or masks or (box is not None and boxes_by == "interactive" and not texts):
        return _clicks(box, points, masks[0] if masks else None, side, name)
    phrase = texts[0].text if texts else WITHOUT_WORDS
    if box is not None:
        return Question(phrase, (box,), (True,), box)
    visible = tuple(_visible(exemplar, side, name) for exemplar in exemplars)
    return Question(phrase, visible, tuple(exemplar.positive for exemplar in exemplars), None)


def _clicks(box: Corners | None, points: tuple[Point, ...], mask: MaskPrompt | None, side: int, name: str) -> Clicks:
    """What the interactive predictor is asked, in pixels of the input."""
    for point in points:
        if not (0 <= point.x <= side and 0 <= point.y <= side):
            raise PromptError(f"{name}: point ({point.x:g}, {point.y:g}) lies outside the {side} x {side} input")
    if mask is not None and mask.mask.shape != (side, side):
        raise PromptError(f"{name}: the mask prompt is {mask.mask.shape}, the input is {(side, side)}")
    pixels = None if box is None else (box[0] * side, box[1] * side, box[2] * side, box[3] * side)
    return Clicks(pixels, points, mask)


def _problem(
    kinds: set[PromptKind],
    several: str | None,
    points: Sequence[Point],
    exemplars: Sequence[Exemplar],
) -> str | None:
    """Why these hints have no meaning together; None if they have one."""
    clicked, named = sorted(kinds & {"point", "mask"}), sorted(kinds & {"text", "exemplar"})
    foreign = sorted(kinds - set(SAM3.prompt_kinds))
    problems = {
        f"takes prompts of kind {', '.join(SAM3.prompt_kinds)}, not {' or '.join(foreign)}": bool(foreign),
        "no hint was given: expected at least one box, point, text, mask or exemplar": not kinds,
        f"a prompt asks for one answer, found several {several}: make each a prompt of its own": several is not None,
        f"{' and '.join(clicked)} go to the interactive predictor, which knows one object and no concepts: "
        f"leave out the {' and '.join(named)}, or give a box instead": bool(clicked and named),
        "a box means the one object in it, exemplars mean all objects like them: give one or the other": (
            {"box", "exemplar"} <= kinds
        ),
        "all exemplars show what is not meant: add one of what is meant, or a text": (
            "exemplar" in kinds and "text" not in kinds and not any(exemplar.positive for exemplar in exemplars)
        ),
        "all points lie outside the object: add one inside it, a box or a mask": (
            kinds == {"point"} and not any(point.positive for point in points)
        ),
    }
    return next((words for words, found in problems.items() if found), None)


def _visible(box: Rectangle, side: int, name: str) -> Corners:
    """A box as fractions of the input's side, cut to the input."""
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, float(side)), min(box.y1, float(side))
    if x0 >= x1 or y0 >= y1:
        raise PromptError(f"{name}: {box.kind} {box.as_tuple()} lies outside the input of {side} x {side} pixels")
    return x0 / side, y0 / side, x1 / side, y1 / side


def geometric_prompt(questions: Sequence[Question], device: torch.device) -> GeometricPrompt:
    """The boxes of n questions as Meta's detector takes them: sequence first, centres and sizes, padded and masked."""
    longest = max(len(question.boxes) for question in questions)
    boxes = torch.zeros(len(questions), longest, 4)
    labels = torch.ones(len(questions), longest, dtype=torch.long)
    missing = torch.ones(len(questions), longest, dtype=torch.bool)
    for row, question in enumerate(questions):
        for column, ((x0, y0, x1, y1), positive) in enumerate(zip(question.boxes, question.positive, strict=True)):
            boxes[row, column] = torch.tensor(((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
            labels[row, column] = int(positive)
            missing[row, column] = False
    return GeometricPrompt(
        box_embeddings=boxes.transpose(0, 1).to(device),
        box_labels=labels.transpose(0, 1).to(device),
        box_mask=missing.to(device),
    )
