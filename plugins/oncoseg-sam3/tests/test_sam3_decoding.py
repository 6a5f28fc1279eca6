"""Which of the detector's candidates are the answer; and the model's decode as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from oncoseg_core import Box, Exemplar, MaskPrompt, Point, Prompt, PromptError, Text, UsageError
from oncoseg_sam3.boxes import giou, iou
from oncoseg_sam3.decoding import ABSENT, Candidates, answer, best_in_box
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.prompting import Question
from oncoseg_testing import check_model

TEXT = Question("cyst", (), (), None)
SIDE = Sam3Tiny.spec.input_size
BOX, WORD, CLICK = Box(20, 30, 90, 120), Text("liver tumour"), Point(60, 60)
ROUGH = MaskPrompt(np.pad(np.ones((60, 60), dtype=bool), ((30, SIDE - 90), (40, SIDE - 100))))


def candidates(fits: list[float], presence: float, boxes: list[tuple[float, ...]] | None = None) -> Candidates:
    """Candidate k is positive in row k of its mask, and only there."""
    count = len(fits)
    masks = torch.full((1, count, count, count), -3.0)
    for number in range(count):
        masks[0, number, number] = 1.0 + number
    shown = torch.tensor(boxes or [(0.0, 0.0, 1.0, 1.0)] * count)
    return Candidates(torch.tensor([fits]), torch.tensor([presence]), shown[None], masks)


def test_the_union_of_all_objects_above_the_threshold_is_the_mask_and_they_come_apart_best_first() -> None:
    (decoded,) = answer(candidates([2.0, -4.0, 4.0], 8.0), [TEXT], 0.5)
    assert decoded.instances is not None
    assert decoded.presence is not None
    (found,) = decoded.instances
    assert (decoded.logits[0] > 0).any(dim=1).tolist() == [True, False, True]
    assert decoded.logits[0, 2, 0] == 3.0
    torch.testing.assert_close(found.scores, torch.tensor([4.0, 2.0]).sigmoid() * torch.tensor(8.0).sigmoid())
    assert (found.logits[0] > 0).any(dim=1).tolist() == [False, False, True]
    torch.testing.assert_close(decoded.scores, found.scores[:1])
    torch.testing.assert_close(decoded.presence, torch.tensor([8.0]).sigmoid())


def test_what_is_absent_gets_no_mask_however_well_a_candidate_fits() -> None:
    (decoded,) = answer(candidates([6.0, 5.0, 4.0], -6.0), [TEXT], 0.5)
    assert decoded.instances is not None
    assert decoded.presence is not None
    assert (decoded.logits == ABSENT).all()
    assert ABSENT < 0
    assert len(decoded.instances[0].scores) == 0
    assert decoded.instances[0].logits.shape == (0, 3, 3)
    torch.testing.assert_close(decoded.scores, torch.tensor([6.0]).sigmoid() * torch.tensor(-6.0).sigmoid())
    assert float(decoded.presence) < 0.01


def test_the_object_in_a_box_is_given_whatever_its_score() -> None:
    around = (0.1, 0.1, 0.4, 0.4)
    asked = Question("visual", (around,), (True,), around)
    boxes = [(0.6, 0.6, 0.9, 0.9), (0.1, 0.1, 0.4, 0.5), (0.0, 0.0, 1.0, 1.0)]
    (decoded,) = answer(candidates([9.0, -2.0, -1.0], -6.0, boxes), [asked], 0.5)
    assert decoded.instances is not None
    assert decoded.presence is not None
    assert (decoded.logits[0] > 0).any(dim=1).tolist() == [False, True, False]
    assert decoded.presence.isnan().all()
    torch.testing.assert_close(decoded.scores, torch.tensor([-2.0]).sigmoid() * torch.tensor(-6.0).sigmoid())
    assert torch.equal(decoded.instances[0].logits, decoded.logits)


def test_in_a_box_score_and_overlap_decide_together() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.1, 0.1, 0.4, 0.3], [0.5, 0.5, 0.9, 0.9]])
    assert best_in_box(torch.tensor([0.1, 0.9, 1.0]), boxes, (0.1, 0.1, 0.4, 0.4)) == 1
    assert best_in_box(torch.tensor([0.8, 0.9, 1.0]), boxes, (0.1, 0.1, 0.4, 0.4)) == 0


def test_where_no_candidate_meets_the_box_the_nearest_is_taken() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.1, 0.1], [0.6, 0.6, 0.7, 0.7]])
    assert best_in_box(torch.tensor([0.9, 0.1]), boxes, (0.8, 0.8, 0.9, 0.9)) == 1


def test_overlap_of_boxes() -> None:
    one = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    other = torch.tensor([[1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    torch.testing.assert_close(iou(one, other)[0], torch.tensor([1 / 3, 0.0, 1.0, 0.0]))
    torch.testing.assert_close(giou(one, other)[0], torch.tensor([1 / 3, -1 / 3, 1.0, -21 / 25]))


@pytest.fixture(scope="module")
def model() -> Any:
    with pytest.warns(UserWarning, match="random weights"):
        return Sam3Tiny()


@pytest.fixture(scope="module")
def embedding(model: Any) -> dict[str, torch.Tensor]:
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        encoded: dict[str, torch.Tensor] = model.encode_image(pixels)
    return encoded


def image(embedding: dict[str, torch.Tensor], number: int) -> dict[str, torch.Tensor]:
    return {name: level[number : number + 1] for name, level in embedding.items()}


def test_the_contract(model: Any) -> None:
    check_model(model)


KINDS: list[Prompt] = [
    (BOX,),
    (BOX, WORD),
    (WORD,),
    (Exemplar(20, 30, 90, 120), Exemplar(150, 150, 200, 200, positive=False)),
    (CLICK,),
    (CLICK, Point(200, 200, positive=False)),
    (BOX, CLICK),
    (ROUGH,),
    (ROUGH, CLICK),
]


def test_prompts_of_all_kinds_in_one_call_give_what_each_gives_alone(model: Any, embedding: Any) -> None:
    with torch.no_grad():
        together = model.decode(image(embedding, 0), KINDS)
        alone = [model.decode(image(embedding, 0), [prompt]) for prompt in KINDS]
    for row, one in enumerate(alone):
        torch.testing.assert_close(together.logits[row], one.logits[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(together.scores[row], one.scores[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(together.presence[row], one.presence[0], rtol=1e-3, atol=1e-3, equal_nan=True)
        assert together.instances[row].logits.shape == one.instances[0].logits.shape
    assert together.presence.isnan().tolist() == [
        any(hint.kind in {"box", "point", "mask"} for hint in p) for p in KINDS
    ]


def test_one_image_per_prompt_of_mixed_kinds(model: Any, embedding: Any) -> None:
    with torch.no_grad():
        for prompts in ([(CLICK,), (BOX,)], [(BOX,), (CLICK,)], [(CLICK,), (CLICK,)]):
            both = model.decode(embedding, prompts)
            for row, prompt in enumerate(prompts):
                one = model.decode(image(embedding, row), [prompt])
                torch.testing.assert_close(both.logits[row], one.logits[0], rtol=1e-3, atol=1e-3)


def test_the_hints_of_a_prompt_all_count(model: Any, embedding: Any) -> None:
    def decoded(*prompt: Any) -> Any:
        with torch.no_grad():
            return model.decode(image(embedding, 0), [prompt])

    assert not torch.equal(decoded(BOX).logits, decoded(BOX, WORD).logits)
    assert not torch.equal(decoded(CLICK).logits, decoded(CLICK, Point(200, 200, positive=False)).logits)
    assert not torch.equal(decoded(ROUGH).logits, decoded(ROUGH, CLICK).logits)
    positive, negative = (decoded(WORD, Exemplar(20, 30, 90, 120, positive=sign)) for sign in (True, False))
    assert not torch.equal(positive.scores, negative.scores)
    assert not torch.equal(positive.scores, decoded(WORD).scores)


def test_a_threshold_of_nought_keeps_every_candidate(embedding: Any, model: Any) -> None:
    with pytest.warns(UserWarning, match="random weights"):
        eager = Sam3Tiny(Sam3TinySettings(threshold=0.0))
    with torch.no_grad():
        decoded = eager.decode(image(embedding, 0), [(WORD,)])
    assert len(decoded.instances[0].scores) == Sam3Tiny.size.queries
    assert torch.equal(decoded.logits[0], decoded.instances[0].logits.amax(dim=0))


@pytest.mark.parametrize("images", [3, 0])
def test_a_wrong_number_of_images_is_refused(model: Any, embedding: Any, images: int) -> None:
    repeated = {name: level[:1].expand(images, -1, -1, -1) for name, level in embedding.items()}
    with pytest.raises(UsageError, match=f"{images} embedded images for 2 prompts"):
        model.decode(repeated, [(BOX,), (BOX,)])


def test_no_prompt_is_refused(model: Any, embedding: Any) -> None:
    with pytest.raises(PromptError, match="at least one"):
        model.decode(embedding, [])


def test_phrases_are_encoded_once_and_anew_when_the_text_encoder_changes(
    model: Any, embedding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    encode = model.detector.backbone.forward_text
    monkeypatch.setattr(
        model.detector.backbone,
        "forward_text",
        lambda words, device: asked.append(list(words)) or encode(words, device=device),
    )
    prompts = [(Text("spleen"),), (Text("kidney"),), (Text("spleen"),)]
    with torch.inference_mode():
        first = model.decode(image(embedding, 0), prompts)
        again = model.decode(image(embedding, 0), prompts[:2])
    assert asked == [["spleen", "kidney"]]
    assert torch.equal(first.scores[:2], again.scores)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model.decode(image(embedding, 0), prompts[:1])
    assert asked[1:] == [["spleen"]]  # in another precision they are others
    weight = model.detector.backbone.language_backbone.resizer.weight
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(2.0)
        changed = model.decode(image(embedding, 0), prompts[:1])
        weight.copy_(kept)
    assert not torch.equal(changed.scores, first.scores[:1])


def test_after_prediction_the_same_model_can_be_trained(model: Any) -> None:
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        model.decode(model.encode_image(pixels), [(WORD,)])
    model.requires_grad_(True)
    model.detector.backbone.language_backbone.requires_grad_(False)
    try:
        decoded = model.decode(model.encode_image(pixels), [(WORD, BOX)])
        decoded.logits.sum().backward()
    finally:
        model.requires_grad_(False)
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("training", [False, True])
def test_half_precision_gives_finite_float32(model: Any, training: bool) -> None:
    model.train(training)
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            embedding = model.encode_image(torch.zeros(1, 3, SIDE, SIDE))
            decoded = model.decode(embedding, KINDS)
    finally:
        model.eval()
    assert decoded.logits.dtype == decoded.scores.dtype == torch.float32
    assert decoded.logits.isfinite().all()
    assert decoded.scores.isfinite().all()
