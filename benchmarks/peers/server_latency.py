"""How long a prompt takes over HTTP, and how much of that is not the engine.

The chest CT of the samples as a DICOM series, LiteMedSAM, a server of its own process on loopback, one user. Boxes
and clicks around the tumour, each prompt another one, so that no answer is an earlier one's.

    python benchmarks/peers/server_latency.py                       # engine auto, 32-bit
    python benchmarks/peers/server_latency.py --precision bf16
    python benchmarks/peers/server_latency.py --engine torch

The record ``server_latency.json`` has an entry for each engine and precision; entries of other runs stay.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from server_parts import TUMOUR, free_port, series_folder, started

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_client import RemoteSession, Server
from oncoseg_core import load_plugins
from oncoseg_dicom import find_series, read_voxels
from oncoseg_segment import api

PROMPTS = 120


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto", choices=("auto", "torch", "onnxruntime", "openvino"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="of each kind and situation")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = series_folder(Path(scratch), "lung2")
        found = measured(Path(scratch), folder, arguments.engine, arguments.precision, arguments.prompts)
    path = arguments.output / "server_latency.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["found"]["runs"] if path.is_file() else []
    same = (arguments.engine, arguments.precision)
    runs = [one for one in runs if (one["engine"], one["precision"]) != same] + [found]
    record(
        "server_latency",
        f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}",
        {"runs": runs},
        arguments.output,
    )
    print(json.dumps(found, indent=2))


def measured(scratch: Path, folder: Path, engine: str, precision: str, prompts: int) -> dict[str, Any]:
    """All situations of one engine."""
    model = {"model": "litemedsam", "model_settings": {"engine": engine}, "precision": precision}
    found: dict[str, Any] = {
        "engine": engine,
        "precision": precision,
        "series": "lung2 (61 x 512 x 512)",
        "prompts": prompts,
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    with running(scratch, folder, model, {"embeddings_mb": 1024}, ahead=True) as session:
        z = TUMOUR["slice"]
        session.box("warm", z, (300, 320, 390, 400))
        time.sleep(1)
        found["next prompt, box"] = times(prompts, box_at(session, itertools.repeat(z)))
        found["next prompt, click"] = times(prompts, click_at(session, itertools.repeat(z)))
        found["first prompt on a slice encoded ahead, box"] = encoded_ahead(session, prompts, box_at)
        found["bytes of an answer"] = max(len(json.dumps(session.answer)), 0)
    with running(scratch, folder, model, {"embeddings_mb": 5}, ahead=False) as session:
        slices = itertools.cycle(range(session.image["slices"]))
        found["first prompt on a cold slice, box"] = times(prompts, box_at(session, slices))
    found["bare engine, next prompt, box"], found["bare engine, next prompt, click"] = bare(folder, model, prompts)
    for kind in ("box", "click"):
        over = found[f"next prompt, {kind}"]["p95_ms"] - found[f"bare engine, next prompt, {kind}"]["p95_ms"]
        found[f"overhead at p95, {kind}, ms"] = round(over, 1)
    return found


def places() -> Iterator[tuple[float, float]]:
    """Shifts of the prompt, no two alike within 400."""
    random = np.random.default_rng(0)
    while True:
        yield float(random.uniform(-6, 6)), float(random.uniform(-6, 6))


def box_at(session: RemoteSession, slices: Iterator[int]) -> Callable[[], Any]:
    """The next prompt: a box."""
    shifts = places()
    x0, y0, x1, y1 = TUMOUR["box"]

    def prompt() -> Any:
        dx, dy = next(shifts)
        return session.box("tumour", next(slices), (x0 + dx, y0 + dy, x1 + dx, y1 + dy))

    return prompt


def click_at(session: RemoteSession, slices: Iterator[int]) -> Callable[[], Any]:
    """The next prompt: a click."""
    shifts = places()
    x, y = TUMOUR["centre"]

    def prompt() -> Any:
        dx, dy = next(shifts)
        return session.point("tumour", next(slices), x + dx, y + dy, replace=True)

    return prompt


def encoded_ahead(session: RemoteSession, prompts: int, kind: Callable[..., Callable[[], Any]]) -> dict[str, Any]:
    """The user scrolls, looks for three seconds, and prompts; the series is opened anew after each pass through it."""
    slices = range(2, session.image["slices"], 3)
    taken: list[float] = []
    missed = 0
    order = itertools.cycle(slices)
    prompt_slices: list[int] = []
    prompt = kind(session, iter(lambda: prompt_slices[-1], None))
    seen: set[int] = set()
    while len(taken) < min(prompts, len(slices)):
        index = next(order)
        if index in seen:
            break
        seen.add(index)
        session.view(index)
        time.sleep(3)
        prompt_slices.append(index)
        start = time.perf_counter()
        answer = prompt()
        taken.append(time.perf_counter() - start)
        missed += answer["timing_ms"].get("encode", 0) > 1
    return {**summary(taken), "not encoded in time": missed}


def times(count: int, prompt: Callable[[], Any]) -> dict[str, Any]:
    """Wall time of each prompt, and where it went by the server's own account."""
    taken, stages = [], []
    for _ in range(count):
        start = time.perf_counter()
        answer = prompt()
        taken.append(time.perf_counter() - start)
        if isinstance(answer, dict):
            stages.append(answer["timing_ms"])
    found = summary(taken)
    if stages:
        found["stages_median_ms"] = {
            name: round(statistics.median(one[name] for one in stages), 1) for name in stages[0]
        }
    return found


def summary(taken: list[float]) -> dict[str, Any]:
    """Median and 95th percentile in ms."""
    return {
        "median_ms": round(1000 * statistics.median(taken), 1),
        "p95_ms": round(1000 * float(np.quantile(taken, 0.95)), 1),
        "n": len(taken),
    }


def bare(folder: Path, model: dict[str, Any], prompts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same prompts on a session in this process."""
    volume = read_voxels(find_series(folder))
    with api.Session(volume, api.SegmentSettings(**model), registry=load_plugins()) as session:
        found = []
        for kind, numbers in (("box", TUMOUR["box"]), ("point", TUMOUR["centre"])):
            shifts = places()

            def prompt(kind: Any = kind, numbers: Any = numbers, shifts: Any = shifts) -> None:
                shift = next(shifts) * (len(numbers) // 2)
                moved = tuple(number + by for number, by in zip(numbers, shift, strict=True))
                hint = api.Hint(kind, moved)
                session.add(api.StructureRequest("tumour", (hint,), slice_index=TUMOUR["slice"]), replaced=True)

            prompt()
            found.append(times(prompts, prompt))
    return found[0], found[1]


@contextmanager
def running(
    scratch: Path, folder: Path, model: dict[str, Any], limits: dict[str, Any], *, ahead: bool
) -> Iterator[RemoteSession]:
    """A server with one session on the series."""
    port = free_port()
    settings = {
        "port": port,
        "models": {"litemedsam": model},
        "sources": {"scans": {"folder": {"path": str(folder)}}},
        "limits": limits,
        "encode_ahead": {"enabled": ahead},
    }
    config = scratch / "server.yaml"
    config.write_text(yaml.safe_dump(settings))
    with (scratch / "server.log").open("ab") as log:
        process = subprocess.Popen(["oncoseg", "serve", str(config)], stdout=log, stderr=log)
    try:
        with Server(f"http://127.0.0.1:{port}") as server:
            started(server, process, scratch / "server.log")
            series = server.series("scans")[0]
            with server.open("scans", series["study_uid"], series["series_uid"]) as session:
                yield session
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    main()
