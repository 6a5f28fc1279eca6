"""Does an adapted SAM3 answer every prompt, and follow in 3-D? The test size learns real slices by heart.

First with the LoRA policy that trains every head (``lora+detector+interactive``): boxes, clicks that are corrected,
rough masks, texts, exemplars, and sequences of neighbouring slices, drawn by the trainer's own code. Its adapter is
then merged into the weights, and these are adapted to other scans with the paper's policy (``lora+detector``), which
trains neither clicks nor tracker: they must answer on the first scans as before, through the branch that no adapter
changes. What they would answer through the adapter's trunk is there for comparison.

Everything is scored through the predictor, on the slices as they are stored; boxes, clicks and masks are made from the
reference, a text is the target's name. The weights are random at first, and the scans are those that were learned: the
numbers say that gradients reach every head and that nothing is lost, not how good SAM3 is.

    python benchmarks/peers/sam3_all_prompts.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from oncoseg_benchmarks.record import record
from oncoseg_core import (
    BoolArray,
    DatasetAdapter,
    DatasetSpec,
    LossSpec,
    Metric,
    MetricSpec,
    ModelSpec,
    PromptGenerator,
    PromptGeneratorSpec,
    Registry,
    SegmentationLoss,
    Target,
    load_plugins,
)
from oncoseg_core.inference import FittedVolume, Predictor
from oncoseg_core.path import Preprocessor
from oncoseg_lora import LoraSettings
from oncoseg_lora.inject import adapt, set_training_mode, trainable_parameters
from oncoseg_lora.store import load_adapter, save_adapter
from oncoseg_prompts.api import next_click
from oncoseg_sam3.checkpoint import write_checkpoint
from oncoseg_segment.api import PropagationSettings, propagate
from oncoseg_trainer.config.data_settings import LabelledSampling
from oncoseg_trainer.config.prompt_settings import Sequences, TrainPrompts
from oncoseg_trainer.data.batches import make_batch
from oncoseg_trainer.data.case_source import MemorySource
from oncoseg_trainer.data.prompting import build_mixture
from oncoseg_trainer.data.samples import SampleMaker
from oncoseg_trainer.data.sampling import LabelledSlices, build_sampler
from oncoseg_trainer.loop.steps import ForwardLoss

LEARNED, OTHERS = ("lung2", "brain1"), ("brain2", "breast1")
"""Sample cases: those that every head learns, and those of the second adapter."""

EVERY_KIND = (
    TrainPrompts(name="box", settings={"margin_px": [0, 4]}, share=1.0),
    TrainPrompts(name="point", settings={"where": "center"}, share=1.5, clicks=3),
    TrainPrompts(name="mask", share=1.0),
    TrainPrompts(name="text", share=1.0),
    TrainPrompts(name="exemplar", settings={"margin_px": [0, 4]}, share=0.5),
)
SCORED: dict[str, dict[str, Any]] = {
    "box": {"margin_px": [2, 2]},
    "point": {},
    "mask": {},
    "text": {},
    "exemplar": {"margin_px": [2, 2]},
}
MODALITIES = ("ct", "mri")


class Scan(NamedTuple):
    """A sample case, ready to be prompted."""

    name: str
    fitted: FittedVolume
    mask: BoolArray
    target: Target

    @property
    def slices(self) -> list[int]:
        """Those with the target."""
        return [int(index) for index in np.flatnonzero(self.mask.any(axis=(1, 2)))]


class Bench:
    """What every part of the measurement needs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.registry: Registry = load_plugins()
        self.console = Console(highlight=False)
        self.arguments = arguments
        self.samples: DatasetAdapter = self.registry.build(
            DatasetSpec, "samples", spec=self.registry.get(DatasetSpec, "samples")
        )
        self.cases = {case.case_id: case for case in self.samples.discover(self.samples.fetch(lambda *_: None))}
        self.dice: Metric = self.registry.build(MetricSpec, "dice")
        self.losses: dict[str, SegmentationLoss] = {
            modality: self.registry.build(LossSpec, "dice-focal", {}, modality=modality) for modality in MODALITIES
        }

    def build(self, weights: str) -> Any:
        """The test size with random weights, or those of a file."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
            settings = {"activation_checkpointing": False, "weights": weights}
            return self.registry.build(ModelSpec, "sam3-tiny", settings)

    def paths(self, model: Any) -> dict[str, Preprocessor]:
        """Into the model."""
        return {name: Preprocessor(self.registry, name, model.spec) for name in MODALITIES}

    def scans(self, predictor: Predictor, names: Sequence[str]) -> list[Scan]:
        """Some cases."""
        scans = []
        for name in names:
            case = self.cases[name]
            volume, masks = self.samples.load(case)
            scans.append(Scan(name, predictor.fit(volume), masks[case.targets[0].name], case.targets[0]))
        return scans

    def train(
        self, model: Any, names: Sequence[str], prompts: Sequence[TrainPrompts], sequences: Sequences, steps: int
    ) -> Any:
        """Train what the model's policy trains, by the trainer's own samples, prompts, corrections and losses."""
        torch.manual_seed(0)
        paths = self.paths(model)
        source = MemorySource(self.samples, [self.cases[name] for name in names], paths)
        targets = sorted({each.name for name in names for each in self.cases[name].targets[:1]})
        slices = LabelledSlices.of(source, targets)
        sampler = build_sampler([slices], LabelledSampling(), 0)
        mixture = build_mixture(self.registry, prompts, "target")
        maker = SampleMaker([source], [None], paths, mixture, 0, sequences=sequences)
        forward = ForwardLoss(model, self.losses)
        weights = list(trainable_parameters(model).values())
        batch = self.arguments.batch
        optimizer = torch.optim.AdamW(weights, lr=self.arguments.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.arguments.learning_rate, total_steps=steps, pct_start=0.1
        )
        set_training_mode(model)
        started = time.perf_counter()
        for step in range(steps):
            draws = []
            for number in range(step * batch, (step + 1) * batch):
                epoch, position = divmod(number, len(sampler))
                draws.append((epoch, sampler.draw(epoch, position)))
            made = make_batch(maker, draws[0][0], [draw for _, draw in draws])
            terms = forward(*made.on(torch.device("cpu")))
            means = {name: value / batch for name, value in terms.items()}
            optimizer.zero_grad(set_to_none=True)
            torch.stack(list(means.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == steps - 1:
                shown = {name: round(value.item(), 3) for name, value in means.items()}
                self.console.print(step, f"{time.perf_counter() - started:.0f} s", shown)
                if step and self.arguments.watch:
                    self.console.print(self.answers(model, names))
                    set_training_mode(model)
        return model

    def answers(self, model: Any, names: Sequence[str]) -> dict[str, Any]:
        """Dice of each kind of prompt on every labelled slice, and how far the own tracker follows."""
        predictor = Predictor(model, self.paths(model))
        scans = self.scans(predictor, names)
        found: dict[str, Any] = {kind: spread(self._by_kind(predictor, scans, kind)) for kind in SCORED}
        found["point, 3 clicks"] = spread(self._clicked(predictor, scans))
        found["tracker"] = {scan.name: self._followed(predictor, scan) for scan in scans}
        return found

    def _dice(self, mask: BoolArray, reference: BoolArray) -> float:
        return float(self.dice.compute(mask[None], reference[None], (1.0, 1.0, 1.0)) or 0.0)

    def _by_kind(self, predictor: Predictor, scans: Sequence[Scan], kind: str) -> list[float]:
        generator: PromptGenerator = self.registry.build(PromptGeneratorSpec, kind, SCORED[kind])
        values = []
        for scan in scans:
            for index in scan.slices:
                prompt = generator.generate(scan.mask[index], np.random.default_rng(index), scan.target)
                (result,) = predictor.predict_slice(scan.fitted, index, [prompt])
                values.append(self._dice(result.mask, scan.mask[index]))
        return values

    def _clicked(self, predictor: Predictor, scans: Sequence[Scan]) -> list[float]:
        values = []
        for scan in scans:
            for index in scan.slices:
                reference, clicks = scan.mask[index], []
                mask: BoolArray = np.zeros_like(reference)
                for _ in range(3):
                    click = next_click(mask, reference, clicks)
                    if click is None:
                        break
                    clicks.append(click)
                    (result,) = predictor.predict_slice(scan.fitted, index, [tuple(clicks)])
                    mask = result.mask
                values.append(self._dice(mask, reference))
        return values

    def _followed(self, predictor: Predictor, scan: Scan) -> dict[str, Any]:
        """From a box on the slice with the largest cross-section, by the model's own tracker."""
        start = int(scan.mask.sum(axis=(1, 2)).argmax())
        generator: PromptGenerator = self.registry.build(PromptGeneratorSpec, "box", SCORED["box"])
        prompt = generator.generate(scan.mask[start], np.random.default_rng(0), scan.target)
        followed = propagate(predictor, scan.fitted, start, prompt, PropagationSettings(tracker="own"))
        values = {index: self._dice(followed.mask[index], scan.mask[index]) for index in scan.slices if index != start}
        whole = self.dice.compute(followed.mask, scan.mask, scan.fitted.volume.geometry.spacing)
        return {
            "dice_of_the_volume": round(float(whole or 0.0), 4),
            "labelled_slices_beside_the_prompted": len(values),
            "of_which_at_0.9": sum(value >= 0.9 for value in values.values()),
            "each": {index: round(value, 4) for index, value in values.items()},
        }


