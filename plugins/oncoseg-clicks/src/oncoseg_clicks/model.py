"""A model that takes boxes, and now clicks: candidate boxes around them are one batch, and one of them is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import nn

from oncoseg_clicks.candidates import Clicks, candidate_boxes
from oncoseg_clicks.choice import choose
from oncoseg_clicks.corrections import mended
from oncoseg_clicks.record import needs_search, record_with_clicks
from oncoseg_core import Box, Decoded, Point, Prompt, PromptableModel, PromptError, SliceTracker, TrainingOutput

M = TypeVar("M", bound=PromptableModel)

OF_AN_ADAPTED_MODEL = ("lora_settings", "trained_parts")
"""Attributes that say that, and how, a model is adapted."""


class Embedded(NamedTuple):
    """The model's own ``embedding``, and the ``grey`` pixels ``(batch, size, size)`` in [0, 1], for growing regions."""

    grey: torch.Tensor
    embedding: Any


def with_clicks(model: M) -> M:
    """The model, answering clicks by a search where it takes boxes only; else as it is."""
    return cast("M", ClickSearch(model)) if needs_search(model.spec) else model


class ClickSearch(nn.Module, PromptableModel):
    """A model around one that takes boxes only. All other prompts than clicks go to it as they are.

    A prompt of clicks, perhaps with one box or lasso to begin with, gets the mask of the one candidate box that is
    chosen (:mod:`oncoseg_clicks.choice`), with the model's own score for it. Where that mask does not keep a click, it
    is mended there (:mod:`oncoseg_clicks.corrections`). A model may have ``decode_around``, which decodes candidates in
    less time for the choice (:meth:`oncoseg_litemedsam.model.LiteMedSAM.decode_around`).
    """

    def __init__(self, model: PromptableModel) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, None)
        self.model: Any = model
        self.spec = record_with_clicks(model.spec)
        self.weights_sha256 = model.weights_sha256
        self.reentrant = getattr(model, "reentrant", False)
        for name in OF_AN_ADAPTED_MODEL:
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    @property
    def computed_by(self) -> str | None:
        """The engines that computed so far; None from a model that does not tell."""
        return getattr(self.model, "computed_by", None)

    def encode_image(self, pixels: torch.Tensor) -> Embedded:
        """Encode pixels, and keep them in grey beside the embedding."""
        low, high = self.spec.input_range
        return Embedded((pixels.float().mean(1) - low) / (high - low), self.model.encode_image(pixels))

    def decode(self, embedding: Embedded, prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt; all candidates of all prompts of clicks are one batch.

        Raises:
            PromptError: clicks come with other hints than one box or lasso, none of them is positive, or one lies
                outside the input; or the model refuses a prompt.
        """
        clicks = [_clicks(prompt, self.spec.input_size) for prompt in prompts]
        if all(each is None for each in clicks):
            return cast("Decoded", self.model.decode(embedding.embedding, prompts))
        asked: list[Prompt] = []
        owners: list[int] = []
        compared: list[int] = []
        for number, (prompt, each) in enumerate(zip(prompts, clicks, strict=True)):
            boxes, plain = ([], 0) if each is None else candidate_boxes(each, self.spec.input_size)
            candidates: list[Prompt] = [(box,) for box in boxes] or [prompt]
            asked += candidates
            owners += [number] * len(candidates)
            compared.append(plain)
        decoded, whole = self._decoded(_paired(embedding.embedding, len(embedding.grey), owners), asked)
        chosen, logits = [], []
        for number, each in enumerate(clicks):
            rows = [row for row, owner in enumerate(owners) if owner == number]
            best = 0
            if each is not None:
                grey = embedding.grey[number if len(embedding.grey) > 1 else 0]
                best = choose(decoded.logits[rows], decoded.scores[rows], grey, each, compared[number])
            chosen.append(rows[best])
            answer = whole(rows[best])
            logits.append(answer if each is None else mended(answer, each, self.spec.input_size))
        return _rows(decoded, chosen)._replace(logits=torch.stack(logits))

    def _decoded(self, embedding: Any, asked: list[Prompt]) -> tuple[Decoded, Callable[[int], torch.Tensor]]:
        """All candidates to choose from, and the whole logits of one of them."""
        around = getattr(self.model, "decode_around", None)
        if around is not None:
            return cast("tuple[Decoded, Callable[[int], torch.Tensor]]", around(embedding, asked))
        decoded = self.model.decode(embedding, asked)
        return decoded, decoded.logits.__getitem__

    def training_output(self, embedding: Embedded, prompts: Sequence[Prompt], targets: torch.Tensor) -> TrainingOutput:
        """The model's own; clicks teach it nothing."""
        return cast("TrainingOutput", self.model.training_output(embedding.embedding, prompts, targets))

    def slice_tracker(self) -> SliceTracker | None:
        """The model's own, which starts from the box that a search finds."""
        tracker = self.model.slice_tracker()
        return None if tracker is None else _SearchingTracker(self, tracker)

    def box_for(self, embedding: Embedded, prompt: Prompt) -> Box:
        """The box that is chosen for a prompt of clicks on one image.

        Raises:
            PromptError: as for :meth:`decode`, or the prompt has no clicks.
        """
        clicks = _clicks(prompt, self.spec.input_size)
        if clicks is None:
            raise PromptError("a box is searched for from clicks, and none was given")
        boxes, plain = candidate_boxes(clicks, self.spec.input_size)
        decoded, _ = self._decoded(embedding.embedding, [(box,) for box in boxes])
        return boxes[choose(decoded.logits, decoded.scores, embedding.grey[0], clicks, plain)]


class _SearchingTracker(SliceTracker):
    """A tracker that takes boxes, begun with clicks."""

    def __init__(self, search: ClickSearch, tracker: SliceTracker) -> None:
        self._search, self._tracker = search, tracker

    def start(self, embedding: Embedded, prompt: Prompt) -> Decoded:
        """Begin with the box that is found."""
        if any(isinstance(hint, Point) for hint in prompt):
            prompt = (self._search.box_for(embedding, prompt),)
        return self._tracker.start(embedding.embedding, prompt)

    def follow(self, embedding: Embedded) -> Decoded:
        """As the model does."""
        return self._tracker.follow(embedding.embedding)

    def rewind(self) -> None:
        """As the model does."""
        self._tracker.rewind()


def _clicks(prompt: Prompt, size: int) -> Clicks | None:
    """The clicks of a prompt and the box that came with them; None where it has no clicks."""
    points = [hint for hint in prompt if isinstance(hint, Point)]
    if not points:
        return None
    others = [hint for hint in prompt if not isinstance(hint, Point)]
    if len(others) > 1 or not all(hint.outlines_object and hint.kind in {"box", "lasso"} for hint in others):
        kinds = " and ".join(hint.kind for hint in others)
        raise PromptError(f"clicks are read as a box: with them goes one box or lasso at most, found {kinds}")
    for point in points:
        if not (0 <= point.x < size and 0 <= point.y < size):
            raise PromptError(f"point ({point.x:g}, {point.y:g}) lies outside the model's input, {size} pixels wide")
    positive = tuple((point.x, point.y) for point in points if point.positive)
    if not positive and not others:
        raise PromptError("all clicks are negative: at least one has to lie on the object")
    negative = tuple((point.x, point.y) for point in points if not point.positive)
    return Clicks(positive, negative, others[0].bounds() if others else None)


def _paired(embedding: Any, images: int, owners: Sequence[int]) -> Any:
    """The embedding with one image per row, or as it is where all rows share one."""
    if images == 1:
        return embedding
    if isinstance(embedding, torch.Tensor):
        return embedding[list(owners)]
    if isinstance(embedding, Mapping):
        return {name: _paired(value, images, owners) for name, value in embedding.items()}
    if isinstance(embedding, (list, tuple)):
        parts = [_paired(value, images, owners) for value in embedding]
        return type(embedding)(*parts) if hasattr(embedding, "_fields") else type(embedding)(parts)
    return embedding


def _rows(decoded: Decoded, rows: list[int]) -> Decoded:
    return Decoded(
        decoded.logits[rows],
        decoded.scores[rows],
        None if decoded.presence is None else decoded.presence[rows],
        None if decoded.instances is None else tuple(decoded.instances[row] for row in rows),
    )
