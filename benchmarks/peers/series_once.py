"""What ``oncoseg export`` of a mask to RTSTRUCT costs beyond one header pass, one write and one read-back.

Generated: a CT series of 300 slices of 512 x 512 pixels, and a label image of one ellipsoid. Measured in a process of
its own, by turns with another checkout where one is given (``--before``): the parts by themselves, then the command.
Of the command's time, that for recognising the folder, header passes and exporting is compared with the parts
(``series_and_export``); the rest reads the pixels and the mask, measures the structure and hashes the image. Counted:
how often the folder is recognised and its headers are parsed, for RTSTRUCT alone and for RTSTRUCT with SEG. Both by the
clock and in processor time, which other work on the machine hardly changes.

    python benchmarks/peers/series_once.py --before CHECKOUT
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_benchmarks.record import record, spread
from oncoseg_core import BoolArray

SHAPE = (300, 512, 512)
REPEATS = 3
CLOCKS = ("seconds", "processor_seconds")
CHECKOUT = Path(__file__).parents[2]


def main() -> None:
    """Measure this checkout, and another by turns, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="an older checkout to compare with")
    parser.add_argument("--dry", action="store_true", help="small, and recorded nowhere: does it run?")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    shape, repeats = ((12, 64, 64), 1) if arguments.dry else (SHAPE, REPEATS)
    checkouts = {"after": CHECKOUT} | ({} if arguments.before is None else {"before": arguments.before.resolve()})
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        folder = Path(name)
        write_inputs(folder, shape)
        for _ in range(repeats):
            for which, checkout in checkouts.items():
                runs[which].append(in_a_fresh_process(checkout, folder))
    found: dict[str, Any] = {"shape": shape}
    if arguments.before is not None:
        found["before commit"] = commit_of(arguments.before)
    found |= {which: summary(runs[which]) for which in reversed(checkouts)}
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        option = "" if arguments.before is None else " --before CHECKOUT"
        print(record("series_once", f"python benchmarks/peers/{Path(__file__).name}{option}", found).read_text())


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Spreads of the times and of the ratios, each of which comes from one run; and the counts, the same in all."""
    found: dict[str, Any] = {}
    for clock, name in enumerate(CLOCKS):
        times = [{key: both[clock] for key, both in run["times"].items()} for run in runs]
        parts = [sum(run[key] for key in ("header_pass", "write", "read_back")) for run in times]
        found[name] = {key: spread([run[key] for run in times]) for key in times[0]}
        for key in ("series_and_export", "whole_export"):
            ratios = [run[key] / part for run, part in zip(times, parts, strict=True)]
            found[f"{key}_ratio_of_{name}"] = spread(ratios)
    return found | {"passes": runs[0]["passes"]}


def in_a_fresh_process(checkout: Path, folder: Path) -> dict[str, Any]:
    """Run :func:`measure` with the packages of a checkout."""
    sources = [
        checkout,
        *sorted(checkout.glob("plugins/*/src")),
        checkout / "benchmarks" / "src",
        Path(__file__).parent,
    ]
    code = f"import json, pathlib, series_once; print(json.dumps(series_once.measure(pathlib.Path({str(folder)!r}))))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, Any]:
    """The parts, then the command, with everything imported and the files in memory before."""
    import pydicom

    from oncoseg_core import Segmentation, load_plugins
    from oncoseg_dicom.rtstruct.read import read_structures
    from oncoseg_dicom.rtstruct.write import RTStructSettings, write_structures
    from oncoseg_segment.files.export_masks import ExportRequest, export_masks

    registry, series_folder, out = load_plugins(), folder / "series", folder / "part.dcm"
    _, find_series = header_pass()

    def export(*outputs: str) -> None:
        named = [output.replace("=", f"={folder}/") for output in outputs]
        export_masks(registry, ExportRequest(folder / "mask.nii.gz", series_folder, named, overwrite=True))

    passes = {}
    for outputs in (("rtstruct=a.dcm",), ("rtstruct=a.dcm", "seg=b.dcm")):
        with counting(series_folder) as counted:
            export(*outputs)
        passes[" and ".join(output.partition("=")[0] for output in outputs)] = dict(counted)

    times: dict[str, np.ndarray] = {}
    with timed(times, "header_pass"):
        series = find_series(series_folder)
    masks = {"label 1": ellipsoid(series.geometry.shape)}
    with timed(times, "write"):
        settings = RTStructSettings(source=series_folder)
        write_structures(Segmentation(masks, series.geometry), series, out, settings)
    with timed(times, "read_back"):
        read_structures(pydicom.dcmread(out), series)
    times["write"] = times["write"] - times["read_back"]  # an exporter reads back what it wrote

    with time_in_series_and_export() as spent, timed(times, "whole_export"):
        export("rtstruct=a.dcm")
    times["series_and_export"] = np.sum(list(spent.values()), axis=0)
    return {"times": {name: both.tolist() for name, both in times.items()}, "passes": passes}


def header_pass() -> tuple[str, Callable[..., Any]]:
    """What parses all headers of a series, and its name in ``oncoseg_dicom.series.search``; older: ``find``."""
    from oncoseg_dicom.series import search

    name = "find_series" if hasattr(search, "find_series") else "find"
    function = getattr(search, name)
    return name, lambda path: function(path, None)


@contextmanager
def timed(times: dict[str, np.ndarray], name: str) -> Iterator[None]:
    """Add the time of a block, by each of :data:`CLOCKS`."""
    started = clocks()
    try:
        yield
    finally:
        times[name] = times.get(name, np.zeros(len(CLOCKS))) + clocks() - started


def clocks() -> np.ndarray:
    """Seconds by the clock, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Put a wrapper in the place of a function for the time of a block."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def counting(series: Path) -> Iterator[Counter[str]]:
    """Count recognitions of the folder and parsed headers."""
    from oncoseg_dicom.reader import DicomReader
    from oncoseg_dicom.series import search

    counted: Counter[str] = Counter()

    def count_recognitions(recognises: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(self: Any, path: Path) -> Any:
            counted["recognitions"] += path == series
            return recognises(self, path)

        return wrapper

    def count_passes(find: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            counted["header passes"] += 1
            return find(*arguments, **options)

        return wrapper

    with replaced(DicomReader, "recognises", count_recognitions), replaced(search, header_pass()[0], count_passes):
        yield counted


@contextmanager
def time_in_series_and_export() -> Iterator[dict[str, np.ndarray]]:
    """Seconds spent in recognition and in header passes before the export, and in the export with what it calls."""
    from oncoseg_dicom.reader import DicomReader
    from oncoseg_dicom.rtstruct.write import RTStructExporter
    from oncoseg_dicom.series import search

    times: dict[str, np.ndarray] = {}
    running: list[str] = []

    def timing(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*arguments: Any, **options: Any) -> Any:
                if running:  # the time of whoever calls it
                    return function(*arguments, **options)
                running.append(name)
                try:
                    with timed(times, name):
                        return function(*arguments, **options)
                finally:
                    running.pop()

            return wrapper

        return make

    with (
        replaced(DicomReader, "recognises", timing("recognition")),
        replaced(search, header_pass()[0], timing("header pass")),
        replaced(RTStructExporter, "export", timing("export")),
    ):
        yield times


def write_inputs(folder: Path, shape: tuple[int, int, int]) -> None:
    """A series of noise with 0.8 mm pixels, 2 mm apart, and a label image on its grid."""
    from oncoseg_core import Segmentation
    from oncoseg_core.imaging import write_segmentation
    from oncoseg_dicom import find_series, write_series

    voxels = np.random.default_rng(0).integers(-1000, 1000, shape, dtype=np.int16)
    origins = [(-200.0, -180.0, -300.0 + 2 * index) for index in range(shape[0])]
    write_series(folder / "series", voxels, origins, pixel_spacing=(0.8, 0.8))
    geometry = find_series(folder / "series").geometry
    write_segmentation(Segmentation({"label 1": ellipsoid(shape)}, geometry), folder / "mask.nii.gz")


def ellipsoid(shape: tuple[int, int, int]) -> BoolArray:
    """In the middle, a fifth of each side in every direction."""
    z, y, x = (((np.arange(side) - side / 2) / (side / 5)) ** 2 for side in shape)
    return np.asarray(z[:, None, None] + y[:, None] + x < 1)


def commit_of(checkout: Path) -> str:
    """The commit that is checked out."""
    done = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main()
