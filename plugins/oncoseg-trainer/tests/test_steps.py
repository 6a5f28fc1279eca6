"""One optimizer step: clipping, half precision, losses that are not finite, and what is told of it."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from oncoseg_core import RunError
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.config.training_settings import CosineWarmRestarts, OptimisationSettings
from oncoseg_trainer.data.batches import Batch
from oncoseg_trainer.data.plan import Plan
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.health import Watch, named_failures
from oncoseg_trainer.loop.optimizer import LearningRate, build_optimizer
from oncoseg_trainer.loop.steps import MOST_SKIPPED, Stepper


class Times(nn.Module):
    """The loss is the weight times the sum of the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self, pixels, _prompts, _target, _kinds, _corrections):
        return {"times": (self.weight.sum() * pixels).sum()}


def stepper(**settings):
    settings = OptimisationSettings(**{"learning_rate": 0.1, "weight_decay": 0, **settings})
    model = Times()
    optimizer = build_optimizer(dict(model.named_parameters()), settings)
    rate = LearningRate(settings.schedule, settings.learning_rate, 4)
    processes = Processes(0, 1, torch.device("cpu"))
    return model, Stepper(model, optimizer, rate, Plan(8, 1, 2), processes, 0, settings)


def stream(*values):
    """Micro-batches of one sample each, whose only pixel has that value."""
    for number, value in enumerate(values):
        pixels = torch.full((1, 1), float(value))
        yield Batch(number, pixels, [()], torch.zeros(1, 1, 1), [("ct", 1.0)], [0], [f"case-{number}"])


def test_the_gradient_is_clipped_to_the_norm_and_its_own_is_told():
    model, clipped = stepper(clip_norm=0.5)
    values = clipped.step(0, stream(3, 5))
    assert values["grad_norm"] == pytest.approx(2 * 4.0)  # four weights, each with the mean of 3 and 5
    assert model.weight.grad.norm().item() == pytest.approx(0.5)
    model, free = stepper()
    free.step(0, stream(3, 5))
    assert model.weight.grad.norm().item() == pytest.approx(8.0)


