"""What a training step of oncoseg-train costs over a bare loop: the same model, batches and loss.

The bare loop holds its batches ready in memory; the trainer normalises, resizes and prompts them anew for every step.
Both take turns, step by step, so that a slow moment of the machine falls on both.

    python benchmarks/peers/step_overhead.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from oncoseg_benchmarks.recording import record, spread
from oncoseg_core.lora import set_training_mode
from oncoseg_core.registry import load_plugins
from oncoseg_trainer.processes import join_processes
from oncoseg_trainer.run import Run
from oncoseg_trainer.settings import load_settings
from oncoseg_trainer.terminal import Terminal


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    settings = load_settings("quickstart", [])
    with join_processes("cpu") as processes:
        run = Run(settings, load_plugins(), processes, Terminal())
    order = run.data.order(0)
    ready = [run.stepper._collate([run.data.sample(position, 0)]) for position in order]  # noqa: SLF001
    set_training_mode(run.model)
    trainer, bare = [], []
    for step in range(-2, steps):  # the first two of each warm up
        first, second = (trainer_step, bare_step) if step % 2 else (bare_step, trainer_step)
        for work in (first, second):
            started = time.perf_counter()
            work(run, ready, order, step % len(order))
            spent = time.perf_counter() - started
            if step >= 0:
                (trainer if work is trainer_step else bare).append(spent)
    ratios = [one / other for one, other in zip(trainer, bare, strict=True)]
    found = {
        "trainer_seconds": spread(trainer),
        "bare_seconds": spread(bare),
        "ratio_of_each_pair": spread(ratios),
        "ratio_of_medians": spread(trainer)["median"] / spread(bare)["median"],
        "model": settings.model.name,
        "threads": torch.get_num_threads(),
    }
    path = record("step_overhead", f"python benchmarks/peers/{Path(__file__).name} --steps {steps}", found)
    print(path.read_text())


def trainer_step(run: Run, _ready: list[Any], order: list[int], step: int) -> None:
    """A step as oncoseg-train takes it."""
    run.stepper.step(step, order)


def bare_step(run: Run, ready: list[Any], _order: list[int], step: int) -> None:
    """The least a step can be."""
    pixels, prompts, target, modalities = ready[step]
    run.optimizer.zero_grad(set_to_none=True)
    logits = run.model.decode(run.model.encode_image(pixels), prompts).logits
    loss = torch.stack(list(run.losses[modalities[0]].terms(logits, target).values())).sum()
    loss.backward()
    loss.item()
    run.optimizer.step()


if __name__ == "__main__":
    main()
