"""The rules of a reader."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from oncoseg_core import DataError, Geometry, GeometryError, ImageReadError, Reader, Structures, Volume
from oncoseg_testing.checks.rules import require, rule, show
from oncoseg_testing.phantoms import Phantom

REFUSALS = (ImageReadError, GeometryError, DataError)
"""What a reader says of a path that it cannot read."""

CUTS = (0.0, 0.1, 0.5, 0.9, 0.999)
"""Where a copy of the example is cut short, as parts of its length."""

SAME_PLACE = 1e-3
"""Parts of a voxel by which a file's digits may move the phantom."""

ALTERED = 12
"""Copies of the example in which bytes are changed."""


def check_reader(
    reader: Reader,
    folder: Path,
    *,
    image: Path | None = None,
    masks: Path | None = None,
    expected: Phantom | None = None,
) -> None:
    """Check a reader on files that are not of its format, and on an example, whole and damaged.

    Args:
        reader: built, with whatever settings.
        folder: an empty folder to write in.
        image: a file or folder that it reads; without one, only what it says of other formats is checked.
        masks: a file or folder with structures on that image, if it reads such.
        expected: what the two files hold: the kit's phantom, written by something else than this plugin.

    Raises:
        AssertionError: a rule is broken.
    """
    for path in _foreign(folder):
        example = f"{path.name}, which is not of its format"
        with rule("recognises never raises, and is False for what is not there or of another format", example):
            answer = reader.recognises(path)
            require(answer is False, repr(answer))
        with rule(
            "what cannot be read is refused in one line with ImageReadError, GeometryError or DataError", example
        ):
            _refused(lambda path=path: reader.read(path))  # type: ignore[misc]
    if image is None:
        return
    example = str(image)
    with rule("recognises what it reads", example):
        answer = reader.recognises(image)
        require(answer is True, repr(answer))
    volume = _check_image(reader, image, example)
    _check_masks(reader, volume, image if masks is None else masks, there=masks is not None)
    if expected is not None:
        _check_expected(reader, volume, masks, expected, example)
    _check_damaged(reader, image, folder)


def _check_image(reader: Reader, path: Path, example: str) -> Volume:
    with rule("read gives a Volume that names the path as its source, and what its modality is", example):
        volume = reader.read(path)
        require(isinstance(volume, Volume), f"{type(volume).__name__}")
        require(volume.source == path, f"source {volume.source}")
        require(isinstance(volume.modality, str) and bool(volume.modality), f"modality {volume.modality!r}")
    with rule("voxels are real numbers, (channel, z, y, x), C-contiguous", example):
        voxels = volume.voxels
        require(voxels.dtype.kind in "iuf" and voxels.flags.c_contiguous, show(voxels))
    with rule("reading again gives the same", example):
        again = reader.read(path)
        require(again.geometry.shape == volume.geometry.shape, f"{volume.geometry.shape}, then {again.geometry.shape}")
        require(again.geometry.distance_mm(volume.geometry) == 0, "another place")
        require(np.array_equal(again.voxels, volume.voxels, equal_nan=volume.voxels.dtype.kind == "f"), "other values")
    return volume


def _check_expected(reader: Reader, volume: Volume, masks: Path | None, expected: Phantom, example: str) -> None:
    there, wanted = volume.geometry, expected.image.geometry
    with rule("the image has the shape and spacing (z, y, x), and lies where it was written", example):
        require(there.shape == wanted.shape, f"shape {there.shape}, expected {wanted.shape}")
        require(
            np.allclose(there.spacing, wanted.spacing, rtol=SAME_PLACE), f"{there.spacing}, not {wanted.spacing} mm"
        )
        apart = there.distance_mm(wanted)
        require(apart <= SAME_PLACE * max(wanted.spacing), f"up to {apart:.3g} mm away")
    with rule("the voxels are those that were written, in their places", example):
        wrong = np.count_nonzero(volume.voxels != expected.image.voxels)
        require(wrong == 0, f"{wrong} of {volume.voxels.size} differ")
    if masks is not None:
        with rule("the structures are those that were written, in their places", str(masks)):
            read = reader.read_masks(masks, volume).masks
            require(sorted(read) == sorted(expected.masks), f"{sorted(read)}, expected {sorted(expected.masks)}")
            for name, mask in expected.masks.items():
                wrong = np.count_nonzero(read[name] != mask)
                require(wrong == 0, f"{name!r}: {wrong} voxels differ, of {np.count_nonzero(mask)}")


