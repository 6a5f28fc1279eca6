"""Learning rate, optimizer, epochs by size, averaging, selection: each alone."""

import pytest
import torch
from torch import nn

from oncoseg_core import ConfigError
from oncoseg_trainer.config.epochs import choose_epochs
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.config.training_settings import (
    ConstantSchedule,
    CosineWarmRestarts,
    EarlyStopping,
    OptimisationSettings,
)
from oncoseg_trainer.loop.averaging import MovingAverage
from oncoseg_trainer.loop.early_stopping import Selection
from oncoseg_trainer.loop.optimizer import LearningRate, build_optimizer


@pytest.mark.parametrize(("first", "factor", "minimum"), [(5, 2, 0.0), (3, 1, 1e-6), (1, 3, 1e-5)])
def test_the_cosine_is_torchs_in_fractions_of_an_epoch(first, factor, minimum):
    """But for restarts that torch finds a step late, by its logarithm: 1 + 3 + 9 + 27 + 81 epochs by thirds."""
    per_epoch, highest = 7, 1e-4
    rates = LearningRate(
        CosineWarmRestarts(name="cosine-warm-restarts", first_epochs=first, factor=factor, minimum=minimum),
        highest,
        per_epoch,
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=highest)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first, factor, minimum)
    late = 0
    for step in range(45 * per_epoch):
        theirs.step(step / per_epoch)
        expected = optimizer.param_groups[0]["lr"]
        if expected == pytest.approx(minimum, abs=1e-12) and rates.at(step) == highest:
            late += 1
            continue
        assert rates.at(step) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert late <= 1
    assert rates.at(0) == rates.at(first * per_epoch) == highest
    assert rates.at(first * per_epoch - 1) < 0.2 * highest


def test_a_constant_rate_stays():
    rates = LearningRate(ConstantSchedule(), 1e-4, 10)
    assert {rates.at(step) for step in range(100)} == {1e-4}


