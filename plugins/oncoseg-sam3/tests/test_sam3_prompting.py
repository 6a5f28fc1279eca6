"""Which part of SAM3 a prompt goes to, and which combinations of hints are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oncoseg_core import Box, Exemplar, Lasso, MaskPrompt, Point, Prompt, PromptError, Scribble, Text
from oncoseg_sam3.prompting import Clicks, Question, geometric_prompt, understand

SIDE = 100
BOX = Box(10, 20, 30, 60)
MASK = MaskPrompt(np.ones((SIDE, SIDE), dtype=bool))


def understood(*prompt: object, boxes_by: str = "grounding") -> Question | Clicks:
    return understand(prompt, SIDE, boxes_by, "sam3")  # type: ignore[arg-type]


def test_a_text_asks_for_every_object_of_a_kind() -> None:
    assert understood(Text("liver tumour")) == Question("liver tumour", (), (), None)


def test_exemplars_without_a_text_go_with_the_phrase_that_meta_uses() -> None:
    question = understood(Exemplar(0, 0, 10, 10), Exemplar(50, 50, 100, 75, positive=False))
    assert question == Question("visual", ((0, 0, 0.1, 0.1), (0.5, 0.5, 1.0, 0.75)), (True, False), None)


def test_a_box_means_the_one_object_in_it() -> None:
    around = (0.1, 0.2, 0.3, 0.6)
    assert understood(BOX) == Question("visual", (around,), (True,), around)
    assert understood(BOX, Text("cyst")) == Question("cyst", (around,), (True,), around)


def test_boxes_can_go_to_the_interactive_predictor_but_not_with_a_text_which_it_does_not_know() -> None:
    assert understood(BOX, boxes_by="interactive") == Clicks((10, 20, 30, 60), (), None)
    assert isinstance(understood(BOX, Text("cyst"), boxes_by="interactive"), Question)


@pytest.mark.parametrize(
    "prompt", [(Point(1, 2),), (BOX, Point(1, 2, positive=False)), (MASK,), (BOX, MASK, Point(1, 2))]
)
def test_clicks_and_masks_go_to_the_interactive_predictor(prompt: Prompt) -> None:
    clicks = understood(*prompt)
    assert isinstance(clicks, Clicks)
    assert clicks.points == tuple(hint for hint in prompt if isinstance(hint, Point))
    assert (clicks.box is None) == (BOX not in prompt)
    assert (clicks.mask is None) == (MASK not in prompt)


def test_what_of_a_box_lies_outside_the_input_is_cut_off() -> None:
    assert understood(Box(-5, 90, 10, 200)).around == (0, 0.9, 0.1, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ((), "no hint"),
        ((Scribble(((1, 2), (3, 4))),), "takes prompts of kind box, text, exemplar, point, mask, not scribble"),
        ((BOX, Lasso(((1, 2), (3, 4), (5, 1)))), "not lasso"),
        ((Text("a"), Text("b")), "several texts"),
        ((BOX, Box(0, 0, 5, 5)), "several boxes"),
        ((MASK, MASK), "several masks"),
        ((Text("a"), Point(1, 1)), "no concepts: leave out the text"),
        ((Exemplar(0, 0, 5, 5), MASK), "no concepts: leave out the exemplar"),
        ((BOX, Text("a"), Point(1, 1)), "no concepts"),
        ((BOX, Exemplar(0, 0, 5, 5)), "one or the other"),
        ((Exemplar(0, 0, 5, 5, positive=False),), "not meant"),
        ((Point(1, 1, positive=False),), "outside the object"),
        ((Box(100, 0, 110, 5),), "outside the input of 100 x 100"),
        ((Point(101, 5),), "outside the 100 x 100 input"),
        ((MaskPrompt(np.ones((5, 5), dtype=bool)),), r"\(5, 5\)"),
    ],
)
def test_hints_without_a_meaning_are_refused_with_the_reason(prompt: Prompt, reason: str) -> None:
    with pytest.raises(PromptError, match=reason) as refusal:
        understood(*prompt)
    assert "\n" not in str(refusal.value)


def test_a_negative_exemplar_is_fine_beside_a_text() -> None:
    question = understood(Text("cyst"), Exemplar(0, 0, 5, 5, positive=False))
    assert question == Question("cyst", ((0, 0, 0.05, 0.05),), (False,), None)


def test_the_detectors_boxes_are_centres_and_sizes_padded_at_the_end() -> None:
    text, box = Question("a", (), (), None), Question("visual", ((0.1, 0.2, 0.3, 0.6),), (False,), None)
    prompt = geometric_prompt([text, box], torch.device("cpu"))
    assert prompt.box_embeddings.shape == (1, 2, 4)
    torch.testing.assert_close(prompt.box_embeddings[0, 1], torch.tensor([0.2, 0.4, 0.2, 0.4]))
    assert prompt.box_mask.tolist() == [[True], [False]]
    assert prompt.box_labels.tolist() == [[1, 0]]
    assert geometric_prompt([text], torch.device("cpu")).box_embeddings.shape == (0, 1, 4)
