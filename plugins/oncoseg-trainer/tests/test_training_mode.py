"""What is random in training: LoRA's dropout, and the base model's own only where a configuration says so."""

import pytest
import torch
from torch import nn

from oncoseg_core import ModelSpec, load_plugins
from oncoseg_lora import LoraSettings, adapt, trainable_parameters
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.batches import BatchStream
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.run import TrainingRun
from oncoseg_trainer.loop.training_mode import leaves_out_at_random, set_mode
from oncoseg_trainer.reporting.terminal import Terminal

MODELS = [("sam3-tiny", "lora"), ("sam3-tiny", "lora+detector"), ("litemedsam", "lora")]


@pytest.mark.parametrize(("name", "policy"), MODELS[:2])
def test_only_the_dropout_of_lora_is_left_on(name, policy):
    pytest.importorskip("oncoseg_sam3")
    model = adapt(load_plugins().build(ModelSpec, name), LoraSettings(dropout=0.1, policy=policy))
    set_mode(model, base_dropout=True)
    modules = dict(model.named_modules())
    before = {path for path, module in modules.items() if module.training}
    base = {path for path, module in modules.items() if leaves_out_at_random(module) and ".lora_dropout." not in path}
    assert {"DropPath", "Dropout", "MultiheadAttention"} <= {type(modules[path]).__name__ for path in base}
    set_mode(model, base_dropout=False)
    assert {path for path, module in modules.items() if module.training} == before - base
    assert any(".lora_dropout." in path for path in before - base)


class Functional(nn.Module):
    """An attention layer of a third party, which drops by itself."""

    def __init__(self, name, share):
        super().__init__()
        setattr(self, name, share)
        self.within = nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Dropout2d(0.5), True),
        (nn.AlphaDropout(0.5), True),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.MultiheadAttention(4, 2), False),
        (Functional("attn_dropout", 0.1), True),
        (Functional("drop_prob", 0.0), False),
        (Functional("eps", 0.1), False),
    ],
)
def test_layers_that_leave_out_at_random_are_recognised(module, expected):
    assert leaves_out_at_random(module) == expected
    container = nn.Sequential(module)
    set_mode(container, base_dropout=False)
    assert container.training
    assert module.training == (not expected)
    assert not hasattr(module, "within") or module.within.training  # switched alone


def gradients(config, *overrides):
    """Of the first optimizer step."""
    settings = load_settings(str(config), [*overrides])
    run = TrainingRun(settings, load_plugins(), Processes(0, 1, torch.device("cpu")), Terminal(speaks=False))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # at first B is 0, and no gradient reaches A
        for parameter in trainable_parameters(run.model).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    set_mode(run.model, base_dropout=settings.training.base_dropout)
    with BatchStream(run.data.maker, run.data.sampler, run.plan, range(1), 0) as stream:
        values = run.stepper.step(0, stream)
    return values, {name: weight.grad.clone() for name, weight in run.trainable.items() if weight.grad is not None}


@pytest.mark.parametrize(("name", "policy"), MODELS)
def test_a_batch_of_four_has_the_gradients_of_four_accumulated(toy, toy_config, name, policy):
    pytest.importorskip("oncoseg_sam3" if name.startswith("sam3") else "oncoseg_litemedsam")
    root = toy("toy-a", [{"split": "train", "slices": [1, 2, 3, 4]}, {"split": "test", "slices": [3]}])
    config = toy_config(
        {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]},
        model={"name": name}, lora={"policy": policy, "dropout": 0.0}, training={"epochs": 1},
    )  # fmt: skip
    whole, together = gradients(config, "training.batch_size=4")
    parts, accumulated = gradients(config, "training.batch_size=1", "training.accumulation=4")
    assert parts == pytest.approx(whole, rel=1e-4)
    assert together.keys() == accumulated.keys()
    largest = max(float(gradient.abs().max()) for gradient in together.values())
    for path, gradient in together.items():
        torch.testing.assert_close(accumulated[path], gradient, rtol=1e-3, atol=1e-5 * largest, msg=path)
    if name.startswith("sam3"):
        dropped, _ = gradients(config, "training.batch_size=4", "training.base_dropout=true")
        assert dropped["loss"] != pytest.approx(whole["loss"], rel=1e-4)  # the setting is read
