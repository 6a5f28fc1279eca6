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
from oncoseg_testing.phantoms import phantom


def check(broken: type[Reader]) -> None:
    """Check a class on an image and on structures, in a folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        image, structures = write_grid(Path(folder))
        (Path(folder) / "empty").mkdir()
        check_reader(broken(), Path(folder) / "empty", image=image, masks=structures, expected=phantom())


EXAMPLES = BrokenExamples("reader", check)

MARK = "a grid of numbers"


def write_grid(folder: Path) -> tuple[Path, Path]:
    """The phantom and its structures in the format of :class:`Grid`, JSON: the two files."""
    (volume, masks), grid = phantom(), phantom().image.geometry
    place = {
        "is": MARK,
        "shape": grid.shape,
        "spacing": grid.spacing,
        "direction": np.asarray(grid.direction).tolist(),
        "origin": list(grid.origin),
    }
    image, structures = folder / "image.grid", folder / "structures.grid"
    image.write_text(json.dumps({**place, "numbers": volume.voxels.ravel().tolist()}))
    inside = {name: mask.astype(int).ravel().tolist() for name, mask in masks.items()}
    structures.write_text(json.dumps({**place, "inside": inside}))
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
            geometry = self.grid(content)
            return Volume(numbers.reshape(1, *geometry.shape), geometry, "unknown", path)
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(path, error) from error

    def read_masks(self, path: Path, image: Volume) -> Structures:
        content = self.content(path)
        try:
            geometry = self.grid(content)
            self.require_on(geometry, image, path)
            inside = content["inside"].items()
            return Structures({name: np.array(values, dtype=bool).reshape(geometry.shape) for name, values in inside})
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(path, error) from error

    def grid(self, content: dict[str, Any]) -> Geometry:
        parts = (content[name] for name in ("spacing", "direction", "origin"))
        return Geometry.from_parts(tuple(content["shape"]), *parts)

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


@EXAMPLES.breaks("spacing (z, y, x)")
class SpacingBackwards(Grid):
    def grid(self, content: dict[str, Any]) -> Geometry:
        return super().grid({**content, "spacing": content["spacing"][::-1]})


@EXAMPLES.breaks("lies where it was written")
class AsIfRas(Grid):
    def grid(self, content: dict[str, Any]) -> Geometry:
        x, y, z = content["origin"]
        return super().grid({**content, "origin": [-x, -y, z]})


@EXAMPLES.breaks("the voxels are those that were written, in their places")
class UpsideDown(Grid):
    def read(self, path: Path) -> Volume:
        volume = super().read(path)
        return replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, :, ::-1]))


@EXAMPLES.breaks("the structures are those that were written, in their places")
class StructuresFromBehind(Grid):
    def read_masks(self, path: Path, image: Volume) -> Structures:
        structures = super().read_masks(path, image)
        return Structures({name: np.ascontiguousarray(mask[::-1]) for name, mask in structures.masks.items()})
