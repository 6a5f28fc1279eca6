"""Structures of memory as files, written and read back in a process of their own: for windows.

Contours and read-back hold Python's lock for longer than a window can stand still.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import (
    DataError,
    ExporterSpec,
    Geometry,
    OncoSegError,
    Registry,
    Segmentation,
    UsageError,
    Volume,
    load_plugins,
)
from oncoseg_core.imaging import recognise, write_segmentation
from oncoseg_core.system import json_text

ANSWER = "answer.json"
FORMATS = {"rtstruct": "RTSTRUCT", "seg": "DICOM SEG", "nifti": "NIfTI"}


def export_apart(
    masks: Mapping[str, npt.NDArray[np.bool_]],
    affine: npt.NDArray[np.float64],
    destination: Path,
    output_format: str,
    *,
    source: Path | None = None,
    source_settings: Mapping[str, Any] | None = None,
    colours: Mapping[str, str] | None = None,
) -> list[str]:
    """Write masks in one of ``FORMATS``; returns what is to be known of the file.

    Args:
        masks: bool ``(z, y, x)``, by name; their axes may be those of the stored image in another order or direction.
        affine: of the masks' grid, index ``(x, y, z)`` to LPS mm.
        destination: the file.
        output_format: a key of ``FORMATS``.
        source: the image that the structures are on; without it only NIfTI can be written.
        source_settings: of its reader, such as which series.
        colours: ``#rrggbb`` by name.

    Raises:
        UsageError: there is nothing to write.
        DataError: nothing is written; the message says why.
    """
    if not masks:
        raise UsageError("there is no structure to export; segment or paint one first")
    job = {
        "source": None if source is None else str(source), "settings": dict(source_settings or {}),
        "affine": np.asarray(affine).tolist(), "shape": list(next(iter(masks.values())).shape), "names": list(masks),
        "destination": str(destination.absolute()), "format": output_format, "colours": dict(colours or {}),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="oncoseg-") as folder:
        for number, mask in enumerate(masks.values()):
            np.save(Path(folder) / f"{number}.npy", np.packbits(mask), allow_pickle=False)
        command = [sys.executable, "-P", "-m", "oncoseg_dicom.export_apart", folder]
        done = subprocess.run(command, input=json_text(job), capture_output=True, text=True, check=False)
        answered = Path(folder) / ANSWER  # libraries print to standard output
        text = answered.read_text() if answered.exists() else ""
    try:
        answer = json.loads(text)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DataError(f"the export ended without an answer ({last}); nothing was written") from None
    if "error" in answer:
        raise DataError(answer["error"])
    notes: list[str] = answer["notes"]
    return notes


def run(folder: Path, text: str) -> dict[str, Any]:
    """What the process of its own does: a job in, ``notes`` or ``error`` out."""
    try:
        return {"notes": _export(json.loads(text), folder)}
    except (OncoSegError, OSError) as error:
        return {"error": " ".join(str(error).split())}


def _export(job: Mapping[str, Any], folder: Path) -> list[str]:
    registry, destination, (z, y, x) = load_plugins(), Path(job["destination"]), job["shape"]
    grid = Geometry((z, y, x), np.array(job["affine"]))
    masks = {}
    for number, name in enumerate(job["names"]):
        bits = np.load(folder / f"{number}.npy", allow_pickle=False)
        masks[name] = np.unpackbits(bits, count=z * y * x).astype(bool).reshape(z, y, x)
    image = _image(registry, job)
    geometry = grid
    if image is not None:
        geometry = image.geometry
        even = Geometry(geometry.shape, geometry.affine, rounding_mm=geometry.rounding_mm)
        for name, mask in masks.items():
            there, turned = grid.along(even, mask)
            there.require_same_grid(even, "the layer", "its image")
            masks[name] = np.ascontiguousarray(turned)
    elif job["format"] != "nifti":
        raise UsageError(
            f"{FORMATS[job['format']]} belongs to a DICOM series, and this image was not opened from one: open its "
            "folder with OncoSeg, or export NIfTI"
        )
    details = {
        name: {"ROIDisplayColor": ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))}
        for name, colour in job["colours"].items()
    }
    handle = None if image is None else image.handle
    segmentation = Segmentation(masks, geometry, {}, {}, handle, details)
    if job["format"] == "nifti":
        write_segmentation(segmentation, destination)
        return [f"{number} is {name}" for number, name in enumerate(masks, start=1)]
    exporter = registry.build(ExporterSpec, job["format"], {"source": job["source"], **job["settings"]})
    return list(exporter.export(segmentation, destination).notes)


def _image(registry: Registry, job: Mapping[str, Any]) -> Volume | None:
    """The image as its file has it, so that masks are put on the stored grid; None where there is no file."""
    if job["source"] is None:
        return None
    return recognise(registry, Path(job["source"])).read_image(settings=job["settings"])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / ANSWER).write_text(json_text(run(folder, sys.stdin.read())))
