"""Structures as files: RTSTRUCT and SEG on their series, NIfTI; written and read back in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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
from oncoseg_napari.geometry import lps_affine, world_affine

FORMATS = {"rtstruct": "RTSTRUCT", "seg": "DICOM SEG", "nifti": "NIfTI"}
Masks = Mapping[str, npt.NDArray[np.bool_]]


def export(
    source: Mapping[str, Any],
    affine: npt.NDArray[np.float64],
    masks: Masks,
    path: Path,
    form: str,
    colours: Mapping[str, str] | None = None,
) -> list[str]:
    """Write masks in one of ``FORMATS``; returns what is to be known of the file.

    A child process does it: contours and read-back hold Python's lock for longer than a window can stand still.

    Args:
        source: ``path`` and ``settings`` of the image, as ``metadata["oncoseg"]`` of its layer has them.
        affine: of the layer, data to world.
        masks: bool, by name, in the layer's order of axes.
        path: of the file.
        form: a key of ``FORMATS``.
        colours: ``#rrggbb`` by name.

    Raises:
        OncoSegError: nothing is written; the message says why.
    """
    if not masks:
        raise UsageError("there is no structure to export; segment or paint one first")
    shape = next(iter(masks.values())).shape
    job = {
        "source": {"path": source.get("path"), "settings": source.get("settings") or {}},
        "affine": affine.tolist(), "shape": list(shape), "names": list(masks),
        "path": str(path.absolute()), "form": form, "colours": dict(colours or {}),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="oncoseg-") as folder:
        for number, mask in enumerate(masks.values()):
            np.save(Path(folder) / f"{number}.npy", np.packbits(mask), allow_pickle=False)
        command = [sys.executable, "-P", "-m", "oncoseg_napari.writing", folder]
        done = subprocess.run(command, input=json_text(job), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise DataError(f"the export ended without an answer ({last}); nothing was written") from None
    if "error" in answer:
        raise DataError(answer["error"])
    notes: list[str] = answer["notes"]
    return notes


def write_rtstruct(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """What npe2 calls to save labels as RTSTRUCT."""
    return _write(path, layers, "rtstruct")


def write_seg(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """What npe2 calls to save labels as DICOM SEG."""
    return _write(path, layers, "seg")


def write_nifti(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """What npe2 calls to save labels as NIfTI."""
    return _write(path, layers, "nifti")


def _write(path: str, layers: Sequence[tuple[Any, dict[str, Any], str]], form: str) -> list[str]:
    from napari.layers import Layer
    from napari.utils.notifications import show_info

    masks: dict[str, npt.NDArray[np.bool_]] = {}
    colours: dict[str, str] = {}
    placed = []
    for data, attributes, kind in layers:
        layer = Layer.create(data, attributes, kind)
        placed.append((layer, masks_of(layer)))
        for name, mask in placed[-1][1].items():
            if name in masks:
                raise ValueError(f"two structures are called {name!r}; rename one layer")
            masks[name] = mask
            colours[name] = colour_of(layer)
    first, affine = placed[0][0], world_affine(placed[0][0])
    for layer, _ in placed[1:]:
        if layer.data.shape != first.data.shape or not np.allclose(world_affine(layer), affine, atol=1e-3):
            raise ValueError(f"{layer.name} and {first.name} are on two grids; export them one after the other")
    try:
        notes = export(source_of(first), affine, masks, Path(path), form, colours)
    except OncoSegError as error:
        raise ValueError(str(error)) from error
    for note in notes:
        show_info(note)
    return [path]


def masks_of(layer: Any) -> dict[str, npt.NDArray[np.bool_]]:
    """The structures of a labels layer: all that is painted on one of ours, else one for each value."""
    facts, data = layer.metadata.get("oncoseg", {}), np.asarray(layer.data)
    if "structure" in facts:
        return {facts["structure"]: data != 0}
    values = [int(value) for value in np.unique(data) if value]
    if len(values) == 1:
        return {layer.name: data != 0}
    return {f"{layer.name} {value}": data == value for value in values}


def colour_of(layer: Any) -> str:
    """The colour in which a labels layer shows a structure, ``#rrggbb``."""
    red, green, blue = (round(255 * float(part)) for part in np.atleast_2d(layer.get_color(1))[0][:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


def source_of(layer: Any) -> dict[str, Any]:
    """Where the image of a labels layer came from: as its metadata say, else of the only open image on its grid."""
    import napari

    facts: dict[str, Any] = layer.metadata.get("oncoseg", {})
    viewer = napari.current_viewer()
    if "path" in facts or viewer is None:
        return facts
    images = [
        one for one in viewer.layers if "path" in one.metadata.get("oncoseg", {}) and type(one).__name__ == "Image"
    ]
    named = [one for one in images if one.name == facts.get("image")]
    same = [one for one in images if one.data.shape == layer.data.shape]
    chosen = named or same
    return dict(chosen[0].metadata["oncoseg"]) if len(chosen) == 1 else {}


def main(folder: str, text: str) -> dict[str, Any]:
    """What the child process does: a job in, ``notes`` or ``error`` out."""
    job = json.loads(text)
    try:
        return {"notes": _export(job, Path(folder))}
    except (OncoSegError, OSError) as error:
        return {"error": " ".join(str(error).split())}


def _export(job: Mapping[str, Any], folder: Path) -> list[str]:
    registry, path, shape = load_plugins(), Path(job["path"]), tuple(job["shape"])
    size = int(np.prod(shape))
    masks = {
        name: np.unpackbits(np.load(folder / f"{number}.npy", allow_pickle=False), count=size)
        .astype(bool)
        .reshape(shape)
        for number, name in enumerate(job["names"])
    }
    affine = np.array(job["affine"])
    flat = len(shape) == 2
    if flat:
        whole = np.eye(4)
        whole[1:3, 1:3], whole[1:3, 3] = affine[:2, :2], affine[:2, 2]
        affine, masks = whole, {name: mask[None] for name, mask in masks.items()}
    grid = Geometry((1, *shape) if flat else shape, lps_affine(affine))
    image = _image(registry, job["source"])
    if image is None:
        if job["form"] != "nifti":
            raise UsageError(
                f"{FORMATS[job['form']]} belongs to a DICOM series, and this image was not opened from one: open its "
                "folder with OncoSeg, or export NIfTI"
            )
        geometry, handle = grid, None
    else:
        geometry, handle = image.geometry, image.handle
        turned = {}
        for name, mask in masks.items():
            there, turned[name] = grid.along(Geometry(grid.shape, geometry.affine), mask)
            there.require_same_grid(Geometry(geometry.shape, geometry.affine), "the layer", "its image")
        masks = {name: np.ascontiguousarray(mask) for name, mask in turned.items()}
    details = {name: {"ROIDisplayColor": _rgb(colour)} for name, colour in job["colours"].items()}
    segmentation = Segmentation(masks, geometry, {}, {}, handle, details)
    if job["form"] == "nifti":
        write_segmentation(segmentation, path)
        return [f"{number} is {name}" for number, name in enumerate(masks, start=1)]
    settings = {"source": job["source"]["path"], **job["source"]["settings"]}
    exporter = registry.build(ExporterSpec, job["form"], settings)
    return list(exporter.export(segmentation, path).notes)


def _image(registry: Registry, source: Mapping[str, Any]) -> Volume | None:
    """The image as its file has it, so that masks are put on the stored grid; None where there is no file."""
    if not source["path"]:
        return None
    return recognise(registry, Path(source["path"])).read_image(settings=source["settings"])


def _rgb(colour: str) -> str:
    return ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))


if __name__ == "__main__":
    print(json_text(main(sys.argv[1], sys.stdin.read())))  # noqa: T201 - the window reads it
