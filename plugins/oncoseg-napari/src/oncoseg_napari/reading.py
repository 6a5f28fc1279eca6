"""Files as layers: images with their whole place in LPS mm, structures on the series that they were drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import Geometry, ImageReadError, OncoSegError, UsageError, Volume, load_plugins
from oncoseg_core.imaging import VOLUME_SUFFIXES, read_image, recognise
from oncoseg_core.path import Normalization
from oncoseg_napari.geometry import layer_affine

if TYPE_CHECKING:
    from napari.layers import Image

LayerData = tuple[Any, dict[str, Any], str]
CT_WINDOW = (-160.0, 240.0)
"""HU: the soft-tissue window of width 400 around 40."""
STRUCTURES = {"RTSTRUCT", "SEG"}


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """What npe2 calls: the function that reads this path, or None where another plugin has to."""
    if not isinstance(path, str):
        return get_reader(path[0]) if len(path) == 1 else None
    file = Path(path)
    if file.is_dir():
        return read if _holds_dicom(file) else None
    name = file.name.lower()
    return read if name.endswith((".dcm", ".zip", *VOLUME_SUFFIXES)) or _is_dicom(file) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """An image, or the structures of an RTSTRUCT or SEG on the image that is open or lies beside it.

    Raises:
        ValueError: it cannot be read; one sentence, as napari shows it.
    """
    file = Path(path if isinstance(path, str) else path[0])
    try:
        return structure_layers(file) if _modality(file) in STRUCTURES else list(image_layers(file))
    except OncoSegError as error:
        raise ValueError(str(error)) from error


def image_layers(path: Path) -> Iterator[LayerData]:
    """The image of a path, one layer for each channel. Its values are calibrated, such as HU.

    The data axes are those of the patient that the stored ones are nearest to, as z, y and x: a view, nothing is
    resampled. ``metadata["oncoseg"]`` says where the image came from and along which data axis its slices run.

    Raises:
        OncoSegError: it cannot be read.
    """
    registry = load_plugins()
    volume = read_image(registry, path)
    if volume.headers and volume.modality != "unknown":
        volume = Normalization(registry, volume.modality, {}).calibrated(volume)
    _warn(volume.notes)
    geometry, slice_axis, _ = _upright(volume, volume.voxels[0])
    facts: dict[str, Any] = {"path": str(path), "modality": volume.modality, "slice_axis": slice_axis}
    if volume.geometry.slice_origins is not None:
        facts["slice_origins"] = volume.geometry.slice_origins.tolist()
    names = volume.channel_names or tuple(str(number) for number in range(len(volume.voxels)))
    stem = path.name or path.resolve().name
    for name, channel in zip(names, volume.voxels, strict=True):
        data = _upright(volume, channel)[2]
        arguments: dict[str, Any] = {
            "name": stem if len(volume.voxels) == 1 else f"{stem} {name}",
            "contrast_limits": CT_WINDOW if volume.modality == "ct" else _limits(data),
            "metadata": {"oncoseg": facts if len(volume.voxels) == 1 else {**facts, "channel": name}},
        }
        if volume.physical:
            arguments |= {"affine": layer_affine(geometry.affine), "units": ("mm",) * 3}
        yield data, arguments, "image"


def structure_layers(path: Path) -> list[LayerData]:
    """The structures of an RTSTRUCT or SEG, each a layer with its name and colour.

    Raises:
        OncoSegError: its series is neither open nor beside it, or it cannot be read.
    """
    image_path, settings = _series_of(path)
    registry = load_plugins()
    image = recognise(registry, image_path).read_image(settings=settings)
    structures = recognise(registry, path).read_masks(image, settings)
    _warn(structures.notes)
    layers: list[LayerData] = []
    for name, mask in structures.masks.items():
        geometry, _, data = _upright(image, np.asarray(mask).view(np.uint8))
        facts = {"structure": name, "path": str(image_path), "settings": settings}
        arguments: dict[str, Any] = {
            "name": name, "opacity": 0.5, "affine": layer_affine(geometry.affine), "units": ("mm",) * 3,
            "metadata": {"oncoseg": facts},
        }  # fmt: skip
        colour = structures.details.get(name, {}).get("ROIDisplayColor")
        if colour:
            red, green, blue = (int(part) for part in colour.split(","))
            arguments["colormap"] = colormap(f"#{red:02x}{green:02x}{blue:02x}")
        layers.append((data, arguments, "labels"))
    return layers


def colormap(colour: str) -> Any:
    """A structure's colour, ``#rrggbb``: whatever is painted on its layer is of it."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={0: "transparent", 1: colour, None: colour})


def _series_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """The image that structures are on: of the layers that are open, else of the files beside them."""
    import napari

    viewer = napari.current_viewer()
    images: list[Image] = [] if viewer is None else [one for one in viewer.layers if type(one).__name__ == "Image"]
    paths = [facts for one in images if "path" in (facts := one.metadata.get("oncoseg", {}))]
    for facts in paths:
        if Path(facts["path"]).exists() and _modality(Path(facts["path"])) not in STRUCTURES:
            return Path(facts["path"]), dict(facts.get("settings", {}))
    if _holds_dicom(path.parent):
        return path.parent, {}
    raise UsageError(f"{path.name}: contours have no place without their series: open the series first")


def _upright(volume: Volume, channel: npt.NDArray[Any]) -> tuple[Geometry, int, npt.NDArray[Any]]:
    """The grid with the patient's axes, the data axis along which the stored slices run, and the voxels on it."""
    stored = volume.geometry
    patient = Geometry((1, 1, 1), np.eye(4))
    geometry, data = stored.along(patient, channel)
    depth = stored.shape[0]
    numbered = np.broadcast_to(np.arange(depth)[:, None, None], stored.shape)  # its stride says which axis is which
    (slice_axis,) = np.flatnonzero(stored.along(patient, numbered)[1].strides)
    return geometry, int(slice_axis), data


def _limits(data: npt.NDArray[Any]) -> tuple[float, float]:
    """From the first to the 99th percentile of some of the voxels."""
    some = data[tuple(slice(None, None, max(1, size // 64)) for size in data.shape)]
    low, high = (float(value) for value in np.percentile(some, (1, 99)))
    return (low, high) if high > low else (low, low + 1.0)


def _warn(notes: Sequence[str]) -> None:
    if notes:
        from napari.utils.notifications import show_warning

        for note in notes:
            show_warning(note)


def _holds_dicom(folder: Path) -> bool:
    """Whether one of a folder's first files, or of its first folders' files, is DICOM."""
    for number, file in enumerate(folder.rglob("*")):
        if number >= 50:
            return False
        if file.is_file() and _is_dicom(file):
            return True
    return False


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _modality(path: Path) -> str:
    """The modality of a DICOM file; empty of anything else."""
    if not path.is_file() or not _is_dicom(path):
        return ""
    from oncoseg_dicom import read_header

    try:
        return str(read_header(path, ("Modality",)).get("Modality", ""))
    except ImageReadError:
        return ""
