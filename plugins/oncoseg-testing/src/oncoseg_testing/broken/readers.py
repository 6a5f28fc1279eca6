"""Readers that each break one rule; :class:`Grid` breaks none."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import DataError, Geometry, ImageReadError, OncoSegError, Reader, Structures, Volume
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.readers import check_reader


def check(broken: type[Reader]) -> None:
    """Check a class on an image and on structures, in a folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        image, structures = write_grid(Path(folder))
        (Path(folder) / "empty").mkdir()
        check_reader(broken(), Path(folder) / "empty", image=image, masks=structures)


EXAMPLES = BrokenExamples("reader", check)

MARK = "a grid of numbers"


def write_grid(folder: Path) -> tuple[Path, Path]:
    """An image and structures in the format of :class:`Grid`, JSON: the two files."""
    shape, numbers = (2, 3, 4), list(range(24))
    image, structures = folder / "image.grid", folder / "structures.grid"
    image.write_text(json.dumps({"is": MARK, "shape": shape, "origin": [1.0, 2.0, 3.0], "numbers": numbers}))
    inside = {"liver": [1] * 12 + [0] * 12}
    structures.write_text(json.dumps({"is": MARK, "shape": shape, "origin": [1.0, 2.0, 3.0], "inside": inside}))
    return image, structures


class Grid(Reader):
    def recognises(self, path: Path) -> bool:
        try:
            return MARK.encode() in path.read_bytes()[:64]
        except OSError:
            return False

    def read(self, path: Path) -> Volume:
        content = self.content(path)
        try:
            numbers = np.array(content["numbers"], dtype=np.float32)
            geometry = Geometry.from_parts(tuple(content["shape"]), origin=tuple(content["origin"]))
            return Volume(numbers.reshape(1, *geometry.shape), geometry, "unknown", path)
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(path, error) from error

    def read_masks(self, path: Path, image: Volume) -> Structures:
        content = self.content(path)
        try:
            geometry = Geometry.from_parts(tuple(content["shape"]), origin=tuple(content["origin"]))
            self.require_on(geometry, image, path)
            inside = content["inside"].items()
            return Structures({name: np.array(values, dtype=bool).reshape(geometry.shape) for name, values in inside})
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(path, error) from error

    def content(self, path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(path, error) from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: is not {MARK}")
        return content

    def damaged(self, path: Path, error: Exception) -> OncoSegError:
        return ImageReadError(f"{path}: is damaged: {' '.join(str(error).split())}")

    def require_on(self, geometry: Geometry, image: Volume, path: Path) -> None:
        image.geometry.require_same_grid(geometry, image.name, str(path))


@EXAMPLES.breaks("recognises never raises")
class Opening(Grid):
    def recognises(self, path: Path) -> bool:
        return MARK.encode() in path.read_bytes()[:64]


@EXAMPLES.breaks("recognises never raises")
class Greedy(Grid):
    def recognises(self, path: Path) -> bool:
        return path.exists()


@EXAMPLES.breaks("recognises what it reads")
class ByAnotherSuffix(Grid):
    def recognises(self, path: Path) -> bool:
        return path.suffix == ".numbers"


@EXAMPLES.breaks("what cannot be read is refused in one line")
class RawError(Grid):
    def content(self, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(path.read_text())
        return content


@EXAMPLES.breaks("what cannot be read is refused in one line")
class Talkative(Grid):
    def damaged(self, path: Path, error: Exception) -> OncoSegError:
        return ImageReadError(f"{path}: is damaged:\n{error}")


@EXAMPLES.breaks("read gives a Volume that names the path")
class Nameless(Grid):
    def read(self, path: Path) -> Volume:
        return replace(super().read(path), source=None)


@EXAMPLES.breaks("voxels are real numbers")
class Complex(Grid):
    def read(self, path: Path) -> Volume:
        volume = super().read(path)
        return replace(volume, voxels=volume.voxels.astype(np.complex64))


@EXAMPLES.breaks("reading again gives the same")
class Dithering(Grid):
    def read(self, path: Path) -> Volume:
        volume = super().read(path)
        noise = np.random.default_rng().random(volume.voxels.shape, dtype=np.float32)
        return replace(volume, voxels=volume.voxels.astype(np.float32) + noise)


@EXAMPLES.breaks("bool masks (z, y, x) on the image's grid")
class Numbered(Grid):
    def read_masks(self, path: Path, image: Volume) -> Structures:
        masks = super().read_masks(path, image).masks
        return Structures({name: mask.astype(np.uint8) for name, mask in masks.items()})


@EXAMPLES.breaks("bool masks (z, y, x) on the image's grid")
class Transposed(Grid):
    def read_masks(self, path: Path, image: Volume) -> Structures:
        return Structures({name: mask.T for name, mask in super().read_masks(path, image).masks.items()})


@EXAMPLES.breaks("refused for an image on another grid")
class Trusting(Grid):
    def require_on(self, geometry: Geometry, image: Volume, path: Path) -> None:
        pass


@EXAMPLES.breaks("a damaged file is read as far as it is sound")
class Fragile(Grid):
    def content(self, path: Path) -> dict[str, Any]:
        if "damaged" in path.parts:
            json.loads(path.read_text(errors="replace"))
        return super().content(path)