def test_every_step_has_the_rate_of_the_schedule():
    schedule = CosineWarmRestarts(name="cosine-warm-restarts", first_epochs=1)
    _, one = stepper(schedule=schedule)
    rates = [one.step(step, stream(1, 1))["lr"] for step in range(5)]
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)] + [0.1])
    assert one.optimizer.param_groups[0]["lr"] == rates[-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_that_is_not_finite_names_its_samples_and_changes_nothing(precision):
    model, one = stepper(precision=precision)
    hint = "precision to bf16 or fp32" if precision == "fp16" else "learning_rate, or look"
    with pytest.raises(RunError, match=rf"loss is not finite at step 1 \(samples: case-1\); lower training.*{hint}"):
        one.step(0, stream(1, math.nan))
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_a_gradient_that_is_not_finite_is_refused_though_the_loss_is(monkeypatch):
    model, one = stepper()
    model.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(RunError, match=r"the gradient is not finite at step 1 \(samples: case-0, case-1\)"):
        one.step(0, stream(1, 1))
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_in_half_precision_a_step_that_overflows_is_skipped_and_the_scale_halved():
    model, one = stepper(precision="fp16", clip_norm=1.0)
    scale = one.state_dict()["scaler"]["scale"]
    handle = model.weight.register_hook(lambda gradient: gradient * math.inf)
    values = one.step(0, stream(1, 1))
    assert values["skipped"] == 1
    assert "grad_norm" not in values
    assert torch.equal(model.weight, torch.ones(2, 2))
    assert one.state_dict()["scaler"]["scale"] == scale / 2

    _, again = stepper(precision="fp16")
    again.load_state_dict(one.state_dict())
    assert again.skipped == 1
    assert again.state_dict() == one.state_dict()

    handle.remove()
    assert one.step(1, stream(1, 1))["grad_norm"] == pytest.approx(2.0)
    assert one.state_dict()["skipped_in_a_row"] == 0


def test_in_half_precision_too_many_skipped_steps_are_an_error():
    model, one = stepper(precision="fp16")
    model.weight.register_hook(lambda gradient: gradient * math.inf)
    for step in range(MOST_SKIPPED - 1):
        one.step(step, stream(1, 1))
    with pytest.raises(
        RunError, match=rf"in {MOST_SKIPPED} steps in a row, up to step {MOST_SKIPPED}; set training.prec"
    ):
        one.step(MOST_SKIPPED - 1, stream(1, 1))


class Drawing(Times):
    """Keeps what its dropout would draw."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, pixels, prompts, target, kinds, corrections):
        self.drawn.append(float(torch.rand(())))
        return super().forward(pixels, prompts, target, kinds, corrections)


def drawn(first_step, numbers, seed=0):
    """What each micro-batch of two steps draws: of two steps in an epoch, beginning with that step."""
    settings = OptimisationSettings(learning_rate=0.1)
    model = Drawing()
    optimizer = build_optimizer(dict(model.named_parameters()), settings)
    rate = LearningRate(settings.schedule, settings.learning_rate, 2)
    processes = Processes(0, 1, torch.device("cpu"))
    one = Stepper(model, optimizer, rate, Plan(4, 1, 2), processes, seed, settings)
    batches = (replace(batch, number=number) for number, batch in zip(numbers, stream(1, 1, 1, 1), strict=True))
    one.step(first_step, batches)
    one.step(first_step + 1, batches)
    return model.drawn


def test_dropout_is_drawn_anew_for_each_micro_batch_by_its_number_and_epoch():
    first = drawn(0, [3, 1, 0, 2])
    assert len(set(first)) == 4  # no two micro-batches leave out the same values
    assert drawn(0, [0, 1, 2, 3]) == [first[2], first[1], first[3], first[0]]  # by the number, not by the place
    assert not set(first) & set(drawn(2, [0, 1, 2, 3]))  # the next epoch
    assert not set(first) & set(drawn(0, [0, 1, 2, 3], seed=1))


def test_the_loss_that_is_told_is_the_mean_over_the_samples_of_the_step():
    _, one = stepper()
    assert one.step(0, stream(3, 5))["loss"] == pytest.approx(4 * 4.0)  # four weights of 1


def test_gradients_are_put_together_on_the_last_micro_step_only(monkeypatch):
    _, one = stepper()
    entered = []
    monkeypatch.setattr(one, "_without_sync", lambda: entered.append(len(entered)) or nullcontext())
    one.plan = Plan(3, 1, 3)
    one.step(0, stream(1, 1, 1))
    assert entered == [0, 1]


def test_a_static_graph_costs_one_pass_in_vain_and_only_among_several_processes():
    settings = OptimisationSettings(ddp={"find_unused_parameters": False, "static_graph": True})
    model = Drawing()
    optimizer = build_optimizer(dict(model.named_parameters()), settings)
    rate = LearningRate(settings.schedule, settings.learning_rate, 4)
    one = Stepper(model, optimizer, rate, Plan(8, 1, 2), Processes(0, 1, torch.device("cpu")), 0, settings)
    one.step(0, stream(1, 1))
    assert len(model.drawn) == 2
    one._graph_unknown = True  # as among several processes
    one.step(1, stream(1, 1))
    assert len(model.drawn) == 2 + 3
    one.step(2, stream(1, 1))
    assert len(model.drawn) == 5 + 2


def test_the_rate_that_is_told_is_the_optimizers_and_gradients_do_not_add_up_over_steps():
    model, one = stepper(schedule=CosineWarmRestarts(name="cosine-warm-restarts", first_epochs=1))
    for step in range(3):
        values = one.step(step, stream(3, 5))
        assert one.optimizer.param_groups[0]["lr"] == values["lr"]
        assert model.weight.grad.flatten().tolist() == pytest.approx([4.0] * 4)
        assert values["grad_norm"] == pytest.approx(8.0)


def test_so_many_steps_may_be_skipped_as_halve_the_first_scale_to_a_sixteenth():
    assert 65_536 / 2**MOST_SKIPPED == 1 / 16


SETTINGS = load_settings("quickstart", ["training.workers=2"])


def test_a_starved_loader_is_told_once_with_what_to_raise():
    watch = Watch(SETTINGS, random_weights=False)
    assert watch.step(seconds=60, waited=60) == []  # the workers are starting
    told = [watch.step(seconds=2, waited=1) for _ in range(30)]
    (warning,) = told[9]  # after ten seconds of waiting
    assert warning.startswith("waiting for samples takes 50% of the training time: raise training.workers (now 2; this")
    assert sum(map(len, told)) == 1
    fed = Watch(SETTINGS, random_weights=False)
    assert not any(fed.step(seconds=100, waited=1) for _ in range(50))


def test_a_dice_of_0_is_counted_over_a_resume_and_forgotten_when_it_rises():
    watch = Watch(SETTINGS, random_weights=False)

    def scored(dice):
        return watch.scores([{"case": "a", "target": "t", "dice": dice}], {"grad_norm": 0.0})

    assert [scored(dice) for dice in (0.0, 0.0, 0.4, 0.0, 0.0)] == [[]] * 5
    state = watch.state_dict()
    watch = Watch(SETTINGS, random_weights=False)
    watch.load_state_dict(state)
    (warning,) = scored(0.0)
    assert "no gradient reaches the trained weights" in warning
    assert "random" not in warning
    assert scored(0.0) == []  # told once


def test_torchs_errors_that_a_setting_mends_are_named_and_others_left_alone():
    cpu = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    lower = r"the memory is not enough: set training.precision.*training.workers \(now 2\)"
    with pytest.raises(RunError, match=lower), named_failures(SETTINGS):
        raise RuntimeError(cpu)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), named_failures(SETTINGS):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
