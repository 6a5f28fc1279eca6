"""A made-up format of series, read and written as a plugin would, in which things can be made to go wrong.

A series is a folder with ``series.npz``; structures are ``.toy`` files of masks by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_core import (
    DataError,
    Exporter,
    ExporterSpec,
    ExportReport,
    Geometry,
    ImageReadError,
    Reader,
    ReaderSpec,
    Settings,
    StorageError,
    Structures,
    Volume,
)
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent


class ToyReaderSettings(Settings):
    series: Annotated[str, Field(coerce_numbers_to_str=True)] | None = None


class ToyReader(Reader):
    Settings = ToyReaderSettings

    def recognises(self, path):
        return path.suffix == ".toy" or (path / "series.npz").exists()

    def read(self, path):
        with np.load(path / "series.npz") as file:
            if self.settings.series not in (None, "3", "0042"):
                raise ImageReadError(f"{path}: has no series {self.settings.series}")
            geometry = Geometry(file["voxels"].shape[1:], file["affine"], file.get("origins"))
            return Volume(
                file["voxels"], geometry, str(file["modality"]), path, headers=({"BurnedInAnnotation": "YES"},) * bool(file["burned"]),
                notes=tuple(file["notes"].tolist()),
            )  # fmt: skip

    def read_masks(self, path, image):
        if image.source is None:
            raise DataError("the series is not known")
        with np.load(path) as file:
            return Structures({name: file[name] for name in file.files})


class ToySettings(Settings):
    source: Path
    series: str | None = None
    broken: bool = False
    lose: int = 0


class ToyExporter(Exporter):
    """With ``broken`` it fails after writing; with ``lose`` so many voxels of the first mask are lost.

    It has room for names of 20 characters, which only :meth:`check` looks at.
    """

    Settings = ToySettings

    def check(self, names, geometry):
        assert geometry.shape
        if too_long := [name for name in names if len(name) > 20]:
            raise DataError(f"{too_long[0]!r} is too long a name")

    def export(self, segmentation, destination):
        masks = {name: mask.copy() for name, mask in segmentation.masks.items()}
        if any(not mask.any() for mask in masks.values()):
            raise DataError("an empty structure")
        if not self.settings.source.is_dir():
            raise DataError("no source")
        for place in np.argwhere(next(iter(masks.values())))[: self.settings.lose]:
            next(iter(masks.values()))[tuple(place)] = False
        with destination.open("wb") as file:
            np.savez(file, **masks)
        if self.settings.broken:
            raise StorageError(f"cannot write {destination}: it is broken")
        return ExportReport((destination,), (f"wrote {len(masks)}",))


def components():
    specs = [
        ("oncoseg_readers", ReaderSpec(format="toy", factory="toy_series:ToyReader", summary="test")),
        *(
            ("oncoseg_exporters", ExporterSpec(
                format=name, suffix=".toy", needs_source=True, factory="toy_series:ToyExporter", summary="test",
            ))
            for name in ("contours", "voxels")
        ),
    ]  # fmt: skip
    return [RegisteredComponent(hook, spec, Plugin("toy-series", "2")) for hook, spec in specs]


def write_series(folder, voxels, spacing=(2.5, 0.5, 0.5), *, modality="unit", notes=(), burned=False, origins=None):
    """``voxels`` ``(z, y, x)``."""
    folder.mkdir(parents=True)
    geometry = Geometry.from_parts(voxels.shape, spacing, origin=(-20.0, -30.0, 100.0))
    extra = {} if origins is None else {"origins": origins}
    np.savez(
        folder / "series.npz", voxels=voxels[None], affine=geometry.affine, modality=modality,
        notes=np.array(notes, dtype=str), burned=burned, **extra,
    )  # fmt: skip
    return folder
