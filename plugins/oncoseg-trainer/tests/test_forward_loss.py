"""The loss of a batch: where masks are compared, what counts, and what the model adds of its own."""

import pytest
import torch
from torch import nn

from oncoseg_core import Decoded, Point, PromptableModel, TrainingOutput
from oncoseg_trainer.loop.steps import ForwardLoss, smaller_target


class Squares:
    """Mean squared difference, times ten for the modality ``mr``."""

    def __init__(self, factor):
        self.factor = factor

    def terms(self, logits, target):
        return {"square": self.factor * ((logits - target) ** 2).mean()}


class Fixed(nn.Module, PromptableModel):
    """Gives the same logits and terms whatever it sees."""

    def __init__(self, logits, by_mask=None, terms=None):
        super().__init__()
        self.logits, self.by_mask, self.extra = logits, by_mask, terms or {}

    def encode_image(self, pixels):
        return pixels

    def decode(self, embedding, prompts):
        return Decoded(self.logits, torch.zeros(len(self.logits)))

    def training_output(self, embedding, prompts, targets):
        if self.by_mask is None:
            return super().training_output(embedding, prompts, targets)
        return TrainingOutput(self.logits, self.by_mask, self.extra)


LOSSES = {"ct": Squares(1.0), "mr": Squares(10.0)}
PIXELS = torch.zeros(2, 3, 8, 8)
PROMPTS = [(), ()]


def forward(model, target, kinds, at="input"):
    return ForwardLoss(model, LOSSES, at)(PIXELS, PROMPTS, target, kinds)


def test_each_sample_counts_by_its_weight_and_its_modalitys_loss():
    logits, target = torch.ones(2, 8, 8), torch.zeros(2, 8, 8)
    terms = forward(Fixed(logits), target, [("ct", 1.0), ("mr", 0.5)])
    assert terms.keys() == {"square"}
    assert terms["square"].item() == pytest.approx(1.0 + 0.5 * 10.0)


def test_a_mask_that_is_not_the_answer_has_no_part_in_the_loss():
    logits, target = torch.ones(2, 8, 8), torch.zeros(2, 8, 8)
    model = Fixed(logits, torch.tensor([True, False]), {"presence": torch.tensor([0.25, 4.0])})
    terms = forward(model, target, [("ct", 1.0), ("ct", 0.5)])
    assert terms["square"].item() == pytest.approx(1.0)
    assert terms["presence"].item() == pytest.approx(0.25 + 0.5 * 4.0)


def test_a_batch_without_any_mask_to_learn_has_the_same_terms_at_zero():
    """Processes add up their terms by name; one that has others would hang the run."""
    model = Fixed(torch.ones(2, 8, 8, requires_grad=True), torch.tensor([False, False]), {})
    terms = forward(model, torch.zeros(2, 8, 8), [("ct", 1.0), ("ct", 1.0)])
    assert terms["square"].item() == 0
    terms["square"].backward()
    assert not model.logits.grad.any()


def test_masks_are_compared_at_the_input_or_at_the_logits():
    logits = torch.zeros(2, 4, 4)
    target = torch.zeros(2, 8, 8)
    target[:, :3, :2] = 1  # at half the size: one whole pixel, and one half covered
    at_input = forward(Fixed(logits), target, [("ct", 1.0)] * 2)["square"].item()
    at_logits = forward(Fixed(logits), target, [("ct", 1.0)] * 2, at="logits")["square"].item()
    assert at_input == pytest.approx(2 * 6 / 64)
    assert at_logits == pytest.approx(2 * 2 / 16)


def test_an_object_smaller_than_a_logit_keeps_its_best_covered_one():
    target = torch.zeros(2, 8, 8)
    target[0, 5, 6] = 1
    small = smaller_target(target, 4)
    assert small.sum(dim=(1, 2)).tolist() == [1, 0]
    assert small[0, 2, 3] == 1


def test_the_answer_to_corrected_clicks_is_what_is_taught():
    class Listens(Fixed):
        def training_output(self, embedding, prompts, targets):
            self.taught = list(prompts)
            return super().training_output(embedding, prompts, targets)

    target = torch.zeros(2, 8, 8)
    target[:, 2:6, 2:6] = 1
    model = Listens(torch.full((2, 8, 8), -1.0), torch.ones(2, dtype=torch.bool))
    model.decode = lambda embedding, prompts: Decoded(torch.full((len(prompts), 8, 8), -1.0), torch.zeros(len(prompts)))
    prompts = [(Point(3.5, 3.5),), (Point(3.5, 3.5),)]
    ForwardLoss(model, LOSSES)(PIXELS, prompts, target, [("ct", 1.0)] * 2, [0, 2])
    assert [len(prompt) for prompt in model.taught] == [1, 3]
