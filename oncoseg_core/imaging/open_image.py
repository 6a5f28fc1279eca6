"""Reading whatever a path holds: the core's own formats, else that of a plugin's reader which recognises it.

:func:`recognise` looks at a path once, and its answer reads the image and masks. The other functions are for whoever
needs one thing of a path: each of them looks at it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
import numpy.typing as npt

from oncoseg_core.contract.errors import DataError, ImageReadError, UsageError
from oncoseg_core.contract.interfaces import Reader, Structures
from oncoseg_core.contract.records import ReaderSpec
from oncoseg_core.contract.volume import BoolArray, Volume
from oncoseg_core.imaging.formats import is_own_format, read_label, read_volume
from oncoseg_core.plugins.configuration import apply_overrides
from oncoseg_core.plugins.registry import Registry, load_factory
from oncoseg_core.system.privacy import display_path
from oncoseg_core.system.stand_ins import not_fetched

MOST_VALUES = 1024
"""Structures of a label image: an atlas of the whole body has some hundreds, and each takes a mask."""


@dataclass(frozen=True)
class RecognisedPath:
    """A path whose format is known: ``spec`` is its reader's record, None for a format that the core reads itself."""

    registry: Registry
    path: Path
    spec: ReaderSpec | None

    def settings(self, texts: Sequence[str], option: str) -> dict[str, Any]:
        """``KEY=VALUE`` from a command line as settings of the reader.

        Values are read as YAML, but for those of settings that are text: ``series=0042`` is no number there.

        Raises:
            ConfigError: it cannot be read.
        """
        fields: dict[str, Any] = {}
        if self.spec is not None:
            fields = load_factory(self.registry.component(ReaderSpec, self.spec.format)).Settings.model_fields
        values: dict[str, Any] = {}
        for text in texts:
            key, equals, value = (part.strip() for part in text.partition("="))
            if equals and value not in {"", "~", "null"} and key in fields and _is_text(fields[key].annotation):
                values[key] = value
            else:
                values = apply_overrides(values, [text], option, "series=3")
        return values

    def reader(self, settings: Mapping[str, Any] | None = None) -> Reader | None:
        """The reader, built with its settings; None for the formats that the core reads itself.

        Raises:
            UsageError: settings are given for a format that has none.
        """
        if self.spec is None:
            if settings:
                raise UsageError(
                    f"{display_path(self.path)}: images of this format have no settings ({', '.join(settings)})"
                )
            return None
        reader: Reader = self.registry.build(ReaderSpec, self.spec.format, settings)
        return reader

    def read_image(self, modality: str | None = None, settings: Mapping[str, Any] | None = None) -> Volume:
        """As :func:`read_image`."""
        reader = self.reader(settings)
        if reader is None:
            return read_volume(self.path, modality or "unknown")
        volume = reader.read(self.path)
        return volume if modality is None else replace(volume, modality=modality)

    def read_masks(self, image: Volume, settings: Mapping[str, Any] | None = None) -> Structures:
        """As :func:`read_masks`."""
        reader = self.reader(settings)
        return _label_masks(self.path, image) if reader is None else reader.read_masks(self.path, image)


def recognise(registry: Registry, path: Path) -> RecognisedPath:
    """Look at what a path holds, once.

    Raises:
        ImageReadError: there is nothing there, or nobody recognises it.
    """
    return RecognisedPath(registry, path, format_of(registry, path))


def format_of(registry: Registry, path: Path) -> ReaderSpec | None:
    """The record of the reader that recognises what a path holds; None for the formats that the core reads itself.

    Raises:
        ImageReadError: there is nothing there, or nobody recognises it.
    """
    missing = not_fetched(path) if path.is_file() or path.is_symlink() else None
    if missing is not None or not path.exists():
        raise ImageReadError(f"{display_path(path)}: {missing or 'no such file or folder'}")
    if not path.is_dir() and is_own_format(path):
        return None
    specs = registry.specs(ReaderSpec)
    for spec in specs:
        if registry.build(ReaderSpec, spec.format).recognises(path):
            return spec
    readers = ", ".join(spec.format for spec in specs) or "none; oncoseg-dicom reads DICOM"
    raise ImageReadError(
        f"{display_path(path)}: holds no image in a known format (the core's: NIfTI, NRRD, MHA/MHD, PNG, JPEG, TIFF; "
        f"readers installed: {readers})"
    )


def reader_settings(registry: Registry, path: Path, texts: Sequence[str], option: str) -> dict[str, Any]:
    """``KEY=VALUE`` from a command line as settings of the reader that a path needs: :meth:`RecognisedPath.settings`.

    Raises:
        ConfigError: it cannot be read.
        ImageReadError: as for :func:`format_of`.
    """
    return recognise(registry, path).settings(texts, option)


def _is_text(annotation: Any) -> bool:
    """Whether a setting's type is text, or text or nothing."""
    if get_origin(annotation) in {Annotated, Union, UnionType}:
        return any(_is_text(part) for part in get_args(annotation))
    return annotation is str


def read_image(
    registry: Registry, path: Path, modality: str | None = None, settings: Mapping[str, Any] | None = None
) -> Volume:
    """Read an image of any known format. Without ``modality`` it is what the format tells, or ``unknown``.

    Args:
        registry: where readers are found.
        path: a file, or the folder or archive that a reader takes.
        modality: what the intensities are, such as ``ct``, where it is known better than the file does.
        settings: of the reader, such as which series to take.

    Raises:
        ImageReadError, GeometryError, DataError: it cannot be read.
        UsageError: settings are given for a format that has none.
    """
    return recognise(registry, path).read_image(modality, settings)


def read_masks(registry: Registry, path: Path, image: Volume, settings: Mapping[str, Any] | None = None) -> Structures:
    """Read masks on an image's grid: structures by their names, or the values of a label image as ``label 1``, ….

    A label image may be stored with other axes (rows or slices reversed, as other programs do): it is turned, never
    resampled.

    Raises:
        ImageReadError, GeometryError, DataError: it cannot be read, or does not belong to the image.
    """
    return recognise(registry, path).read_masks(image, settings)


def _label_masks(path: Path, image: Volume) -> Structures:
    label = read_label(path, image, any_axes=True)
    planes: dict[int, list[int]] = {}  # the first and the last that hold a value
    for index, plane in enumerate(label):
        for value in np.unique(plane).tolist():
            planes.setdefault(int(value), [index, index])[1] = index
    values = sorted(planes.keys() - {0})
    if len(values) > MOST_VALUES:
        raise DataError(
            f"{display_path(path)}: holds {len(values)} different values, and a label image at most {MOST_VALUES}: "
            "is it an image?"
        )
    if not values:
        raise DataError(f"{display_path(path)}: the label is empty: it holds no voxel but 0")
    if values[0] > 0:
        label = label.astype(np.min_scalar_type(values[-1]))  # a byte per voxel for most
    spans = {f"label {value}": (value, slice(planes[value][0], planes[value][1] + 1)) for value in values}
    return Structures(_LabelMasks(label, spans))


class _LabelMasks(Mapping[str, BoolArray]):
    """The masks of a label image's values, each made when it is taken: all of them would fill the memory."""

    def __init__(self, label: npt.NDArray[np.generic], spans: Mapping[str, tuple[int, slice]]) -> None:
        self._label, self._spans = label, spans

    def __getitem__(self, name: str) -> BoolArray:
        value, span = self._spans[name]  # the value, and the slices that hold it
        mask = np.zeros(self._label.shape, dtype=bool)
        np.equal(self._label[span], value, out=mask[span])
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)
