"""LiteMedSAM in the trainer beside a bare loop, for ``gpu.py``: samples a second, and the wait for data.

The bare loop has its batches ready in memory; the trainer reads a prepared store, normalises, resizes and prompts. The
scans are generated, since no real ones are on a machine without network: bright ellipsoids in noise, CT values.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
import torch

from oncoseg_core.inference import autocast
from oncoseg_lora import set_training_mode
from oncoseg_store import PreparationJob, prepare_dataset
from oncoseg_trainer.config.settings import TrainSettings, load_settings
from oncoseg_trainer.data.batches import Batch, BatchStream
from oncoseg_trainer.distributed.processes import join_processes
from oncoseg_trainer.loop.components import RunParts
from oncoseg_trainer.reporting.terminal import Terminal

if TYPE_CHECKING:
    from gpu_parts import Bench

WARM_UP = 3
GENERIC = {
    "layout": "folders",
    "modality": "ct",
    "images": "{case}/ct.nii",
    "labels": "{case}/mask.nii",
    "targets": {"tumour": [1]},
}


def compare(bench: Bench) -> dict[str, Any]:
    """Without workers, and with as many as four."""
    full, cuda = bench.options.size == "full", bench.device.type == "cuda"
    shape, cases, batch = ((48, 512, 512), 8, 16) if full else ((6, 64, 64), 4, 1)
    precision = "bf16" if cuda else "fp32"
    found: dict[str, Any] = {"batch": batch, "precision": precision, "scans": f"generated, {shape}"}
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder) / "scans", Path(folder) / "store"
        write_scans(root, shape, cases)
        prepare_dataset(bench.registry, PreparationJob("generic", store, GENERIC, {}), root, workers=1)
        for workers in (0, 4) if full else (0,):
            training = {"epochs": 1000, "batch_size": batch, "precision": precision, "workers": workers}
            training["device"] = bench.device.type
            data = {"dataset": "generic", "prepared": str(store), "split": {"how": "made"}}
            overrides = [f"training={training}", f"data={data}", f"output={folder}/run"]
            settings = load_settings("quickstart", overrides)
            found[f"{workers} workers"] = one_setting(bench, settings)
    return found


def one_setting(bench: Bench, settings: TrainSettings) -> dict[str, Any]:
    """Steps of the trainer, and of the bare loop, after a warm-up."""
    with join_processes(settings.training.device) as processes:
        run = RunParts(settings, bench.registry, processes, Terminal(speaks=False))
    set_training_mode(run.model)
    warm_up = WARM_UP if bench.options.size == "full" else 1
    steps = warm_up + bench.options.repeats
    with BatchStream(run.data.maker, run.data.sampler, run.plan, range(steps), 0) as stream:
        ready = [next(stream) for _ in range(min(4, steps))]
    workers = settings.training.workers
    pinned = bench.device.type == "cuda"
    with BatchStream(run.data.maker, run.data.sampler, run.plan, range(steps), workers, pinned=pinned) as stream:
        for step in range(warm_up):
            run.stepper.step(step, stream)
        bench.wait()
        before, started = stream.waited, time.perf_counter()
        for step in range(warm_up, steps):
            run.stepper.step(step, stream)
        bench.wait()
        ours, waited = time.perf_counter() - started, stream.waited - before
    for step in range(warm_up):
        bare_step(run, ready[step % len(ready)])
    bench.wait()
    started = time.perf_counter()
    for step in range(bench.options.repeats):
        bare_step(run, ready[step % len(ready)])
    bench.wait()
    bare = time.perf_counter() - started
    samples = bench.options.repeats * run.plan.batch_size
    return {
        "trainer_samples_per_second": round(samples / ours, 2),
        "bare_samples_per_second": round(samples / bare, 2),
        "trainer_over_bare_time": round(ours / bare, 3),
        "data_wait_fraction": round(waited / ours, 3),
        "steps": bench.options.repeats,
    }


def bare_step(run: RunParts, batch: Batch) -> None:
    """The least a step can be."""
    pixels, prompts, target, kinds = batch.on(run.processes.device)
    run.optimizer.zero_grad(set_to_none=True)
    with autocast(run.processes.device, run.settings.training.precision):
        logits = run.model.decode(run.model.encode_image(pixels), prompts).logits
    loss = torch.stack(list(run.losses[kinds[0][0]].terms(logits.float(), target).values())).sum()
    loss.backward()
    loss.item()
    run.optimizer.step()


def write_scans(root: Path, shape: tuple[int, int, int], cases: int) -> None:
    """Generated scans with one tumour each."""
    for number in range(cases):
        rng = np.random.default_rng(number)
        z, y, x = np.ogrid[tuple(slice(0, side) for side in shape)]
        centre = [side * rng.uniform(0.4, 0.6) for side in shape]
        mask = (
            sum(((axis - at) / (side * 0.2)) ** 2 for axis, at, side in zip((z, y, x), centre, shape, strict=True)) < 1
        )
        voxels = rng.normal(0, 60, shape).astype(np.float32) + 120 * mask
        folder = root / f"case{number}"
        folder.mkdir(parents=True)
        for name, values in (("ct", voxels.astype(np.int16)), ("mask", mask.astype(np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / f"{name}.nii"))
