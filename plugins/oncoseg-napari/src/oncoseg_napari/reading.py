"""Files as layers: images with their whole place in LPS mm, structures on the series that they were drawn on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import Geometry, ImageReadError, OncoSegError, Registry, UsageError, Volume, load_plugins
from oncoseg_core.imaging import VOLUME_SUFFIXES, recognise
from oncoseg_core.path import Normalization
from oncoseg_dicom import DicomReader
from oncoseg_napari.geometry import layer_affine

LayerData = tuple[Any, dict[str, Any], str]
CT_WINDOW = (-160.0, 240.0)
"""HU: the soft-tissue window of width 400 around 40."""
STRUCTURES = {"RTSTRUCT", "SEG"}
MOST_SERIES = 8
"""Of one folder that are opened."""


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """What npe2 calls: the function that reads this path, or None where another plugin has to."""
    if not isinstance(path, str):
        return get_reader(path[0]) if len(path) == 1 else None
    file = Path(path)
    if file.is_dir():
        return read if _holds_dicom(file) else None
    name = file.name.lower()
    if name.endswith(".zip"):
        return read if DicomReader().recognises(file) else None
    return read if name.endswith((".dcm", *VOLUME_SUFFIXES)) or _is_dicom(file) else None


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


def image_layers(path: Path, modality: str | None = None) -> Iterator[LayerData]:
    """The image of a path, one layer for each series and channel. Its values are calibrated, such as HU.

    The data axes are those of the patient that the stored ones are nearest to, as z, y and x: a view, nothing is
    resampled. ``metadata["oncoseg"]`` says where the image came from and along which data axis its slices run.
    ``modality`` is what the values are, where that is known better than the file knows it.

    Raises:
        OncoSegError: it cannot be read.
    """
    registry = load_plugins()
    recognised = recognise(registry, path)
    stem = path.name or path.resolve().name
    several = {} if recognised.spec is None or recognised.spec.format != "dicom" else _series_in(path)
    if not several:
        yield from _layers_of(registry, recognised.read_image(modality), stem, {"path": str(path)})
    failures: list[OncoSegError] = []
    for choice, what in several.items():
        settings = {"series": choice}
        try:
            volume = recognised.read_image(modality, settings)
        except OncoSegError as error:
            failures.append(error)
        else:
            yield from _layers_of(registry, volume, f"{stem} {what}", {"path": str(path), "settings": settings})
    if failures and len(failures) == len(several):
        raise failures[0]
    _warn([f"a series was left out: {error}" for error in failures])


def _series_in(path: Path) -> dict[str, str]:
    """The image series of a folder or archive that holds several: what each is chosen by, and what it is."""
    from oncoseg_dicom import list_series

    listed = list(list_series(path).items())
    if len(listed) > MOST_SERIES:
        left = "; ".join(what for _, what in listed[MOST_SERIES:])
        _warn([f"{path.name}: the {MOST_SERIES} largest of {len(listed)} series are opened, not: {left}"])
    return dict(listed[:MOST_SERIES]) if len(listed) > 1 else {}


def _layers_of(registry: Registry, volume: Volume, stem: str, facts: dict[str, Any]) -> Iterator[LayerData]:
    if volume.headers and volume.modality != "unknown":
        volume = Normalization(registry, volume.modality, {}).calibrated(volume)
    _warn(volume.notes)
    geometry, slice_axis, _ = _upright(volume, volume.voxels[0])
    facts |= {"modality": volume.modality, "slice_axis": slice_axis}
    if volume.geometry.slice_origins is not None:
        facts["slice_origins"] = volume.geometry.slice_origins.tolist()
    place: dict[str, Any] = {"affine": layer_affine(geometry.affine), "units": ("mm",) * 3} if volume.physical else {}
    if _is_colour_picture(volume):
        if place:
            place = {"affine": place["affine"][1:, 1:], "units": ("mm",) * 2}
        yield (
            np.moveaxis(volume.voxels[:, 0], 0, -1),
            {"name": stem, "rgb": True, "metadata": {"oncoseg": facts}, **place},
            "image",
        )
        return
    names = volume.channel_names or tuple(str(number) for number in range(len(volume.voxels)))
    for name, channel in zip(names, volume.voxels, strict=True):
        data = _upright(volume, channel)[2]
        arguments: dict[str, Any] = {
            "name": stem if len(volume.voxels) == 1 else f"{stem} {name}",
            "contrast_limits": CT_WINDOW if volume.modality == "ct" else _limits(data),
            "metadata": {"oncoseg": facts if len(volume.voxels) == 1 else {**facts, "channel": name}},
        }
        yield data, {**arguments, **place}, "image"


def _is_colour_picture(volume: Volume) -> bool:
    """Whether its channels are red, green and blue of a picture that lies as a screen does."""
    whole = volume.voxels.dtype == np.uint8 and volume.voxels.shape[:2] == (3, 1) and not volume.channel_names
    return whole and np.allclose(volume.geometry.direction, np.eye(3))


def structure_layers(path: Path) -> list[LayerData]:
    """The structures of an RTSTRUCT or SEG, each a layer with its name and colour.

    Raises:
        OncoSegError: its series is neither open nor beside it, or it cannot be read.
    """
    registry = load_plugins()
    image, image_path, settings = _series_of(registry, path)
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


def _series_of(registry: Registry, path: Path) -> tuple[Volume, Path, dict[str, Any]]:
    """The series that structures refer to: of the files of open layers, else of those beside them."""
    import napari

    viewer = napari.current_viewer()
    opened = () if viewer is None else (one.metadata.get("oncoseg", {}) for one in viewer.layers)
    uid = _referenced_series(path)
    why: OncoSegError | None = None
    tried = [(Path(facts["path"]), facts.get("settings", {})) for facts in opened if "path" in facts]
    for source, settings in dict([*tried, (path.parent, {})]).items():
        chosen = dict(settings) if uid is None else {"series": f"uid:{uid}"}
        try:
            return recognise(registry, source).read_image(settings=chosen), source, chosen
        except OncoSegError as error:
            why = error
    raise UsageError(f"{path.name}: structures have no place without their series: open its folder first ({why})")


def _referenced_series(path: Path) -> str | None:
    """The SeriesInstanceUID that an RTSTRUCT or SEG says its structures are on."""
    from oncoseg_dicom import read_header

    header = read_header(path, ("ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"))
    listed = list(header.get("ReferencedSeriesSequence") or ())
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            listed += study.get("RTReferencedSeriesSequence") or ()
    uids = {str(one.get("SeriesInstanceUID", "")) for one in listed} - {""}
    return uids.pop() if len(uids) == 1 else None


def _upright(volume: Volume, channel: npt.NDArray[Any]) -> tuple[Geometry, int, npt.NDArray[Any]]:
    """The grid with the patient's axes, the data axis along which the stored slices run, and the voxels on it."""
    stored = volume.geometry
    patient = Geometry((1, 1, 1), np.eye(4))
    geometry, data = stored.along(patient, channel)
    nearest = np.argmax(np.abs(geometry.direction.T @ stored.direction[:, 2]))  # one of them is the same axis
    return geometry, 2 - int(nearest), data


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
    if not path.is_file():
        return ""
    from oncoseg_dicom import read_header

    try:
        return str(read_header(path, ("Modality",)).get("Modality", ""))
    except ImageReadError:
        return ""
