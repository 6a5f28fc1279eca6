"""What the detector is taught by."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from oncoseg_core import Box, Exemplar, Prompt, Text
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.settings import LoraSettings
from oncoseg_sam3.decoding import Candidates
from oncoseg_sam3.model import Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.prompting import Question
from oncoseg_sam3.training import TeachingWeights, match, objects_of, taught

SIZE, LOGITS = 32, 16
TEXT = Question("metastasis", (), (), None)
AROUND = (0.0, 0.0, 1.0, 1.0)
BOX = Question("visual", (AROUND,), (True,), AROUND)
WEIGHTS = TeachingWeights()


def target(*squares: tuple[int, int, int]) -> torch.Tensor:
    """Squares of (x, y, side)."""
    drawn = torch.zeros(SIZE, SIZE)
    for x, y, side in squares:
        drawn[y : y + side, x : x + side] = 1
    return drawn


def candidates(boxes: list[tuple[float, float, float, float]], fits: list[float], presence: float = 0.0) -> Candidates:
    """Candidates whose masks are positive in their boxes (in pixels of the target)."""
    corners = torch.tensor(boxes) / SIZE
    masks = torch.full((len(boxes), LOGITS, LOGITS), -12.0)
    for mask, box in zip(masks, boxes, strict=True):
        x0, y0, x1, y1 = (round(side * LOGITS / SIZE) for side in box)
        mask[y0:y1, x0:x1] = 12.0
    leaves = (torch.tensor([fits]), torch.tensor([presence]), corners[None], masks[None])
    return Candidates(*(leaf.requires_grad_() for leaf in leaves))


def test_the_objects_of_a_target_are_its_connected_parts_and_diagonals_connect() -> None:
    objects = objects_of(target((2, 4, 4), (6, 8, 4), (20, 20, 8)), one=False, cell=4)
    assert (objects.boxes * SIZE).tolist() == [[2, 4, 10, 12], [20, 20, 28, 28]]
    assert objects.masks.sum(dim=(1, 2)).tolist() == [32, 64]


def test_a_box_means_one_object_whatever_its_parts() -> None:
    objects = objects_of(target((2, 4, 4), (20, 20, 8)), one=True, cell=4)
    assert (objects.boxes * SIZE).tolist() == [[2, 4, 28, 28]]
    assert objects.masks.sum() == 80


def test_a_speck_below_one_logit_is_an_object_only_where_there_is_nothing_larger() -> None:
    assert len(objects_of(target((2, 4, 1), (20, 20, 8)), one=False, cell=4).boxes) == 1
    assert (objects_of(target((2, 4, 1), (9, 9, 1)), one=False, cell=4).boxes * SIZE).tolist() in (
        [[2, 4, 3, 5]],
        [[9, 9, 10, 10]],
    )
    assert objects_of(target(), one=False, cell=4).boxes.shape == (0, 4)
    assert objects_of(target(), one=True, cell=4).masks.shape == (0, SIZE, SIZE)


def test_each_object_gets_the_candidate_that_is_nearest_and_fits_best() -> None:
    shown = candidates([(20, 20, 28, 28), (0, 0, 32, 32), (2, 4, 6, 8), (20, 20, 28, 28)], [0.0, 5.0, 0.0, 2.0])
    objects = objects_of(target((2, 4, 4), (20, 20, 8)), one=False, cell=4)
    chosen, which = match(shown, 0, objects)
    assert dict(zip(which.tolist(), chosen.tolist(), strict=True)) == {0: 2, 1: 3}


@pytest.mark.parametrize("box", [(2, 4, 6, 8), (20, 20, 28, 28)])
def test_of_more_objects_than_candidates_the_farthest_are_left_over(box: tuple[float, float, float, float]) -> None:
    output = taught(candidates([box], [0.0]), [TEXT], target((2, 4, 4), (20, 20, 8))[None], WEIGHTS)
    assert output.by_mask.tolist() == [True]
    assert output.terms["box_l1"].item() == pytest.approx(0, abs=1e-6)


def test_the_matched_candidates_are_taught_together_as_the_union() -> None:
    shown = candidates([(20, 20, 28, 28), (0, 0, 32, 32), (2, 4, 6, 8)], [0.0, 0.0, 0.0])
    output = taught(shown, [TEXT], target((2, 4, 4), (20, 20, 8))[None], WEIGHTS)
    expected = target((2, 4, 4), (20, 20, 8))[::2, ::2]
    assert torch.equal((output.logits[0] > 0).float(), expected)
    assert output.by_mask.tolist() == [True]
    assert output.terms["apart"] < 0.01
    assert output.terms["box_l1"].item() == pytest.approx(0, abs=1e-6)
    assert output.terms["box_giou"].item() == pytest.approx(0, abs=1e-6)


def test_an_object_in_another_ones_mask_is_noticed_although_the_union_is_right() -> None:
    shown = candidates([(20, 20, 28, 28), (2, 4, 6, 8)], [0.0, 0.0])
    with torch.no_grad():
        shown.masks[0, 0] = shown.masks[0].amax(dim=0)
    output = taught(shown, [TEXT], target((2, 4, 4), (20, 20, 8))[None], WEIGHTS)
    assert torch.equal((output.logits[0] > 0).float(), target((2, 4, 4), (20, 20, 8))[::2, ::2])
    assert output.terms["apart"] > 0.05


def test_the_score_of_the_matched_candidate_rises_and_the_others_fall() -> None:
    shown = candidates([(20, 20, 28, 28), (2, 4, 6, 8)], [0.0, 0.0])
    taught(shown, [BOX], target((2, 4, 4))[None], WEIGHTS).terms["score"].sum().backward()
    gradient = shown.fits.grad
    assert gradient is not None
    assert gradient[0, 0] > 0 > gradient[0, 1]


def test_a_tenth_of_the_scores_weight_is_that_of_the_others() -> None:
    """At logit 0 the matched candidate's cross entropy is ln 2 whatever it shall become, the other's ln 2 / 4."""
    shown = candidates([(20, 20, 28, 28), (2, 4, 6, 8)], [0.0, 0.0])
    output = taught(shown, [BOX], target((2, 4, 4))[None], WEIGHTS)
    assert output.terms["score"].item() == pytest.approx(math.log(2) * (1 + 0.1 / 4))


def test_a_matched_candidate_is_not_made_surer_than_its_box_is_right() -> None:
    shown = candidates([(2, 4, 24, 30), (31, 31, 32, 32)], [4.0, -4.0])
    taught(shown, [BOX], target((2, 4, 4))[None], WEIGHTS).terms["score"].sum().backward()
    gradient = shown.fits.grad
    assert gradient is not None
    assert gradient[0, 0] > 0


@pytest.mark.parametrize("question", [TEXT, BOX])
def test_an_empty_target_teaches_absence_and_no_mask(question: Question) -> None:
    shown = candidates([(20, 20, 28, 28), (2, 4, 6, 8)], [1.0, 2.0])
    output = taught(shown, [question], target()[None], WEIGHTS)
    assert output.by_mask.tolist() == [False]
    assert output.logits.shape == (1, LOGITS, LOGITS)
    assert output.terms["presence"].item() == pytest.approx(float(torch.tensor(2.0).log()))
    assert all(term.item() == 0 for name, term in output.terms.items() if name != "presence")
    torch.stack([term.sum() for term in output.terms.values()]).sum().backward()
    assert shown.presence.grad is not None
    assert shown.presence.grad.item() > 0


def test_what_is_there_raises_the_presence() -> None:
    shown = candidates([(2, 4, 6, 8)], [0.0])
    taught(shown, [TEXT], target((2, 4, 4))[None], WEIGHTS).terms["presence"].sum().backward()
    assert shown.presence.grad is not None
    assert shown.presence.grad.item() < 0


def test_every_weight_is_the_factor_of_its_term() -> None:
    shown = candidates([(19, 20, 28, 28), (3, 4, 6, 8), (0, 0, 32, 32)], [0.5, 1.0, 2.0])
    drawn = target((2, 4, 4), (20, 20, 8))[None]
    once = taught(shown, [TEXT], drawn, TeachingWeights(presence=1, score=1, box_l1=1, box_giou=1, apart=1)).terms
    twice = taught(shown, [TEXT], drawn, TeachingWeights(presence=2, score=3, box_l1=4, box_giou=5, apart=6)).terms
    for factor, name in zip((2, 3, 4, 5, 6), ("presence", "score", "box_l1", "box_giou", "apart"), strict=True):
        assert once[name].item() > 0
        torch.testing.assert_close(twice[name], factor * once[name])


@pytest.fixture
def adapted(request: pytest.FixtureRequest) -> Any:
    with pytest.warns(UserWarning, match="random weights"):
        base = Sam3Tiny(Sam3TinySettings())
    torch.manual_seed(0)
    model = adapt(base, LoraSettings(policy=getattr(request, "param", "lora+detector")))
    set_training_mode(model)
    return model


SIDE = Sam3Tiny.spec.input_size
ONE = torch.zeros(SIDE, SIDE)
ONE[40:100, 50:120] = 1
TWO = ONE.clone()
TWO[160:200, 150:200] = 1


def loss_of(model: Any, prompts: list[Prompt], targets: torch.Tensor) -> torch.Tensor:
    pixels = torch.rand(len(prompts), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    output = model.training_output(model.encode_image(pixels), prompts, targets)
    assert output.logits.shape == (len(prompts), Sam3Tiny.spec.logits_size, Sam3Tiny.spec.logits_size)
    assert all(term.shape == (len(prompts),) and term.isfinite().all() for term in output.terms.values())
    masks: torch.Tensor = output.logits.square().mean(dim=(1, 2))[output.by_mask].sum()
    return masks + torch.stack(list(output.terms.values())).sum()


@pytest.mark.parametrize("adapted", ["lora", "lora+detector"], indirect=True)
def test_gradients_come_where_the_policy_says_and_nowhere_else(adapted: nn.Module) -> None:
    prompts = [(Box(40, 30, 130, 110),), (Text("metastasis"),), (Exemplar(40, 30, 130, 110), Text("cyst"))]
    loss_of(adapted, prompts, torch.stack([ONE, TWO, 0 * ONE])).backward()
    reached = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    trained = set(trainable_parameters(adapted))
    assert reached <= trained
    # The detector has parts that no answer goes through: levels that Meta builds and skips, and the semantic mask.
    idle = (".convs.3.", "pixel_decoder.conv_layers.2.", "pixel_decoder.norms.2.", "semantic_seg_head.")
    assert {name for name in trained - reached if not any(part in name for part in idle)} == set()


@pytest.mark.parametrize("adapted", ["lora"], indirect=True)
def test_steps_lower_the_loss_and_change_nothing_that_is_frozen(adapted: nn.Module) -> None:
    trained = trainable_parameters(adapted)
    frozen = {name: p.detach().clone() for name, p in adapted.named_parameters() if name not in trained}
    optimizer = torch.optim.AdamW(trained.values(), lr=3e-3)
    prompts: list[Prompt] = [(Box(40, 30, 130, 110),), (Text("metastasis"),)]
    losses = []
    for _ in range(4):
        torch.manual_seed(0)
        loss = loss_of(adapted, prompts, torch.stack([ONE, 0 * ONE]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[name]) for name, p in adapted.named_parameters() if name in frozen)


def test_in_half_precision_the_terms_are_finite(adapted: Any) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(adapted, [(Box(40, 30, 130, 110),), (Text("metastasis"),)], torch.stack([ONE, 0 * ONE]))
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in adapted.parameters())
