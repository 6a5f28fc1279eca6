"""Two processes that train one model together, for ``gpu.py``."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from gpu_parts import Bench, Options, build_step

from oncoseg_lora import trainable_parameters

RANKS = 2


def run_ranks(options: Options) -> dict[str, Any]:
    """The step's time on the first rank, and whether all have the same weights after it."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            context.Process(target=_rank, args=(rank, Path(folder) / "meeting", options, answers))
            for rank in range(RANKS)
        ]
        try:
            for one in ranks:
                one.start()
            for one in ranks:
                one.join()
        finally:
            for one in ranks:
                one.kill()
    codes = [one.exitcode for one in ranks]
    if any(codes):
        raise RuntimeError(f"the ranks ended with {codes}")
    found: dict[str, Any] = answers.get()
    return found


def _rank(rank: int, meeting: Path, options: Options, answers: Any) -> None:
    cuda = options.device == "cuda"
    for library in ("GLOO", "NCCL"):  # both ranks are here, and there may be no network
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
    if cuda:
        torch.cuda.set_device(rank)
    backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    bench = Bench(options._replace(device=f"cuda:{rank}" if cuda else "cpu"))
    step, model = build_step(bench, "bf16" if cuda else "fp32")
    # Every rank takes the same number of steps: it is counted, not timed.
    bench.options = bench.options._replace(seconds=1e6, repeats=min(options.repeats, 10))
    found = bench.measured(step)
    weights = torch.stack([one.detach().double().sum() for one in trainable_parameters(model).values()]).to(
        bench.device
    )
    all_weights = [torch.empty_like(weights) for _ in range(RANKS)]
    dist.all_gather(all_weights, weights)
    if rank == 0:
        same = all(torch.equal(one, weights) for one in all_weights)
        images = round(1000 * RANKS / found["p50_ms"], 3)
        answers.put({"backend": backend, **found, "images_per_second": images, "same_weights": same})
    dist.destroy_process_group()
