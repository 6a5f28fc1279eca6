"""What a training step of oncoseg-train costs over a bare loop: the same model, batches and loss.

The bare loop holds its batches ready in memory; the trainer normalises, resizes and prompts them anew for every step,
sets the learning rate and measures the gradient. Both take turns, step by step, so that a slow moment of the machine
falls on both.

    python benchmarks/peers/step_overhead.py
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import load_plugins
from oncoseg_lora import set_training_mode
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.batches import Batch, BatchStream
from oncoseg_trainer.distributed.processes import join_processes
from oncoseg_trainer.loop.components import RunParts
from oncoseg_trainer.reporting.terminal import Terminal

WARM_UP = 2


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    settings = load_settings("quickstart", ["training.epochs=100", *arguments.overrides])
    with join_processes("cpu") as processes:
        run = RunParts(settings, load_plugins(), processes, Terminal())
    steps = range(arguments.steps + WARM_UP)
    with BatchStream(run.data.maker, run.data.sampler, run.plan, steps, 0) as stream:
        ready = [next(stream) for _ in range(min(len(steps), run.plan.steps_per_epoch))]
    set_training_mode(run.model)
    trainer, bare = [], []
    with BatchStream(run.data.maker, run.data.sampler, run.plan, steps, 0) as stream:
        for step in steps:
            for ours in (True, False) if step % 2 else (False, True):
                started = time.perf_counter()
                if ours:
                    run.stepper.step(step, stream)
                else:
                    bare_step(run, ready[step % len(ready)])
                spent = time.perf_counter() - started
                if step >= WARM_UP:
                    (trainer if ours else bare).append(spent)
        waited = stream.waited
    ratios = [one / other for one, other in zip(trainer, bare, strict=True)]
    found = {
        "trainer_seconds": spread(trainer),
        "bare_seconds": spread(bare),
        "ratio_of_each_pair": spread(ratios),
        "ratio_of_medians": spread(trainer)["median"] / spread(bare)["median"],
        "data_wait_fraction": waited / sum(trainer),
        "model": settings.model.name,
        "threads": torch.get_num_threads(),
    }
    changes = "".join(f" --set {override}" for override in arguments.overrides)
    path = record(
        "step_overhead", f"python benchmarks/peers/{Path(__file__).name} --steps {arguments.steps}{changes}", found
    )
    print(path.read_text())


def bare_step(run: RunParts, batch: Batch) -> None:
    """The least a step can be."""
    pixels, prompts, target, kinds = batch.on(torch.device("cpu"))
    run.optimizer.zero_grad(set_to_none=True)
    logits = run.model.decode(run.model.encode_image(pixels), prompts).logits
    loss = torch.stack(list(run.losses[kinds[0][0]].terms(logits, target).values())).sum()
    loss.backward()
    loss.item()
    run.optimizer.step()


if __name__ == "__main__":
    main()
