"""What it costs to send an image as voxels and to get it back, and whether prompts on it take longer than on a series.

The chest CT of the samples as a DICOM series on a server of its own process on loopback; its voxels are fetched, sent
as an image, and sent as a larger one (the same slices again and again, up to ``--slices``). Memory is the peak of
resident memory over what it was before, of the server and of the client. Then a hundred strokes of a brush (drawn
discs) on the large image, and the time to resume the session that they make.

    python benchmarks/peers/server_volumes.py                       # 512 x 512 x 200
    python benchmarks/peers/server_volumes.py --slices 1000
    python benchmarks/peers/server_volumes.py --slices 61 --prompts 5 --output /tmp   # to try it

The record ``server_volumes.json`` has an entry for each number of slices; entries of other runs stay.
"""

from __future__ import annotations

import argparse
import json
import os
import re
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

from oncoseg_benchmarks.record import RESULTS, record, require
from oncoseg_client import RemoteSession, Server, Voxels

MB = 1e6


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=200, help="of the large image")
    parser.add_argument("--prompts", type=int, default=60, help="on the series and on the image sent")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measured(Path(scratch), arguments.slices, arguments.prompts)
    path = arguments.output / "server_volumes.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["found"]["runs"] if path.is_file() else []
    runs = [one for one in runs if one["slices"] != found["slices"]] + [found]
    record(
        "server_volumes",
        f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".strip(),
        {"runs": runs},
        arguments.output,
    )
    print(json.dumps(found, indent=2))


def measured(scratch: Path, slices: int, prompts: int) -> dict[str, Any]:
    """All of it, on one server."""
    folder = series_folder(scratch, "lung2")
    with running(scratch, folder) as (server, process):
        series = server.series("scans")[0]
        of_series = server.open("scans", series["study_uid"], series["series_uid"])
        fetched = of_series.voxels()
        whole = np.rint(fetched.array).astype(np.int16)
        require(bool((whole == fetched.array).all()), "the HU of a CT are whole numbers")
        small = Voxels(whole, fetched.affine, fetched.modality, fetched.slice_origins)
        found: dict[str, Any] = {"slices": slices, "load": f"{os.getloadavg()[0]:.1f}"}
        with server.open_volume(small) as of_image:
            found["next prompt, box"] = latency(of_series, of_image, prompts)
        large = Voxels(np.resize(whole, (slices, *whole.shape[1:])), fetched.affine, fetched.modality)
        found["megabytes"] = round(large.array.nbytes / MB)
        require(server.open_volume(Voxels(whole[:1], fetched.affine, "ct")).close() is None, "warm")
        found["sent"], session = transfer(process, large.array.nbytes, lambda: server.open_volume(large))
        post = re.findall(r"POST /api/v1/volumes 201 (\d+) ms", (scratch / "server.log").read_text())[-1]
        found["sent"]["seconds of the transfer alone"] = int(post) / 1000
        found["sent"]["MB/s of the transfer alone"] = round(large.array.nbytes / MB / max(int(post) / 1000, 1e-3))
        found["fetched"], back = transfer(process, large.array.nbytes, session.voxels)
        require(bool((back.array == large.array).all()), "what came back is what was sent")
        found["drawn masks"] = drawn(session, slices, whole.shape[1:])
        return found


def drawn(session: RemoteSession, slices: int, plane: tuple[int, ...]) -> dict[str, Any]:
    """A stroke on one slice of a structure that half of the slices hold, and a session of a hundred such strokes."""
    rows, columns = np.indices(plane)
    random = np.random.default_rng(0)

    def disc() -> Any:
        y, x = random.uniform(200, 300, 2)
        return (rows - y) ** 2 + (columns - x) ** 2 < random.uniform(40, 70) ** 2

    session.edit("large", {index: disc() for index in range(0, slices, 2)})
    taken = []
    for number in range(100):
        mask = disc()
        start = time.perf_counter()
        session.edit("large" if number % 2 else "small", {2 * (number % 20): mask})
        taken.append(time.perf_counter() - start)
    start = time.perf_counter()
    session.reopen()
    seconds = time.perf_counter() - start
    of_large = taken[1::2]
    return {
        "slices of the structure": len(range(0, slices, 2)),
        "stroke, median_ms": round(1000 * statistics.median(of_large), 1),
        "stroke, p95_ms": round(1000 * float(np.quantile(of_large, 0.95)), 1),
        "steps resumed": len(session.steps),
        "seconds to resume": round(seconds, 2),
    }


def transfer(
    process: subprocess.Popen[bytes], size: int, call: Callable[[], Any]
) -> tuple[dict[str, Any], RemoteSession | Any]:
    """Time and peak memory of a call, on both sides."""
    before = [resident(pid, "VmRSS") for pid in (process.pid, os.getpid())]
    for pid in (process.pid, os.getpid()):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    start = time.perf_counter()
    got = call()
    seconds = time.perf_counter() - start
    peaks = [resident(pid, "VmHWM") for pid in (process.pid, os.getpid())]
    names = ("server", "client")
    found: dict[str, Any] = {"seconds": round(seconds, 2), "MB/s": round(size / MB / seconds)}
    for name, first, peak in zip(names, before, peaks, strict=True):
        found[f"peak of the {name} over before, MB"] = round((peak - first) / MB)
        found[f"peak of the {name} in sizes of the image"] = round((peak - first) / size, 2)
    return found, got


def resident(pid: int, what: str) -> int:
    """Bytes of a line of ``/proc/<pid>/status``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def latency(of_series: RemoteSession, of_image: RemoteSession, prompts: int) -> dict[str, Any]:
    """The same boxes on both by turns, so that whatever else runs meets both alike."""
    sessions = {"series": of_series, "image sent": of_image}
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    x0, y0, x1, y1 = TUMOUR["box"]
    random = np.random.default_rng(0)
    for number in range(prompts + 1):
        dx, dy = random.uniform(-6, 6, 2)
        for name, session in sessions.items():
            start = time.perf_counter()
            session.box("tumour", TUMOUR["slice"], (x0 + dx, y0 + dy, x1 + dx, y1 + dy))
            if number:  # the first one encodes
                taken[name].append(time.perf_counter() - start)
        same = np.array_equal(of_series.mask("tumour"), of_image.mask("tumour"))
        require(same, "the masks on the image sent are those on the series")
    found: dict[str, Any] = {
        name: {
            "median_ms": round(1000 * statistics.median(times), 1),
            "p95_ms": round(1000 * float(np.quantile(times, 0.95)), 1),
            "n": len(times),
        }
        for name, times in taken.items()
    }
    found["ratio of medians"] = round(found["image sent"]["median_ms"] / found["series"]["median_ms"], 3)
    return found


@contextmanager
def running(scratch: Path, folder: Path) -> Iterator[tuple[Server, subprocess.Popen[bytes]]]:
    """A server with the series; nothing is encoded ahead."""
    port = free_port()
    settings = {
        "port": port,
        "models": {"litemedsam": {"model": "litemedsam"}},
        "sources": {"scans": {"folder": {"path": str(folder)}}},
        "encode_ahead": {"enabled": False},
    }
    config = scratch / "server.yaml"
    config.write_text(yaml.safe_dump(settings))
    with (scratch / "server.log").open("ab") as log:
        process = subprocess.Popen(["oncoseg", "serve", str(config)], stdout=log, stderr=log)
    try:
        with Server(f"http://127.0.0.1:{port}") as server:
            started(server, process, scratch / "server.log")
            yield server, process
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    main()
