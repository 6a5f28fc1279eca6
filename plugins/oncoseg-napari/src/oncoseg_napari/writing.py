"""Structures as files: RTSTRUCT and SEG on their series, NIfTI; read back before they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import OncoSegError
from oncoseg_dicom import export_apart
from oncoseg_napari.geometry import lps_affine, space_affine, world_affine


def export(
    source: Mapping[str, Any],
    affine: npt.NDArray[np.float64],
    masks: Mapping[str, npt.NDArray[np.bool_]],
    path: Path,
    form: str,
    colours: Mapping[str, str] | None = None,
) -> list[str]:
    """Write the masks of layers, whose data go to the world by ``affine``; see :func:`oncoseg_dicom.export_apart`.

    ``source`` has ``path`` and ``settings`` of their image, as ``metadata["oncoseg"]`` of its layer does.
    """
    image = source.get("path")
    return export_apart(
        {name: mask if mask.ndim == 3 else mask[None] for name, mask in masks.items()},
        lps_affine(space_affine(affine)),
        path,
        form,
        source=None if image is None else Path(image),
        source_settings=source.get("settings"),
        colours=colours,
    )


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
            colours[name] = colour_of(layer, int(np.asarray(layer.data).flat[mask.argmax()]))
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


def colour_of(layer: Any, value: int) -> str:
    """The colour in which a labels layer shows a value, ``#rrggbb``; nothing is painted with 0."""
    red, green, blue = (round(255 * float(part)) for part in np.atleast_2d(layer.get_color(value or 1))[0][:3])
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
    same = [one for one in images if one.data.shape[: layer.ndim] == layer.data.shape]
    there = [one for one in same if np.allclose(world_affine(one), world_affine(layer), atol=1e-3)]
    chosen = named or there or same
    return dict(chosen[0].metadata["oncoseg"]) if len(chosen) == 1 else {}
