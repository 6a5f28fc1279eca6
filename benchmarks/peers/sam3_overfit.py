"""Does SAM3's code learn at all? The test size learns eight labelled slices of real scans by heart, with box prompts.

All weights are trained, since they are random at first; an adapter on random weights would prove nothing. Scores are
taken through the predictor, on the slices as they are stored: the candidate is chosen by its score and its overlap with
the prompt, never by the reference. The numbers say that gradients reach what they have to, not how good SAM3 is.

    python benchmarks/peers/sam3_overfit.py
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from oncoseg_benchmarks.record import record
from oncoseg_core import (
    BoolArray,
    DatasetSpec,
    LossSpec,
    Metric,
    MetricSpec,
    ModelSpec,
    Prompt,
    PromptableModel,
    PromptGenerator,
    PromptGeneratorSpec,
    Registry,
    SegmentationLoss,
    Target,
    load_plugins,
)
from oncoseg_core.inference import FittedVolume, Predictor
from oncoseg_core.path import Preprocessor, prompt_to_model
from oncoseg_trainer.data.samples import target_on_model
from oncoseg_trainer.loop.steps import ForwardLoss

SLICES_OF = {"brain1": 2, "brain2": 2, "breast1": 1, "lung1": 1, "lung2": 2}
"""How many slices of each sample case, the largest cross-sections first: eight in all."""


class Example(NamedTuple):
    """A slice with its reference, and the prompt made from it, in stored pixels and in the model's."""

    case: str
    fitted: FittedVolume
    index: int
    reference: BoolArray
    prompt: Prompt
    moved: Prompt
    pixels: torch.Tensor
    target: torch.Tensor


def main() -> None:
    """Train, score, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    registry, console = load_plugins(), Console(highlight=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
        model: Any = registry.build(ModelSpec, "sam3-tiny", {"activation_checkpointing": False})
    examples, predictor = examples_of(registry, model)
    losses = {
        modality: registry.build(LossSpec, "dice-focal", {}, modality=modality)
        for modality in {example.fitted.volume.modality for example in examples}
    }
    dice: Metric = registry.build(MetricSpec, "dice")
    before = scores(predictor, examples, dice)
    started = time.perf_counter()
    curve = train(model, losses, examples, arguments, console)
    seconds = time.perf_counter() - started
    after = scores(predictor, examples, dice)
    found = {
        "model": model.spec.name,
        "weights": model.weights_sha256,
        "trained": "all weights",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": arguments.steps,
        "batch": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "slices": [f"{example.case} slice {example.index}" for example in examples],
        "prompt": "one box per slice, 2 pixels wide of the reference, the same in training and scoring",
        "dice_before": {"mean": float(np.mean(before)), "min": min(before), "each": before},
        "dice": {"mean": float(np.mean(after)), "min": min(after), "each": after},
        "terms_of_the_loss": curve,
        "seconds_per_step": seconds / arguments.steps,
        "threads": torch.get_num_threads(),
    }
    options = f"--steps {arguments.steps} --learning-rate {arguments.learning_rate} --batch {arguments.batch}"
    path = record("sam3_overfit", f"python benchmarks/peers/{Path(__file__).name} {options}", found)
    console.print(path.read_text(), markup=False)


def examples_of(registry: Registry, model: PromptableModel) -> tuple[list[Example], Predictor]:
    """The slices with their prompts, and a predictor for their modalities."""
    adapter = registry.build(DatasetSpec, "samples", spec=registry.get(DatasetSpec, "samples"))
    generator: PromptGenerator = registry.build(PromptGeneratorSpec, "box", {"margin_px": [2, 2]})
    cases = [case for case in adapter.discover(adapter.fetch(lambda *_: None)) if case.case_id in SLICES_OF]
    modalities = sorted({case.modality for case in cases})
    predictor = Predictor(model, {name: Preprocessor(registry, name, model.spec) for name in modalities})
    examples = []
    for case in cases:
        volume, masks = adapter.load(case)
        fitted = predictor.fit(volume)
        target: Target = case.targets[0]
        mask = masks[target.name]
        largest = np.argsort(-mask.sum(axis=(1, 2)), kind="stable")[: SLICES_OF[case.case_id]]
        for index in sorted(int(number) for number in largest):
            prompt = generator.generate(mask[index], np.random.default_rng(0), target)
            examples.append(
                Example(
                    case=case.case_id,
                    fitted=fitted,
                    index=index,
                    reference=mask[index],
                    prompt=prompt,
                    moved=prompt_to_model(prompt, fitted.grid),
                    pixels=fitted.preprocessor.pixels(fitted.volume, index, fitted.stats),
                    target=target_on_model(mask[index], fitted.grid),
                )
            )
    return examples, predictor


def scores(predictor: Predictor, examples: list[Example], dice: Metric) -> list[float]:
    """Dice of each slice, through the predictor."""
    found = []
    for example in examples:
        (result,) = predictor.predict_slice(example.fitted, example.index, [example.prompt])
        value = dice.compute(result.mask[None], example.reference[None], (1.0, 1.0, 1.0))
        found.append(round(float(value or 0.0), 4))
    return found


def train(
    model: Any,
    losses: dict[str, SegmentationLoss],
    examples: list[Example],
    arguments: argparse.Namespace,
    console: Console,
) -> list[dict[str, float]]:
    """Train all weights; the terms of the loss of every 50th step."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    forward = ForwardLoss(model, losses)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=arguments.learning_rate, total_steps=arguments.steps, pct_start=0.1
    )
    model.requires_grad_(requires_grad=True).train()
    curve, order = [], np.zeros(0, dtype=int)
    for step in range(arguments.steps):
        if len(order) < arguments.batch:
            order = np.concatenate([order, rng.permutation(len(examples))])
        chosen, order = [examples[number] for number in order[: arguments.batch]], order[arguments.batch :]
        optimizer.zero_grad(set_to_none=True)
        terms = forward(
            torch.stack([example.pixels for example in chosen]),
            [example.moved for example in chosen],
            torch.stack([example.target for example in chosen]),
            [(example.fitted.volume.modality, 1.0) for example in chosen],
        )
        means = {name: value / len(chosen) for name, value in terms.items()}
        torch.stack(list(means.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == arguments.steps - 1:
            curve.append({"step": step, **{name: round(value.item(), 4) for name, value in means.items()}})
            console.print(curve[-1])
    return curve


if __name__ == "__main__":
    main()
