"""What the node adds to segmenting: writing, sending and confirming 32 structures on 512 x 512 x 200.

Generated: a CT series of 200 slices of 512 x 512 pixels and 32 structures of many sizes that overlap, as organs do.
They lie on disk as bits and are taken one at a time, as the node's worker does. The objects go by C-STORE to the
demonstration's archive in a process of its own on loopback, which keeps them and gives them back by C-FIND and C-GET.
Memory is the most that the process held, libraries included; ``others_running`` is the machine's load of the last five
minutes, on two cores. No patient, no planning system.

    python benchmarks/peers/node_overhead.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rtstruct_write import clocks, named_masks, peak_mb, write_the_series

from oncoseg_benchmarks.record import record, require
from oncoseg_core import BoolArray

SHAPE, STRUCTURES = (200, 512, 512), 32
LIMIT_SECONDS, LIMIT_MB = 60, 4096
"""Of the node's whole overhead; receiving, checking and the report have parts of it too."""


def main() -> None:
    """Measure in a process of its own, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="small, and recorded nowhere: does it run?")
    parser.add_argument("--work", type=Path, help="where files are made (default: a temporary folder)")
    arguments = parser.parse_args()
    shape, structures = ((12, 64, 64), 5) if arguments.dry else (SHAPE, STRUCTURES)
    with tempfile.TemporaryDirectory(dir=arguments.work) as name:
        folder = Path(name)
        write_inputs(folder, shape, structures)
        found = {"shape": shape, "structures": structures} | in_a_fresh_process(folder)
    found |= {"limit_seconds": LIMIT_SECONDS, "limit_mb": LIMIT_MB}
    if arguments.dry:
        print(json.dumps(found, indent=2))
    else:
        print(record("node_overhead", f"python benchmarks/peers/{Path(__file__).name}", found).read_text())


def write_inputs(folder: Path, shape: tuple[int, int, int], structures: int) -> None:
    """The series and the masks, as bits."""
    write_the_series(folder / "job" / "images", shape)
    (folder / "masks").mkdir()
    for number, (_, mask) in enumerate(named_masks(shape, structures)):
        np.save(folder / "masks" / f"Part_{number:02d}.npy", np.packbits(mask))


class Masks(Mapping[str, BoolArray]):
    """Masks on disk, one at a time."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._files = {path.stem: path for path in sorted(folder.iterdir())}
        self._shape = shape

    def __getitem__(self, name: str) -> BoolArray:
        bits = np.load(self._files[name])
        return np.unpackbits(bits, count=int(np.prod(self._shape))).reshape(self._shape).view(bool)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def in_a_fresh_process(folder: Path) -> dict[str, Any]:
    """Run :func:`measure` by itself, so that its memory is its own."""
    code = (
        f"import json, pathlib, node_overhead; print(json.dumps(node_overhead.measure(pathlib.Path({str(folder)!r}))))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path) -> dict[str, Any]:
    """Seconds of each step and the peak of memory after it."""
    from oncoseg_dicom import find_series
    from oncoseg_node.config.settings import DicomDestination, NodeSettings
    from oncoseg_node.records.job import Job, State
    from oncoseg_node.records.results import CheckedStructure, Made, UsedModel
    from oncoseg_node.sending import confirm, send
    from oncoseg_node.writing import write

    found: dict[str, Any] = {"steps": {}}

    def note(step: str, started: np.ndarray) -> None:
        seconds, processor = clocks() - started
        found["steps"][step] = {
            "seconds": round(float(seconds), 2),
            "processor_seconds": round(float(processor), 2),
            "peak_mb": round(peak_mb()),
        }
        print(step, found["steps"][step], file=sys.stderr, flush=True)

    started = clocks()
    series = find_series(folder / "job" / "images")
    note("find the series", started)
    rule = {"name": "any", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["maker"]}
    settings = NodeSettings(data=folder / "data", receive={}, rules=[rule], models={"maker": {"model": "atlas"}})
    uids = (str(series.header.StudyInstanceUID), str(series.header.SeriesInstanceUID))
    job = Job(
        id=1, study_uid=uids[0], series_uid=uids[1], folder=folder / "job", state=State.CHECKED, rule="any",
        created=1.7e9, changed=1.7e9,
    )  # fmt: skip
    used = UsedModel(key="maker", component="atlas", version="1", weights_sha256="0" * 64, seconds=1)
    masks = Masks(folder / "masks", series.geometry.shape)
    checked = [CheckedStructure(name=name, decision="written", model="maker", source=name) for name in masks]
    started = clocks()
    objects = write(job, settings, Made(structures=(), models=(used,)), checked, masks, series)
    note("write", started)
    found["bytes"] = {one.format: one.path.stat().st_size for one in objects}
    with archive_process(folder / "archive") as port:
        destination = DicomDestination(
            kind="dicom", host="127.0.0.1", port=port, ae_title="DEMO-ARCHIVE", formats=("rtstruct", "seg")
        )
        for step in (send, confirm):
            started = clocks()
            deliveries = step(objects, "archive", destination)
            note(step.__name__, started)
            status = {"send": "stored", "confirm": "confirmed"}[step.__name__]
            require({one.status for one in deliveries} == {status}, str(deliveries))
    found["seconds"] = round(sum(step["seconds"] for step in found["steps"].values()), 1)
    found["processor_seconds"] = round(sum(step["processor_seconds"] for step in found["steps"].values()), 1)
    found["peak_mb"] = round(peak_mb())
    found["others_running"] = round(os.getloadavg()[1], 1)
    return found


@contextmanager
def archive_process(folder: Path) -> Iterator[int]:
    """The port of a receiver that runs for as long as the context lasts."""
    code = (
        "import pathlib, sys; from oncoseg_node.demo.archive import DemoArchive\n"
        "with DemoArchive(pathlib.Path(sys.argv[1])) as archive:\n"
        "    print(archive.port, flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it is piped
        yield int(process.stdout.readline())
    finally:
        process.communicate(timeout=30)


if __name__ == "__main__":
    main()
