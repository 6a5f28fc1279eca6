"""What saving costs training: steps with a checkpoint every ten, beside the same steps without.

The model is the quickstart's, with as many trained weights more as SAM3's adapter has (a checkpoint of 141 MB). Blocks
of ten steps with and without a save take turns, so that a slow moment of the machine falls on both.

    python benchmarks/peers/checkpoint_overhead.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import load_plugins
from oncoseg_lora import set_training_mode
from oncoseg_trainer.checkpoints.folder import CheckpointFolder
from oncoseg_trainer.checkpoints.saving import Saver
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.batches import BatchStream
from oncoseg_trainer.distributed.processes import join_processes
from oncoseg_trainer.loop.run import Run
from oncoseg_trainer.reporting.terminal import Terminal

EXTRA_WEIGHTS = 11_600_000
"""About the 11.8 million that LoRA of rank 16 trains in SAM3."""

EVERY = 10
"""``training.checkpoint_every``'s default."""


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6, help="of each kind")
    parser.add_argument("--dry", action="store_true", help="record nothing")
    options = parser.parse_args()
    settings = load_settings("quickstart", ["training.epochs=100"])
    with join_processes("cpu") as processes:
        run = Run(settings, load_plugins(), processes, Terminal(speaks=False))
    extra = nn.Parameter(torch.zeros(EXTRA_WEIGHTS))
    run.trainable["extra"] = extra
    run.parts["extra"] = torch.optim.AdamW([extra])
    extra.grad = torch.zeros_like(extra)
    run.parts["extra"].step()
    set_training_mode(run.model)
    held, saving, bare, step = [], [], [], 0
    stream = BatchStream(run.maker, run.sampler, run.plan, range(run.total_steps), 0)
    with tempfile.TemporaryDirectory() as folder, stream:
        checkpoints = CheckpointFolder(Path(folder))
        with Saver(checkpoints, run._checkpoint) as saver:  # noqa: SLF001
            for block in range(-2, 2 * options.blocks):  # the first of each kind warms up
                saves = block % 2 == 0
                started = time.perf_counter()
                for _ in range(EVERY):
                    run.stepper.step(step, stream)
                    step += 1
                    run.state.step = step
                    ticked = time.perf_counter()
                    saver.tick(due=saves and step % EVERY == 1)
                    if saves and step % EVERY == 1 and block >= 0:
                        held.append(time.perf_counter() - ticked)
                if block >= 0:
                    (saving if saves else bare).append(time.perf_counter() - started)
                written = time.perf_counter()
                saver.wait()  # the next block is not to share the disk with it
                if saves:
                    print(f"block {block}: waited {time.perf_counter() - written:.2f} s for the end of the writing")
        size = checkpoints.paths()[0].stat().st_size
    found = {
        "checkpoint_mb": round(size / 1e6, 1),
        "steps_between_saves": EVERY,
        "seconds_that_a_save_holds_a_step": spread(held),
        "seconds_of_ten_steps_with_a_save": spread(saving),
        "seconds_of_ten_steps_without": spread(bare),
        "held_share_of_training_time": spread(held)["median"] / spread(bare)["median"],
        "ratio_of_medians": spread(saving)["median"] / spread(bare)["median"],
        "ratio_of_each_pair": spread([one / other for one, other in zip(saving, bare, strict=True)]),
        "model": settings.model.name,
        "threads": torch.get_num_threads(),
    }
    print(found)
    if not options.dry:
        command = f"python benchmarks/peers/{Path(__file__).name} --blocks {options.blocks}"
        print(record("checkpoint_overhead", command, found))


if __name__ == "__main__":
    main()
