"""The parts that ``gpu.py`` measures; each runs in its worker process and gives plain values.

Times are of the wall clock around single calls, with the device idle before and after, once a warm-up has chosen
kernels and filled caches. Memory is what torch had allocated, and reserved, at most while calls were timed.
"""

from __future__ import annotations

import copy
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from oncoseg_core import Box, LossSpec, ModelSpec, Point, Prompt, Registry, Text, load_plugins
from oncoseg_core.inference import Precision, autocast
from oncoseg_lora import LoraSettings, adapt, set_training_mode, trainable_parameters
from oncoseg_trainer.loop.steps import ForwardLoss

MODELS = {"full": "sam3", "tiny": "sam3-tiny"}
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")
WARM_UP = 3
MANY = 100
"""Boxes on one slice."""
GIB = 2**30


class SkippedError(Exception):
    """A part that this machine cannot show; the text says why."""


class Options(NamedTuple):
    """What is the same for all parts. ``seconds`` bounds one measurement, however few calls it then has."""

    size: str
    device: str
    repeats: int
    seconds: float


class Part(NamedTuple):
    """``run`` measures; it gets at most ``seconds``."""

    run: Callable[[Bench], dict[str, Any]]
    seconds: float


class Bench:
    """Builds models and measures calls on one device."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.registry: Registry = load_plugins()
        self.model_name = MODELS[options.size]
        self._networks: dict[str, Any] = {}

    def build(self, name: str | None = None, **settings: Any) -> Any:
        """SAM3 with random weights on the device; drawn once, which takes longest, then copied."""
        from oncoseg_sam3 import model

        draw = model.network_with_weights

        def copied(size: Any, source: str) -> tuple[Any, str]:
            if str(size) not in self._networks:
                self._networks[str(size)] = draw(size, source)
            return copy.deepcopy(self._networks[str(size)])

        with patch.object(model, "network_with_weights", copied), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="SAM3 is built with random weights")
            built: Any = self.registry.build(ModelSpec, name or self.model_name, {"weights": "random:0", **settings})
        return built.to(self.device)

    def measured(self, call: Callable[[], object], repeats: int | None = None) -> dict[str, Any]:
        """Milliseconds of single calls, p50 and p95, and the memory that they take at most."""
        enough = self.options.seconds
        started = time.perf_counter()
        for _ in range(WARM_UP):
            self._timed(call)
            if time.perf_counter() - started > enough / 2:
                break
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        spent: list[float] = []
        while not spent or (len(spent) < (repeats or self.options.repeats) and sum(spent) < 1000 * enough):
            spent.append(self._timed(call))
        found: dict[str, Any] = {
            "p50_ms": round(float(np.percentile(spent, 50)), 3),
            "p95_ms": round(float(np.percentile(spent, 95)), 3),
            "n": len(spent),
        }
        if self.device.type == "cuda":
            found["allocated_gib"] = round(torch.cuda.max_memory_allocated(self.device) / GIB, 2)
            found["reserved_gib"] = round(torch.cuda.max_memory_reserved(self.device) / GIB, 2)
        return found

    def _timed(self, call: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return 1000 * (time.perf_counter() - started)

    def wait(self) -> None:
        """Until the device is idle."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def noise(self, size: int) -> torch.Tensor:
        """One image in SAM3's range, in the CPU's memory as a slice is."""
        return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def all_parts(policies: list[str]) -> dict[str, Part]:
    """By name, in the order of their worth; ``policies`` are those of the model's record, the default first."""
    steps = {
        f"step {precision}, checkpointing {'on' if checkpointing else 'off'}": Part(
            partial(training_step, precision=precision, activation_checkpointing=checkpointing), 60
        )
        for precision in PRECISIONS
        for checkpointing in (True, False)
    }
    others = {
        f"step bf16, checkpointing on, policy {policy}": Part(
            partial(training_step, precision="bf16", policy=policy), 60
        )
        for policy in policies[1:]
    }
    return {
        "device": Part(device_facts, 60),
        "agreement": Part(agreement, 90),
        **{f"inference {precision}": Part(partial(inference, precision=precision), 90) for precision in PRECISIONS},
        "inference bf16, weights bf16": Part(partial(inference, precision="bf16", weight_precision="bf16"), 60),
        **steps,
        "step bf16, checkpointing off, weights bf16": Part(
            partial(training_step, precision="bf16", activation_checkpointing=False, weight_precision="bf16"), 60
        ),
        "tracker bf16": Part(partial(tracker, precision="bf16"), 45),
        "litemedsam training": Part(litemedsam_training, 120),
        "two ranks": Part(two_ranks, 240),
        "attention and layout bf16": Part(attention, 90),
        **others,
        "compiled inference bf16": Part(partial(inference, precision="bf16", compile=True), 180),
        "compiled step bf16, checkpointing on": Part(partial(training_step, precision="bf16", compile=True), 180),
    }


