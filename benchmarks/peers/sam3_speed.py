"""How fast SAM3 is, and how much memory it takes: a LoRA training step, encoding an image, answering the next prompt.

Batch 1. On a GPU each value is the median of CUDA events around single calls, and memory is what torch had allocated at
most; on a processor it is wall-clock time, and memory is not told apart by configuration. Weights are random and the
image is noise, neither of which changes time or memory. The step is the trainer's own: autocast, the same loss, AdamW,
and loss scaling in fp16.

    python benchmarks/peers/sam3_speed.py                          # full size, on a GPU
    python benchmarks/peers/sam3_speed.py --size tiny --device cpu
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from oncoseg_benchmarks.record import RESULTS, record, spread
from oncoseg_core import Box, LossSpec, ModelSpec, Point, Prompt, Registry, Text, load_plugins
from oncoseg_core.inference import Precision, autocast
from oncoseg_core.plugins import peak_memory_mb
from oncoseg_lora import LoraSettings, adapt, set_training_mode, trainable_parameters
from oncoseg_trainer.loop.steps import ForwardLoss

MODELS = {"full": "sam3", "tiny": "sam3-tiny"}
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")
WARM_UP = 3
"""Calls before the first that counts: kernels are chosen, caches filled, code compiled."""


class Bench(NamedTuple):
    """What is the same for every configuration."""

    registry: Registry
    model: str
    device: torch.device
    repeats: int


def main() -> None:
    """Measure every configuration and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=MODELS, default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device cpu --size tiny measures the code, not the model")
    # Compiling takes minutes and a compiler, and is worth it on a GPU only; half precision is of no use on a processor.
    compiled = (False, True) if device.type == "cuda" else (False,)
    precisions = PRECISIONS if device.type == "cuda" else PRECISIONS[:1]

    bench = Bench(load_plugins(), MODELS[arguments.size], device, arguments.repeats)
    steps, latencies = [], []
    for checkpointing, compile_trunk in itertools.product((True, False), compiled):
        options = {"activation_checkpointing": checkpointing, "compile": compile_trunk}
        for precision in precisions:
            labels = options | {"precision": precision}
            steps.append(labels | attempt(training_step, bench, options, precision))
            if checkpointing:  # inference has none of it
                which = {"compile": compile_trunk, "precision": precision}
                latencies.append(which | attempt(latency, bench, options, precision))
    content = {
        "model": bench.model,
        "input": bench.registry.get(ModelSpec, bench.model).input_size,
        "batch": 1,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "policy": "lora+detector",
        "training_step": steps,
        "latency": latencies,
    }
    if device.type == "cpu":
        content["peak_resident_mb_of_all"] = peak_memory_mb()
    command = f"--size {arguments.size} --device {device.type} --repeats {arguments.repeats}"
    name = f"sam3_speed_{arguments.size}_{device.type}"
    path = record(name, f"python benchmarks/peers/{Path(__file__).name} {command}", content, arguments.output)
    Console(highlight=False).print(path.read_text(), markup=False)


def attempt(measure: Callable[..., dict[str, Any]], bench: Bench, *what: Any) -> dict[str, Any]:
    """What was measured, or that the memory did not suffice."""
    try:
        return measure(bench, *what)
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    finally:
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def build(bench: Bench, options: dict[str, bool]) -> Any:
    """The model with random weights on the device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
        model: Any = bench.registry.build(ModelSpec, bench.model, {"weights": "random:0", **options})
    return model.to(bench.device)


def training_step(bench: Bench, options: dict[str, bool], precision: Precision) -> dict[str, Any]:
    """Milliseconds of a step with one box, images per second, and memory."""
    device = bench.device
    base = build(bench, options)
    size = base.spec.input_size
    model: Any = adapt(base, LoraSettings(policy="lora+detector"))
    set_training_mode(model)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    forward = ForwardLoss(model, {"ct": bench.registry.build(LossSpec, "dice-focal", {}, modality="ct")})
    pixels = noise(size, device)
    target = torch.zeros(1, size, size, device=device)
    target[:, size // 4 : size // 2, size // 4 : size // 2] = 1.0
    prompts: list[Prompt] = [(Box(size / 4, size / 4, size / 2, size / 2),)]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            terms = forward(pixels, prompts, target, [("ct", 1.0)])
        scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    found = measured(step, bench)
    return {"images_per_second": 1000.0 / found["milliseconds"]["median"]} | found


def latency(bench: Bench, options: dict[str, bool], precision: Precision) -> dict[str, Any]:
    """Milliseconds to encode an image, and to answer one more prompt on it."""
    device = bench.device
    model = build(bench, options)
    size = model.spec.input_size
    pixels = noise(size, device)
    prompts: dict[str, Prompt] = {
        "box": (Box(size / 4, size / 4, size / 2, size / 2),),
        "text": (Text("liver tumour"),),
        "point": (Point(size / 3, size / 3),),
    }
    with torch.inference_mode(), autocast(device, precision):
        embedding = model.encode_image(pixels)
        found = {"encode": measured(partial(model.encode_image, pixels), bench)}
        for kind, prompt in prompts.items():
            found[f"next_{kind}"] = measured(partial(model.decode, embedding, [prompt]), bench)
    return found


def measured(call: Callable[[], object], bench: Bench) -> dict[str, Any]:
    """The spread of a call's milliseconds after a warm-up and, on a GPU, the memory allocated at most."""
    device = bench.device
    for _ in range(WARM_UP):
        call()
    if device.type == "cpu":
        seconds = []
        for _ in range(bench.repeats):
            started = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - started)
        return {"milliseconds": spread([1000.0 * each for each in seconds])}
    torch.cuda.reset_peak_memory_stats(device)
    milliseconds = []
    for _ in range(bench.repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        milliseconds.append(start.elapsed_time(end))
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    return {"milliseconds": spread(milliseconds), "peak_allocated_gib": round(peak, 2)}


def noise(size: int, device: torch.device) -> torch.Tensor:
    """One image in SAM3's range."""
    return (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)


if __name__ == "__main__":
    main()