def test_weight_decay_spares_norms_and_biases():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    settings = OptimisationSettings(weight_decay=0.05, betas=(0.8, 0.99), learning_rate=0.1)
    optimizer = build_optimizer(dict(model.named_parameters()), settings)
    decayed, spared = optimizer.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 2)]
    assert [tuple(p.shape) for p in spared["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert all(group["betas"] == (0.8, 0.99) and group["lr"] == 0.1 for group in optimizer.param_groups)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"0.weight"}


@pytest.mark.parametrize(
    ("cases", "epochs"),
    [(1, 50), (49, 50), (50, 30), (199, 30), (200, 20), (449, 20), (450, 17), (1000, 17), (1001, 15), (98_154, 15)],
)
def test_epochs_follow_the_papers_table(cases, epochs):
    assert choose_epochs(OptimisationSettings(epochs="auto"), cases) == epochs


def test_the_rule_of_epochs_can_be_overridden():
    assert choose_epochs(OptimisationSettings(epochs=3), 10) == 3
    table = OptimisationSettings(epochs="auto", epochs_by_cases={100: 2, 0: 7})
    assert [choose_epochs(table, cases) for cases in (99, 100)] == [7, 2]
    with pytest.raises(ValueError, match="begins at 0 cases"):
        OptimisationSettings(epochs_by_cases={50: 3})


def test_the_average_follows_its_rule_and_the_weights_come_back_bit_for_bit():
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    average = MovingAverage({"w": weight}, decay=0.9)
    expected = weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            weight.add_(torch.randn(2))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight.detach()
    before = weight.detach().clone()
    with average.in_place():
        assert torch.allclose(weight, expected, atol=1e-6)
        inside = weight.detach().clone()
    assert torch.equal(weight, before)

    other = nn.Parameter(before.clone())
    again = MovingAverage({"w": other}, decay=0.9)
    again.load_state_dict(average.state_dict())
    with torch.no_grad():
        weight.add_(1)
        other.add_(1)
    average.update()
    again.update()
    average.take()
    again.take()
    assert torch.equal(weight, other)
    assert not torch.equal(weight, inside)


def rows(*dice):
    return [{"dice": value} for value in dice]


def test_patience_counts_epochs_that_do_not_beat_the_best():
    weight = {"w": torch.zeros(1)}
    selection = Selection(EarlyStopping(patience=2, min_delta=0.01), keeps_best=True)
    kept = []
    for step, values in enumerate([(0.4, 0.6), (0.505, 0.505), (0.52, None), (0.5,), (None,)], start=1):
        assert not selection.says_stop
        weight["w"].fill_(step)
        selection.see(rows(*values), step, weight)
        kept.append((selection.best_step, selection.since_best, selection.weights["w"].item()))
    # 0.505 is the best so far, but not by enough; 0.52 is.
    assert kept == [(1, 0, 1.0), (2, 1, 2.0), (3, 0, 3.0), (3, 1, 3.0), (3, 2, 3.0)]
    assert selection.says_stop
    assert selection.best == pytest.approx(0.52)

    again = Selection(EarlyStopping(patience=2, min_delta=0.01), keeps_best=True)
    again.load_state_dict(selection.state_dict())
    assert again.says_stop
    assert (again.best, again.best_step, again.weights) == (selection.best, 3, selection.weights)


def test_the_same_dice_again_is_no_gain():
    selection = Selection(EarlyStopping(patience=2, min_delta=0.0), keeps_best=False)
    for step in (1, 2, 3):
        selection.see(rows(0.5), step, {})
    assert (selection.best_step, selection.since_best, selection.says_stop) == (1, 2, True)


def test_a_new_best_leaves_the_tensors_of_the_old_alone():
    """A checkpoint that is still being written may hold them."""
    weight = {"w": torch.zeros(1)}
    selection = Selection(None, keeps_best=True)
    selection.see(rows(0.1), 1, weight)
    held = selection.state_dict()["weights"]["w"]
    weight["w"].fill_(9)
    selection.see(rows(0.2), 2, weight)
    assert held.item() == 0
    assert selection.weights["w"].item() == 9
    assert not selection.says_stop


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.early_stopping={patience: 3}"], "there are none; name their side, such as data.validation_split"),
        (["training.keep=best"], "The cases of the final scores never decide"),
        (["training.keep=best", "data.validation_split=test"], "validation_split is a side of its own"),
        (["training.keep=best", "data.validation_split=validation", "metrics=[iou]"], "need 'dice' among the metrics"),
        (
            ["training.keep=best", "data.validation_split=validation", "training.score_every_epoch=false"],
            "set score_every",
        ),
        (["training.ddp.static_graph=true"], "static_graph takes the place of find_unused_parameters"),
        (["training.epochs=all"], "training.epochs"),
        (["training.precision=fp8"], "'fp32', 'bf16' or 'fp16'"),
        (["training.schedule={name: cosine-warm-restarts, first_epoch: 5}"], "did you mean 'first_epochs'"),
        (["training.early_stopping={patiense: 5}"], "did you mean 'patience'"),
        (["training.ddp.static_grap=true"], "did you mean 'static_graph'"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_settings("quickstart", overrides)


def test_the_papers_configuration_is_built_in():
    with pytest.raises(ConfigError, match=r"'oncoseg-paper'.*--set data.dataset=NAME"):
        load_settings("oncoseg-paper", [])
    settings = load_settings("oncoseg-paper", ["data.dataset=msd-liver", "data.root=/data/msd-liver"])
    training = settings.training
    assert (training.batch_size, training.accumulation, training.precision, training.workers) == (1, 4, "fp16", 4)
    assert (training.learning_rate, training.weight_decay, training.betas) == (1e-4, 0.05, (0.9, 0.999))
    assert training.schedule == CosineWarmRestarts(name="cosine-warm-restarts", first_epochs=5, factor=2)
    assert (training.early_stopping.patience, training.epochs, training.ddp.find_unused_parameters) == (
        10,
        "auto",
        True,
    )
    assert (settings.model.name, settings.lora.rank, settings.lora.alpha, settings.lora.dropout) == (
        "sam3",
        16,
        32,
        0.1,
    )