def device_facts(bench: Bench) -> dict[str, Any]:
    """What the machine is."""
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "float32_products": torch.get_float32_matmul_precision(),
    }
    if bench.device.type == "cuda":
        facts = torch.cuda.get_device_properties(bench.device)
        torch.zeros(1, device=bench.device)
        free, total = torch.cuda.mem_get_info(bench.device)
        found |= {
            "name": facts.name,
            "memory_gib": round(total / GIB, 2),
            "used_by_context_and_others_gib": round((total - free) / GIB, 2),
            "capability": f"{facts.major}.{facts.minor}",
            "cuda": torch.version.cuda,
            "devices": torch.cuda.device_count(),
            "bf16": torch.cuda.is_bf16_supported(),
        }
    return found


def agreement(bench: Bench) -> dict[str, Any]:
    """The test size on the device beside the CPU's float32: how far logits and masks are apart."""
    size = bench.registry.get(ModelSpec, "sam3-tiny").input_size
    prompts: list[Prompt] = [
        (Box(size / 4, size / 4, size / 2, size / 2),),
        (Point(size / 3, size / 3),),
        (Text("liver tumour"),),
    ]

    def logits(device: torch.device, precision: Precision, **settings: Any) -> torch.Tensor:
        model = bench.build("sam3-tiny", **settings).to(device)
        with torch.inference_mode(), autocast(device, precision):
            answers: torch.Tensor = model.decode(model.encode_image(bench.noise(size).to(device)), prompts).logits
        return answers.float().cpu()

    expected = logits(torch.device("cpu"), "fp32")
    found: dict[str, Any] = {"logits_spread": float(expected.std())}
    for precision in PRECISIONS:
        one = logits(bench.device, precision)
        found[precision] = _apart(one, expected)
        if precision != "fp32":
            halved = logits(bench.device, precision, weight_precision=precision)
            found[precision]["halved_weights_give_the_same_bits"] = torch.equal(halved, one)
    return found


def _apart(found: torch.Tensor, expected: torch.Tensor) -> dict[str, Any]:
    return {
        "largest_difference": float((found - expected).abs().max()),
        "pixels_that_differ": float(((found > 0) != (expected > 0)).float().mean()),
        "finite": bool(found.isfinite().all()),
    }


def inference(bench: Bench, precision: Precision, **settings: Any) -> dict[str, Any]:
    """Encoding a slice, the first click on a new one, and the next prompts on the same."""
    model = bench.build(**settings)
    size = model.spec.input_size
    pixels = bench.noise(size)
    box: Prompt = (Box(size / 4, size / 4, size / 2, size / 2),)
    click: Prompt = (Point(size / 3, size / 3),)
    found: dict[str, Any] = {"weights_gib": _gib(model)}
    with torch.inference_mode(), autocast(bench.device, precision):
        started = time.perf_counter()
        embedding = model.encode_image(pixels.to(bench.device))
        bench.wait()
        found["very_first_encode_ms"] = round(1000 * (time.perf_counter() - started), 1)

        def answer(*prompts: Prompt) -> torch.Tensor:
            logits: torch.Tensor = model.decode(embedding, prompts).logits.cpu()
            return logits

        def first() -> torch.Tensor:
            logits: torch.Tensor = model.decode(model.encode_image(pixels.to(bench.device)), [click]).logits.cpu()
            return logits

        found["encode"] = bench.measured(lambda: model.encode_image(pixels.to(bench.device)))
        found["first_click"] = bench.measured(first)
        for what, prompts in {"click": [click], "box": [box], "text": [(Text("liver tumour"),)]}.items():
            found[f"next_{what}"] = bench.measured(partial(answer, *prompts))
        if not settings.get("compile"):
            found[f"{MANY}_boxes"] = bench.measured(partial(answer, *[box] * MANY), repeats=2)
    return found


def _gib(model: torch.nn.Module) -> float:
    return round(sum(one.numel() * one.element_size() for one in model.parameters()) / GIB, 2)


def training_step(bench: Bench, precision: Precision, policy: str | None = None, **settings: Any) -> dict[str, Any]:
    """The trainer's step with one box: autocast, the same loss, AdamW, and loss scaling in fp16."""
    step, model = build_step(bench, precision, policy, **settings)
    started = time.perf_counter()
    losses = [step()]
    found: dict[str, Any] = {
        "very_first_ms": round(1000 * (time.perf_counter() - started), 1),
        "policy": model.lora_settings.policy,
        "trained": sum(one.numel() for one in trainable_parameters(model).values()),
    }
    found |= bench.measured(lambda: losses.append(step()))
    found["images_per_second"] = round(1000 / found["p50_ms"], 3)
    found["loss"] = {"first": losses[0], "last": losses[-1]}
    return found