def main() -> None:
    """Train, score, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--adapt-steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--watch", action="store_true", help="score while it learns")
    bench = Bench(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder:
        found = {"every head taught": every_head(bench, Path(folder))}
        found["heads left to the base"] = left_to_base(bench, Path(folder))
    arguments = bench.arguments
    keys = ("steps", "adapt_steps", "learning_rate", "batch")
    options = " ".join(f"--{key.replace('_', '-')} {getattr(arguments, key)}" for key in keys)
    written = record("sam3_all_prompts", f"python benchmarks/peers/{Path(__file__).name} {options}", found)
    bench.console.print(written.read_text(), markup=False)


def every_head(bench: Bench, folder: Path) -> dict[str, Any]:
    """Learn the first scans with the policy that trains every head; its merged weights are left in the folder."""
    random = bench.build("random:0")
    before = bench.answers(random, LEARNED)
    settings = LoraSettings(policy="lora+detector+interactive", rank=16, alpha=32)
    model = bench.train(
        adapt(random, settings), LEARNED, EVERY_KIND, Sequences(share=0.25, length=3), bench.arguments.steps
    )
    after = bench.answers(model, LEARNED)
    bench.console.print(after)
    save_adapter(model, folder / "adapter", versions={}, paths={})
    loaded = load_adapter(bench.build("random:0"), folder / "adapter")
    write_checkpoint(loaded, folder / "merged.safetensors")
    return {
        "policy": settings.policy,
        "trained": sum(weight.numel() for weight in trainable_parameters(model).values()),
        "cases": LEARNED,
        "shares_of_prompts": {choice.name: choice.share for choice in EVERY_KIND},
        "before": before,
        "after": after,
        "saved and loaded, the same": bench.answers(loaded, LEARNED) == after,
    }


def left_to_base(bench: Bench, folder: Path) -> dict[str, Any]:
    """Adapt the merged weights to the other scans with boxes; what of the first scans is lost?"""
    weights = str(folder / "merged.safetensors")
    before = bench.answers(bench.build(weights), LEARNED)
    settings = LoraSettings(policy="lora+detector", rank=16, alpha=32)
    boxes = [TrainPrompts(name="box", settings={"margin_px": [0, 4]})]
    model = bench.train(adapt(bench.build(weights), settings), OTHERS, boxes, Sequences(), bench.arguments.adapt_steps)
    after = bench.answers(model, LEARNED)
    return {
        "policy": settings.policy,
        "cases": OTHERS,
        "boxes on the cases it was adapted to": bench.answers(model, OTHERS)["box"],
        "first cases, before": before,
        "first cases, after": after,
        "first cases, clicks through the adapter's trunk": bench.answers(through_the_adapter(model), LEARNED),
    }


def through_the_adapter(model: Any) -> Any:
    """The same model, its tracker made to see the image through the trunk that the adapter moved."""
    kind = type(model.get_base_model())
    model.get_base_model().__class__ = type("Moved", (kind,), {"tracker_sees_base": False})
    return model


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, lowest, and how many."""
    return {"mean": round(float(np.mean(values)), 4), "min": round(min(values), 4), "slices": len(values)}


if __name__ == "__main__":
    main()
