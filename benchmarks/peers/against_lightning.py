"""Samples a second beside Lightning with MONAI's CacheDataset: the same model, slices, batch size, loss and optimizer.

Lightning's side is what its documentation and MONAI's tutorials advise: volumes loaded, scaled and resized by MONAI's
dictionary transforms, cached in memory by ``CacheDataset``, a box drawn around the mask at random in every step, and a
``LightningModule`` fitted without logger, checkpoints and progress bar. Ours is the trainer's own step with its own
loader on a prepared store, which normalises, resizes and prompts each slice anew. Both run in this process with no
workers and take turns in blocks; each block's first step, in which Lightning sets itself up, is left out. Beside the
wall clock the processor time of this process is told, which other programs on the machine disturb less.

Needs what no distribution of OncoSeg needs: ``pip install lightning``.

    python benchmarks/peers/against_lightning.py --model litemedsam
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as oncoseg-train does; read when torch is imported

import numpy as np
import SimpleITK as sitk
import torch

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import Box, DatasetSpec, load_plugins
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_lora import set_training_mode
from oncoseg_store import PreparationJob, prepare_dataset

ensure_torchvision_imports()  # lightning imports torchmetrics, and that torchvision

from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from monai.data import CacheDataset, DataLoader  # noqa: E402
from monai.transforms import (  # noqa: E402
    Compose,
    EnsureChannelFirstd,
    Lambdad,
    LoadImaged,
    RandomizableTransform,
    RepeatChanneld,
    Resized,
    ScaleIntensityRanged,
    ScaleIntensityRangePercentilesd,
    SpatialPadd,
)

from oncoseg_trainer.config.settings import load_settings  # noqa: E402
from oncoseg_trainer.data.batches import BatchStream  # noqa: E402
from oncoseg_trainer.distributed.processes import join_processes  # noqa: E402
from oncoseg_trainer.loop.components import RunParts  # noqa: E402
from oncoseg_trainer.reporting.terminal import Terminal  # noqa: E402

BLOCK = 7
"""Steps of a block, the first of which is not counted."""

SHARED_ABOVE = 3.0
"""A load above this, on two processors of which the benchmark uses both, is not its own alone."""


class RandomBox(RandomizableTransform):
    """A box around the mask, each side moved out by 0 to 4 pixels."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Add it to the item."""
        rows, columns = np.nonzero(np.asarray(item["label"][0]))
        margin = self.R.uniform(0, 4, 4)
        first, last = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
        box = (first[0] - margin[0], first[1] - margin[1], last[0] + margin[2], last[1] + margin[3])
        return {**item, "box": torch.tensor(box, dtype=torch.float32)}


def monai_dataset(run: RunParts, folder: Path) -> CacheDataset:
    """The run's training slices through MONAI's transforms, cached; the files are written anew as NIfTI."""
    size, (low, high) = run.model_spec.input_size, run.model_spec.input_range
    items: dict[str, list[dict[str, Any]]] = {}
    for source in run.data.maker.sources:
        for number in range(len(source)):
            read = source.case(number)
            case = source.record(number)
            image, label = (_as_nifti(files[0], folder) for files in (case.images, case.labels))
            for target in case.targets:
                for index in np.flatnonzero(read.foreground[target.name]):
                    item = {"image": image, "label": label, "slice": int(index)}
                    items.setdefault(case.modality, []).append({**item, "labels": sorted(target.labels)})
    both = ("image", "label")
    data = []
    for modality, own in items.items():
        scale: Any = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, low, high, clip=True)
        if modality == "ct":
            scale = ScaleIntensityRanged("image", -1000, 1000, low, high, clip=True)
        steps = Compose([
            LoadImaged(both, reader="NibabelReader"),
            EnsureChannelFirstd(both),
            _slice,
            scale,
            Resized(both, size, size_mode="longest", mode=("bilinear", "nearest")),
            SpatialPadd(both, (size, size), method="end"),
            RepeatChanneld("image", 3),
            Lambdad("label", lambda label: (label > 0).float()),
            RandomBox(),
        ])  # fmt: skip
        data.append(CacheDataset(own, steps, cache_rate=1.0, num_workers=1, progress=False))
    joined: Any = torch.utils.data.ConcatDataset(data)
    return joined


def _as_nifti(path: Path, folder: Path) -> Path:
    written = folder / f"{path.name}.nii"
    sitk.WriteImage(sitk.ReadImage(str(path)), str(written))
    return written


def _slice(item: dict[str, Any]) -> dict[str, Any]:
    """One slice along MONAI's last axis, and on it the target's values only."""
    image, label = (item[key][..., item["slice"]] for key in ("image", "label"))
    wanted = torch.isin(label.as_tensor(), torch.tensor(item["labels"], dtype=label.dtype))
    return {"image": image.as_tensor().float().transpose(1, 2), "label": wanted.float().transpose(1, 2)}


