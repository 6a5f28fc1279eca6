"""What the measurements of the server share: sample scans as DICOM series, a free port, waiting for a server."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_client import Server, ServerError
from oncoseg_core import DatasetSpec, load_plugins
from oncoseg_core.imaging import read_image
from oncoseg_dicom import write_series

TUMOUR: dict[str, Any] = {"slice": 20, "box": (319.0, 337.0, 384.0, 394.0), "centre": (351.5, 365.5)}
"""Of lung2, from its label."""


def series_folder(scratch: Path, name: str, modality: str = "CT") -> Path:
    """A sample scan, written as a DICOM series into a folder of its own."""
    registry = load_plugins()
    samples = registry.build(DatasetSpec, "samples", {})
    folder = samples.fetch(lambda *_: None)
    case = next(case for case in samples.discover(folder) if case.case_id == name)
    volume = read_image(registry, Path(case.images[0]))
    geometry = volume.geometry
    column, row = geometry.affine[:3, 0], geometry.affine[:3, 1]
    indices = np.arange(geometry.shape[0])
    origins = geometry.index_to_lps(np.column_stack([0 * indices, 0 * indices, indices]))
    target = scratch / name
    write_series(
        target,
        np.rint(volume.voxels[0]).astype(np.int16),
        origins,
        orientation=np.concatenate([column / np.linalg.norm(column), row / np.linalg.norm(row)]),
        pixel_spacing=(float(np.linalg.norm(row)), float(np.linalg.norm(column))),
        modality=modality,
    )
    return target


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def started(server: Server, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Wait until the server answers.

    Raises:
        RuntimeError: it ended, or does not answer; with the end of its log.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            server.info()
        except ServerError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the server did not start: {log.read_text()[-2000:]}")