def build_step(
    bench: Bench, precision: Precision, policy: str | None = None, **settings: Any
) -> tuple[Callable[[], float], Any]:
    """One step of the trainer, which gives its loss, and the adapted model; in a process group, of all ranks."""
    base = bench.build(**settings)
    size, device = base.spec.input_size, bench.device
    model: Any = adapt(base, LoraSettings(policy=policy))
    set_training_mode(model)
    optimizer = torch.optim.AdamW(trainable_parameters(model).values(), lr=1e-5)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    forward: Any = ForwardLoss(model, {"ct": bench.registry.build(LossSpec, "dice-focal", {}, modality="ct")})
    if torch.distributed.is_initialized():
        forward = torch.nn.parallel.DistributedDataParallel(
            forward, find_unused_parameters=True, gradient_as_bucket_view=True
        )
    pixels = bench.noise(size).to(device)
    target = torch.zeros(1, size, size, device=device)
    target[:, size // 4 : size // 2, size // 4 : size // 2] = 1.0
    prompts: list[Prompt] = [(Box(size / 4, size / 4, size / 2, size / 2),)]

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            terms = forward(pixels, prompts, target, [("ct", 1.0)])
        loss = torch.stack(list(terms.values())).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return float(loss.detach())

    return step, model


def tracker(bench: Bench, precision: Precision) -> dict[str, Any]:
    """SAM3's own tracker: the prompted slice, and each further one once its memory is full."""
    model = bench.build()
    size = model.spec.input_size
    with torch.inference_mode(), autocast(bench.device, precision):
        embedding = model.encode_image(bench.noise(size).to(bench.device))
        following = model.slice_tracker()
        found = {"start": bench.measured(lambda: following.start(embedding, (Point(size / 3, size / 3),)))}
        for _ in range(8):
            following.follow(embedding)

        def follow() -> torch.Tensor:
            logits: torch.Tensor = following.follow(embedding).logits.cpu()
            return logits

        return {**found, "slice_without_encoding": bench.measured(follow)}


def attention(bench: Bench) -> dict[str, Any]:
    """Encoding in bf16 with each kernel of the trunk's attention, and with channels last."""
    found: dict[str, Any] = {}
    choices: dict[str, dict[str, Any]] = {
        kernel: {"attention": kernel} for kernel in ("flash", "cudnn", "efficient", "math")
    }
    for what, settings in {"auto": {}, **choices, "channels last": {"channels_last": True}}.items():
        model = bench.build(**settings)
        pixels = bench.noise(model.spec.input_size).to(bench.device)
        try:
            with torch.inference_mode(), autocast(bench.device, "bf16"):
                found[what] = bench.measured(partial(model.encode_image, pixels))
        except torch.OutOfMemoryError:
            found[what] = "out of memory"
        del model
    return found


def two_ranks(bench: Bench) -> dict[str, Any]:
    """The step in two processes, a device each (NCCL; gloo on a CPU)."""
    from gpu_ranks import run_ranks

    if bench.device.type == "cuda" and torch.cuda.device_count() < 2:
        raise SkippedError(f"{torch.cuda.device_count()} CUDA device; two ranks need two")
    return run_ranks(bench.options)


def litemedsam_training(bench: Bench) -> dict[str, Any]:
    """The trainer's throughput beside a bare loop, and how long it waits for data."""
    from gpu_training import compare

    return compare(bench)


def work(pipe: Connection, options: Options, policies: list[str]) -> None:
    """Measure the parts whose names come through the pipe, until it is closed."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    bench, parts = Bench(options), all_parts(policies)
    while True:
        try:
            name = pipe.recv()
        except EOFError:
            return
        pipe.send(outcome(bench, parts[name]))


def _end_with(parent: int) -> None:
    """Leave the device when the process that asked has been killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def outcome(bench: Bench, part: Part) -> dict[str, Any]:
    """What was measured, or why not; running out of memory is a result."""
    started = time.perf_counter()
    try:
        found = {"status": "done", **part.run(bench)}
    except (torch.OutOfMemoryError, MemoryError) as error:
        found = {"status": "out of memory", "reason": _line(error)}
    except SkippedError as error:
        found = {"status": "skipped", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - the other parts are measured all the same
        found = {"status": "failed", "reason": _line(error)}
    finally:
        gc.collect()
        torch.compiler.reset()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    return {**found, "seconds": round(time.perf_counter() - started, 1)}


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