class Adapting(LightningModule):
    """The run's model, loss and optimizer."""

    def __init__(self, run: RunParts) -> None:
        super().__init__()
        self.network = run.model
        self._run = [run]  # in a list, so that Lightning does not look into it

    def on_train_start(self) -> None:
        """As in the trainer: frozen norms stay as they are."""
        set_training_mode(self.network)

    def training_step(self, batch: dict[str, torch.Tensor], _index: int) -> torch.Tensor:
        """The loss of a batch."""
        prompts = [(Box(*box.tolist()),) for box in batch["box"]]
        target = batch["label"][:, 0]
        output = self.network.training_output(self.network.encode_image(batch["image"]), prompts, target)
        logits = output.logits
        if logits.shape[-2:] != target.shape[-2:]:
            logits = torch.nn.functional.interpolate(logits[:, None], target.shape[-2:], mode="bilinear")[:, 0]
        loss = self._run[0].losses["ct"]  # that of MR is the same
        terms = [*loss.terms(logits, target).values(), *(value.mean() for value in output.terms.values())]
        return torch.stack(terms).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The run's."""
        return self._run[0].optimizer


class Clock(Callback):
    """When each batch ended."""

    def __init__(self) -> None:
        self.ends: list[Times] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time."""
        self.ends.append(Times.now())


class Times(NamedTuple):
    """Seconds on the wall, and of processors."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Times:
        """Both clocks."""
        return cls(time.perf_counter(), time.process_time())


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="litemedsam")
    parser.add_argument("--blocks", type=int, default=4)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="lightning|monai")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    registry = load_plugins()
    with tempfile.TemporaryDirectory() as folder:
        adapter = registry.build(DatasetSpec, "samples")
        store = Path(folder) / "store"
        prepare_dataset(registry, PreparationJob("samples", store, {}, {}), adapter.fetch(lambda *_: None), workers=1)
        settings = load_settings(
            "quickstart", [f"model.name={arguments.model}", "training.epochs=1000", f"data.prepared={store}"]
        )
        with join_processes("cpu") as processes:
            run = RunParts(settings, registry, processes, Terminal())
        found = compare(run, arguments.blocks, Path(folder))
    found |= {"model": arguments.model, "threads": torch.get_num_threads(), "lightning": version("lightning")}
    command = f"python benchmarks/peers/{Path(__file__).name} --model {arguments.model} --blocks {arguments.blocks}"
    print(record(f"against_lightning_{arguments.model}", command, found).read_text())


def compare(run: RunParts, blocks: int, folder: Path) -> dict[str, Any]:
    """Both in turn, a block each."""
    loader = DataLoader(monai_dataset(run, folder), batch_size=run.plan.batch_size, shuffle=True)
    module = Adapting(run)
    samples = (BLOCK - 1) * run.plan.batch_size
    spans: dict[bool, list[Times]] = {True: [], False: []}
    waited = 0.0
    with BatchStream(run.data.maker, run.data.sampler, run.plan, range(blocks * BLOCK), 0) as stream:
        for block in range(blocks):
            for ours in (True, False) if block % 2 else (False, True):
                if ours:
                    set_training_mode(run.model)
                    run.stepper.step(block * BLOCK, stream)
                    first, before = Times.now(), stream.waited
                    for step in range(1, BLOCK):
                        run.stepper.step(block * BLOCK + step, stream)
                    last, waited = Times.now(), waited + stream.waited - before
                else:
                    clock = Clock()
                    Trainer(
                        accelerator="cpu", max_steps=BLOCK, logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
                    ).fit(module, loader)  # fmt: skip
                    first, last = clock.ends[0], clock.ends[-1]
                spans[ours].append(Times(last.wall - first.wall, last.processor - first.processor))
    pairs = list(zip(spans[True], spans[False], strict=True))
    return {
        "oncoseg_samples_per_second": spread([samples / one.wall for one, _ in pairs]),
        "lightning_samples_per_second": spread([samples / other.wall for _, other in pairs]),
        "ratio_of_each_block": spread([other.wall / one.wall for one, other in pairs]),
        "oncoseg_processor_seconds_per_sample": spread([one.processor / samples for one, _ in pairs]),
        "lightning_processor_seconds_per_sample": spread([other.processor / samples for _, other in pairs]),
        "oncoseg_data_wait_fraction": waited / sum(one.wall for one, _ in pairs),
        "steps_of_each": blocks * (BLOCK - 1),
        "other_load": "the machine was shared"
        if os.getloadavg()[0] > SHARED_ABOVE
        else "the machine was idle otherwise",
    }


if __name__ == "__main__":
    main()
