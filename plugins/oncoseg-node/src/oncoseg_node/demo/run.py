"""The demonstration: a real CT goes to a node by C-STORE, and its structure set comes back to an archive."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.uid import RTStructureSetStorage

from oncoseg_core import Registry, UsageError
from oncoseg_dicom import (
    DEMONSTRATION_SERIES,
    Series,
    demonstration_series,
    first_difference,
    read_header,
    read_structures,
    series_of_files,
)
from oncoseg_node.demo.archive import DemoArchive
from oncoseg_node.demo.program import (
    NODE_TITLE,
    demo_settings,
    free_port,
    require_running,
    running_node,
    write_settings,
)
from oncoseg_node.demo.scanner import DemonstrationError, send_files
from oncoseg_node.queue.queue import open_queue
from oncoseg_node.records.job import ENDS, Job, State

Progress = Callable[[str, int, int], None]

FINISH_SECONDS = 600.0
"""How long the node may take for the series, on a slow machine."""

_STATES = (State.RECEIVED, State.COMPLETE, State.SEGMENTED, State.CHECKED, State.SENT, State.CONFIRMED)


class DemoStructure(NamedTuple):
    """A structure of the set that came back: its volume is that of the received contours."""

    name: str
    decision: str
    volume_ml: float | None
    confidence: float | None


class Demonstration(NamedTuple):
    """What came of it."""

    structures: tuple[DemoStructure, ...]
    rtstruct: Path
    report: Path
    settings: Path


def run_demo(
    registry: Registry, folder: Path, progress: Progress, *, port: int | None = None, cache: Path | None = None
) -> Demonstration:
    """Run a node, send it the sample CT, take back what it makes, and compare that with what it wrote.

    Args:
        registry: with the dataset ``samples``, for the first time.
        folder: empty or not there; settings, log, the node's data and the archive's objects go into it.
        progress: called as ``progress(what, done, of how many)``.
        port: for the node to listen on; any free one when omitted.
        cache: the folder that keeps the sample; ``demo`` in the user's cache when omitted.

    Raises:
        UsageError: the folder holds something, or a package is missing.
        DataError: the sample cannot be fetched; the message says what to do offline.
        StorageError: the folder cannot be written.
        DemonstrationError: a part of it failed; the message says which.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: the demonstration writes a new folder; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    files = _images(demonstration_series(registry, progress, cache))
    settings, log, data = folder / "node.yaml", folder / "node.log", folder / "data"
    chosen = port or free_port()
    with DemoArchive(folder / "archive") as archive:
        write_settings(settings, demo_settings(data, chosen, archive.port))
        progress("starting the node", 0, 1)
        with running_node(settings, chosen, log) as process:
            progress("starting the node", 1, 1)
            send_files(files, chosen, NODE_TITLE, progress)
            job = _finished(data, process, log, progress)
        received = archive.received(RTStructureSetStorage)
    report = job.out / "report.html"
    if job.state is not State.CONFIRMED:
        raise DemonstrationError(f"the node ended with {job.state}: {job.reason} (report: {report}, log: {log})")
    if len(received) != 1:
        raise DemonstrationError(f"{len(received)} structure sets came back, and one was expected (log: {log})")
    content = json.loads((job.out / "report.json").read_text(encoding="utf-8"))
    structures = _compared(received[0], job, series_of_files(files), content)
    return Demonstration(structures, received[0], report, settings)


def _images(folder: Path) -> list[Path]:
    """The sample's files alone: results that somebody saved may lie beside them."""
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".dcm")
    return [
        path for path in paths if read_header(path, ("SeriesInstanceUID",)).SeriesInstanceUID == DEMONSTRATION_SERIES
    ]


def _finished(data: Path, process: subprocess.Popen[bytes], log: Path, progress: Progress) -> Job:
    """The job once it is at an end.

    Raises:
        DemonstrationError: the node ended, or takes too long.
    """
    queue = open_queue(data)
    end = time.monotonic() + FINISH_SECONDS
    try:
        while time.monotonic() < end:
            require_running(process, log)
            job = next(iter(queue.jobs()), None)
            if job is not None:
                if job.state in ENDS:
                    progress("contouring, checking, sending", len(_STATES) - 1, len(_STATES) - 1)
                    return job
                progress("contouring, checking, sending", _STATES.index(job.state), len(_STATES) - 1)
            time.sleep(0.2)
    finally:
        queue.close()
    raise DemonstrationError(f"the node did not finish the series in {FINISH_SECONDS:g} s (log: {log})")


def _compared(received: Path, job: Job, series: Series, content: dict[str, Any]) -> tuple[DemoStructure, ...]:
    """The structures of the set that came back, read from it.

    Raises:
        DemonstrationError: it is not what the node wrote, or does not hold what the node's report says.
    """
    changed = first_difference(job.out / "rtstruct.dcm", received.read_bytes())
    if changed is not None:
        raise DemonstrationError(f"the structure set that came back is not the one that was written: {changed} differs")
    masks = read_structures(pydicom.dcmread(received), series).masks
    reported = {one["name"]: one for one in content["structures"]}
    written = {name for name, one in reported.items() if one["decision"] != "left out"}
    if set(masks) != written:
        raise DemonstrationError(
            f"the structure set holds {', '.join(sorted(masks))}, and the report says {', '.join(sorted(written))}"
        )
    voxel_ml = series.geometry.voxel_mm3 / 1000
    volumes = {name: float(np.count_nonzero(mask, axis=(1, 2)) @ voxel_ml) for name, mask in masks.items()}
    return tuple(
        DemoStructure(name, one["decision"], volumes.get(name), one["confidence"]) for name, one in reported.items()
    )