def _check_masks(reader: Reader, image: Volume, path: Path, *, there: bool) -> None:
    example = str(path)
    with rule("read_masks gives bool masks (z, y, x) on the image's grid by name, or refuses in one line", example):
        try:
            found = reader.read_masks(path, image)
        except REFUSALS as error:
            require(not there, f"{type(error).__name__}: {error}")
            _require_one_line(error)
            return
        require(isinstance(found, Structures), f"{type(found).__name__}, expected Structures")
        require(len(found.masks) > 0, "no structure, and no error")
        wrong = [name for name, mask in found.masks.items() if mask.dtype != bool or mask.shape != image.geometry.shape]
        require(not wrong, f"{', '.join(wrong)}: not bool of shape {image.geometry.shape}")
        require(all(isinstance(name, str) and name for name in found.masks), f"names {sorted(map(str, found.masks))}")
    for other, how in _elsewhere(image):
        with rule("structures are refused for an image on another grid", f"{example}, the image {how}"):
            _refused(lambda other=other: reader.read_masks(path, other))  # type: ignore[misc]


def _elsewhere(image: Volume) -> Iterator[tuple[Volume, str]]:
    """The same image in another place, and with a slice more."""
    shift = np.array([11.0, -7.0, 5.0])
    affine = image.geometry.affine.copy()
    affine[:3, 3] += shift
    origins = None if image.geometry.slice_origins is None else image.geometry.slice_origins + shift
    yield replace(image, geometry=Geometry(image.geometry.shape, affine, origins)), "14 mm away"
    longer = np.concatenate([image.voxels, image.voxels[:, -1:]], axis=1)
    shape = (longer.shape[1], longer.shape[2], longer.shape[3])
    yield replace(image, voxels=longer, geometry=Geometry(shape, image.geometry.affine)), "with a slice more"


def _check_damaged(reader: Reader, image: Path, folder: Path) -> None:
    """Of a folder, its largest file is damaged."""
    copy = folder / "damaged" / image.name
    copy.parent.mkdir()
    if image.is_dir():
        shutil.copytree(image, copy)
        victim = max(sorted(path for path in copy.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    else:
        shutil.copyfile(image, copy)
        victim = copy
    content = victim.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [(content[: int(len(content) * cut)], f"cut to {cut:.1%} of its length") for cut in CUTS]
    for number in range(ALTERED):
        altered = np.frombuffer(content, dtype=np.uint8).copy()
        where = rng.integers(0, len(altered), 8)
        altered[where] = rng.integers(0, 256, len(where))
        damaged.append((altered.tobytes(), f"with bytes changed (copy {number + 1})"))
    for bytes_, how in damaged:
        victim.write_bytes(bytes_)
        with rule("a damaged file is read as far as it is sound, or refused in one line", f"{image}, {how}"):
            answer = reader.recognises(copy)
            require(answer in {True, False}, f"recognises says {answer!r}")
            try:
                reader.read(copy)
            except REFUSALS as error:
                _require_one_line(error)


def _refused(action: Callable[[], Any]) -> None:
    try:
        action()
    except REFUSALS as error:
        _require_one_line(error)
        return
    raise AssertionError("no error")


def _require_one_line(error: Exception) -> None:
    require(bool(str(error)) and "\n" not in str(error), f"the message {str(error)!r}")


def _foreign(folder: Path) -> list[Path]:
    """What a reader may be asked about that is not of its format."""
    there = folder / "foreign"
    there.mkdir(parents=True)
    (there / "empty").write_bytes(b"")
    (there / "empty folder").mkdir()
    (there / "folder of texts").mkdir()
    for text in (there / "text.txt", there / "folder of texts" / "text.txt"):
        text.write_text("The liver lies under the diaphragm.\n" * 20)
    (there / "noise.bin").write_bytes(np.random.default_rng(0).bytes(2048))
    with zipfile.ZipFile(there / "archive.zip", "w") as archive:
        archive.writestr("text.txt", "nothing but text")
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), str(there / "image.nii.gz"))
    return [there / "absent", *sorted(there.iterdir())]
