"""One training step of SAM3 at full size on a processor: does it fit, how long does it take, where do gradients come?

Weights are random (Meta's are behind a form), which changes neither time nor memory nor where gradients go. The slice
is a real one, with a box prompt made from its label. The step is the trainer's own: the same loss, the same optimizer.
Where others use the machine, seconds of the processor (summed over threads) tell more than those of the clock.

    nice -n 10 python benchmarks/peers/sam3_full_step.py
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from oncoseg_benchmarks.record import record
from oncoseg_core import DatasetSpec, LossSpec, ModelSpec, PromptGeneratorSpec, Registry, load_plugins
from oncoseg_core.path import Preprocessor, prompt_to_model
from oncoseg_core.plugins import peak_memory_mb
from oncoseg_lora import LoraSettings, adapt, set_training_mode, trainable_parameters
from oncoseg_trainer.data.samples import target_on_model
from oncoseg_trainer.loop.steps import ForwardLoss

CASE = "lung1"
IDLE = (".convs.3.", "pixel_decoder.conv_layers.2.", "pixel_decoder.norms.2.", "semantic_seg_head.")
"""Parts of the detector that no answer goes through: levels that Meta builds and skips, and the semantic mask."""


def main() -> None:
    """Take the step and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="sam3", choices=("sam3", "sam3-tiny"))
    parser.add_argument("--policy", default="lora+detector", choices=("lora+detector", "lora"))
    arguments = parser.parse_args()
    seconds: dict[str, float] = {}
    processor: dict[str, float] = {}
    memory: dict[str, int | None] = {}

    @contextmanager
    def measured(phase: str) -> Iterator[None]:
        started, used = time.perf_counter(), time.process_time()
        yield
        seconds[phase] = round(time.perf_counter() - started, 2)
        processor[phase] = round(time.process_time() - used, 2)
        memory[phase] = peak_memory_mb()

    registry = load_plugins()
    with measured("build"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
        torch.manual_seed(0)
        base = registry.build(ModelSpec, arguments.model, {"weights": "random:0"})
        model: Any = adapt(base, LoraSettings(policy=arguments.policy))
    pixels, prompt, target, modality = sample(registry, base.spec)
    trained = trainable_parameters(model)
    frozen = {name: parameter._version for name, parameter in model.named_parameters() if name not in trained}  # noqa: SLF001
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-4)
    forward = ForwardLoss(model, {modality: registry.build(LossSpec, "dice-focal", {}, modality=modality)})
    set_training_mode(model)
    with measured("forward"):
        terms = forward(pixels, [prompt], target, [(modality, 1.0)])
    loss = torch.stack(list(terms.values())).sum()
    with measured("backward"):
        loss.backward()
    with measured("optimizer"):
        optimizer.step()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    if not torch.isfinite(loss) or not reached <= set(trained):
        raise SystemExit(f"loss {loss.item()}; gradients where none should be: {sorted(reached - set(trained))[:5]}")
    idle = set(trained) - reached
    unexpected = [name for name in idle if not any(part in name for part in IDLE)]
    if unexpected:
        raise SystemExit(f"trained, but reached by no gradient: {unexpected[:5]}")
    parameters = dict(model.named_parameters())
    if any(parameters[name]._version != version for name, version in frozen.items()):  # noqa: SLF001
        raise SystemExit("a frozen parameter was written to")
    found = {
        "model": arguments.model,
        "weights": base.weights_sha256,
        "policy": arguments.policy,
        "input": list(pixels.shape),
        "slice": f"{CASE}, largest cross-section, one box",
        "precision": "fp32",
        "activation_checkpointing": base.settings.activation_checkpointing,
        "parameters": sum(parameter.numel() for parameter in parameters.values()),
        "trainable": sum(parameter.numel() for parameter in trained.values()),
        "trainable_without_gradient": sum(trained[name].numel() for name in idle),
        "gradients_elsewhere": 0,
        "loss": {name: round(value.item(), 4) for name, value in terms.items()},
        "seconds": seconds,
        "processor_seconds": processor,
        "load_average_of_the_machine": round(os.getloadavg()[0], 1),
        "peak_resident_mb_after": memory,
        "threads": torch.get_num_threads(),
    }
    options = f" --model {arguments.model} --policy {arguments.policy}"
    name = "sam3_full_step" if arguments.model == "sam3" else "sam3_tiny_step"
    path = record(name, f"python benchmarks/peers/{Path(__file__).name}{options}", found)
    Console(highlight=False).print(path.read_text(), markup=False)


def sample(registry: Registry, spec: ModelSpec) -> tuple[torch.Tensor, Any, torch.Tensor, str]:
    """Pixels, prompt and target of the case's largest cross-section, and its modality."""
    adapter = registry.build(DatasetSpec, "samples", spec=registry.get(DatasetSpec, "samples"))
    case = next(case for case in adapter.discover(adapter.fetch(lambda *_: None)) if case.case_id == CASE)
    volume, masks = adapter.load(case)
    preprocessor = Preprocessor(registry, case.modality, spec)
    volume = preprocessor.calibrated(volume)
    grid, mask = preprocessor.grid(volume), masks[case.targets[0].name]
    index = int(mask.sum(axis=(1, 2)).argmax())
    pixels = preprocessor.pixels(volume, index, preprocessor.fit(volume))
    generator = registry.build(PromptGeneratorSpec, "box", {"margin_px": [2, 2]})
    prompt = generator.generate(mask[index], np.random.default_rng(0), case.targets[0])
    return pixels[None], prompt_to_model(prompt, grid), target_on_model(mask[index], grid)[None], case.modality


if __name__ == "__main__":
    main()
