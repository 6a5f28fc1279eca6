"""Writing an RT Structure Set side by side with rt-utils: time, size and memory for 30 structures.

Generated: a CT series of 200 slices of 512 x 512 pixels, and structures of many sizes: balls, tubes, hollow balls,
ellipsoids with many small holes, and groups of small lesions. Each library is measured in processes of its own, by
turns; by the clock, and in processor time, which other work on the machine does not change. OncoSeg's time includes
reading the file back and comparing every voxel; rt-utils does neither. Memory is what the process needs at most while
it writes, above what it holds with the masks and the series loaded.

    python benchmarks/peers/rtstruct_write.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import BoolArray

SHAPE = (200, 512, 512)
STRUCTURES = 30
REPEATS = 3


def main() -> None:
    """Measure both, by turns, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="small, and recorded nowhere: does it run?")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    shape, structures, repeats = ((20, 64, 64), 5, 1) if arguments.dry else (SHAPE, STRUCTURES, REPEATS)
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        folder = Path(name)
        write_the_series(folder / "series", shape)
        runs: dict[str, list[dict[str, float]]] = {"oncoseg": [], "rt_utils": []}
        for _ in range(repeats):
            for library, found in runs.items():
                found.append(in_a_fresh_process(library, folder, shape, structures))
    found = {"shape": shape, "structures": structures, "mask_mb": np.prod(shape) / 2**20} | summary(runs)
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        print(record("rtstruct_write", f"python benchmarks/peers/{Path(__file__).name}", found).read_text())


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Each library's numbers, and ours as parts of theirs, run by run."""
    found: dict[str, Any] = {
        library: {key: spread([run[key] for run in measured]) for key in measured[0]}
        for library, measured in runs.items()
    }
    for key in ("write_seconds", "write_processor_seconds", "load_and_write_seconds", "bytes"):
        ratios = [ours[key] / theirs[key] for ours, theirs in zip(runs["oncoseg"], runs["rt_utils"], strict=True)]
        found[f"{key}_ratio"] = spread(ratios)
    mask_mb = statistics.median(run["mask_mb"] for run in runs["oncoseg"])
    above = [run["peak_mb_above_input"] / mask_mb for run in runs["oncoseg"]]
    return found | {"oncoseg_peak_in_masks": spread(above)}


def in_a_fresh_process(library: str, folder: Path, shape: tuple[int, int, int], structures: int) -> dict[str, float]:
    """Run one of this module's measurements by itself, so that its memory is its own."""
    code = (
        "import json, pathlib, rtstruct_write as measurement; "
        f"print(json.dumps(measurement.{library}(pathlib.Path({str(folder)!r}), {shape}, {structures})))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def oncoseg(folder: Path, shape: tuple[int, int, int], structures: int) -> dict[str, float]:
    """The ``rtstruct`` exporter's own work."""
    from oncoseg_core import Segmentation
    from oncoseg_dicom import find_series
    from oncoseg_dicom.rtstruct.write import RTStructSettings, write_structures

    masks = dict(named_masks(shape, structures))
    settings = RTStructSettings(source=folder / "series")
    started = clocks()
    series = find_series(settings.source)
    loaded = clocks()
    before = start_of_peak()
    write_structures(Segmentation(masks, series.geometry), series, folder / "oncoseg.dcm", settings)
    return numbers(started, loaded, before, folder / "oncoseg.dcm", masks)


def rt_utils(folder: Path, shape: tuple[int, int, int], structures: int) -> dict[str, float]:
    """rt-utils as its README shows it; its masks are views of the same arrays, whose slices lie together in memory."""
    from rt_utils import RTStructBuilder

    masks = dict(named_masks(shape, structures))
    started = clocks()
    builder = RTStructBuilder.create_new(str(folder / "series"))
    loaded = clocks()
    before = start_of_peak()
    for name, mask in masks.items():
        builder.add_roi(np.moveaxis(mask, 0, 2), name=name)
    builder.save(str(folder / "rt_utils.dcm"))
    return numbers(started, loaded, before, folder / "rt_utils.dcm", masks)


def clocks() -> np.ndarray:
    """Seconds by the clock, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def numbers(
    started: np.ndarray, loaded: np.ndarray, before: float, path: Path, masks: dict[str, BoolArray]
) -> dict[str, float]:
    """What is told of a run."""
    whole, writing = clocks() - started, clocks() - loaded
    return {
        "load_and_write_seconds": float(whole[0]),
        "write_seconds": float(writing[0]),
        "write_processor_seconds": float(writing[1]),
        "bytes": path.stat().st_size,
        "peak_mb_above_input": peak_mb() - before,
        "input_mb": sum(mask.nbytes for mask in masks.values()) / 2**20,
        "mask_mb": next(iter(masks.values())).nbytes / 2**20,
    }


def write_the_series(folder: Path, shape: tuple[int, int, int]) -> None:
    """Slices of nothing: 0.8 mm pixels, 2 mm apart."""
    from oncoseg_dicom.series.write_series import write_series

    origins = [(-200.0, -180.0, -300.0 + 2 * index) for index in range(shape[0])]
    write_series(folder, np.zeros(shape, dtype=np.int16), origins, pixel_spacing=(0.8, 0.8))


def named_masks(shape: tuple[int, int, int], structures: int) -> Iterator[tuple[str, BoolArray]]:
    """Structures of many sizes and kinds, the same every time."""
    rng = np.random.default_rng(0)
    size = np.array(shape)
    for number in range(structures):
        mask = np.zeros(shape, dtype=bool)
        radii = rng.uniform(0.03, 0.22) * size[[1, 1, 2]] * (0.4, 1, 1)
        kind = number % 5
        if kind == 4:
            for _ in range(12):
                place(mask, rng.uniform(0.15, 0.85, 3) * size, rng.uniform(0.006, 0.03) * size[[1, 1, 2]], rng, kind)
        else:
            place(mask, rng.uniform(0.35, 0.65, 3) * size, np.maximum(radii, 3), rng, kind)
        yield f"structure {number}", mask


def place(mask: BoolArray, centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator, kind: int) -> None:
    """Set a ball (0, 4), tube (1), hollow ball (2) or ellipsoid with holes (3) in its bounding box."""
    low = np.maximum(np.floor(centre - radii), 0).astype(int)
    high = np.minimum(np.ceil(centre + radii) + 1, mask.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = ((np.arange(a, b, dtype=np.float32) - c) / r for a, b, c, r in zip(low, high, centre, radii, strict=True))
    in_plane = (y**2)[:, None] + (x**2)[None]
    distance = in_plane[None] + (0 if kind == 1 else (z**2)[:, None, None])
    found = np.broadcast_to(distance < 1, mask[part].shape).copy()
    if kind in (1, 2):
        found &= distance > 0.5
    if kind == 3:
        holes = rng.random(tuple(-(-side // 4) for side in found.shape)) < 0.03
        found &= ~np.kron(holes, np.ones((4, 4, 4), dtype=bool))[tuple(slice(side) for side in found.shape)]
    mask[part] |= found


def start_of_peak() -> float:
    """MB that the process holds now; its peak is counted from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb() -> float:
    """The most that the process has held since the peak was last set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
