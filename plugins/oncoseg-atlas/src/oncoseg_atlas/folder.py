"""The folder of atlases: a clinic's contoured cases, each checked and made ready once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from oncoseg_atlas.cache import Arrays, Cache, key_of
from oncoseg_atlas.contours import SoftMask, contour_grid, index_of, soft_mask
from oncoseg_atlas.prepared import Prepared, prepare
from oncoseg_atlas.settings import AtlasSettings
from oncoseg_core import (
    BoolArray,
    DataError,
    Geometry,
    Name,
    NormalizerSpec,
    OncoSegError,
    Progress,
    Registry,
    Settings,
    UnknownComponentError,
    Volume,
    load_plugins,
)
from oncoseg_core.imaging import VOLUME_SUFFIXES, content_hash, format_suffix, read_image, read_label, read_masks
from oncoseg_core.plugins import read_yaml, validate
from oncoseg_core.system import json_text

DESCRIPTION = "atlases.yaml"
NAMES = "names.yaml"
VERSION = 2
"""Of what is kept of an atlas; another one is made anew."""


class FolderDescription(Settings):
    """``atlases.yaml``: what is true of all cases in the folder.

    ``modality`` is that of the images; ``body_part`` and ``licence`` are for readers. ``names`` say which number of a
    label image is which structure, where a case has no ``names.yaml`` of its own. ``rename`` gives structures other
    names than the files do; ``structures`` are the only ones that are taken, by their new names: a plan's file also
    holds targets and helper structures.
    """

    modality: Name
    body_part: str = ""
    licence: str = "the clinic's own cases"
    names: dict[int, str] = Field(default_factory=dict)
    rename: dict[str, str] = Field(default_factory=dict)
    structures: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Atlas:
    """A case made ready: its scan on the working grid, its structures on the grid of its contours."""

    key: str
    scan: Prepared
    grid: Geometry
    masks: Mapping[str, SoftMask]


@dataclass(frozen=True)
class AtlasCase:
    """A case that is sound: ``number`` in the order of the folder's names, ``key`` of what was made of it."""

    number: int
    folder: Path
    key: str
    structures: tuple[str, ...]


class AtlasFolder:
    """The sound cases of a folder; the others are left out, each with a line in ``notes``.

    Cases are named by their number in the order of their folders' names, which may be those of patients.

    Raises:
        DataError: the folder is none, or no case in it is sound.
        ConfigError: ``atlases.yaml`` is wrong.
    """

    def __init__(self, settings: AtlasSettings, cache: Cache, progress: Progress | None = None) -> None:
        self._settings, self._cache = settings, cache
        root = settings.folder.expanduser()
        if not root.is_dir():
            raise DataError(f"`folder` {root}: no such folder; expected one subfolder for each contoured case")
        text = read_yaml(root / DESCRIPTION) if (root / DESCRIPTION).is_file() else None
        if text is None:
            raise DataError(f"{root}: holds no {DESCRIPTION}; expected one with at least `modality: ct`")
        self.description: FolderDescription = validate(FolderDescription, text, str(root / DESCRIPTION))
        self._registry: Registry | None = None
        folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        self.cases: list[AtlasCase] = []
        self.voxels: dict[int, str] = {}
        """The hash of each case's voxels, by its number."""
        notes = []
        for number, folder in enumerate(folders, start=1):
            if progress is not None:
                progress("reading atlases", number - 1, len(folders))
            try:
                self.cases.append(self._case(number, folder))
            except (OncoSegError, OSError) as error:
                reason = " ".join(str(error).split()).replace(str(folder), f"case {number}")
                notes.append(f"atlas case {number} is left out: {reason}")
        self.notes = tuple(notes)
        if not self.cases:
            raise DataError(
                f"{root}: holds no sound case among {len(folders)}" + "".join(f"; {one}" for one in notes[:3])
            )

    @property
    def structures(self) -> tuple[str, ...]:
        """All that any case has, in alphabetical order."""
        return tuple(sorted({name for case in self.cases for name in case.structures}))

    @property
    def sha256(self) -> str:
        """Of the contents of all sound cases and of how they are read, whatever the folders are called."""
        return key_of(sorted(case.key for case in self.cases))

    def load(self, case: AtlasCase) -> Atlas:
        """A case made ready, from the cache where it is there."""
        return _atlas(case.key, self._cache.get(case.key, lambda: self._make(case.folder)))

    def _case(self, number: int, folder: Path) -> AtlasCase:
        key = key_of(
            VERSION,
            sitk.Version.VersionString(),
            files_sha256(folder),
            self.description.model_dump(mode="json", exclude={"body_part", "licence"}),
            [self._settings.spacing_mm, self._settings.contour_spacing_mm, self._settings.most_voxels],
        )
        arrays = self._cache.get(key, lambda: self._make(folder))
        about = json.loads(str(arrays["about"]))
        self.voxels[number] = about["voxels"]
        return AtlasCase(number, folder, key, tuple(about["names"]))

    def _make(self, folder: Path) -> Arrays:
        image_path, structures_path = _the_one(folder, "image"), _the_one(folder, "structures")
        volume = self._image(image_path)
        masks = self._masks(folder, structures_path, volume)
        scan = prepare(volume, self._settings, "its image")
        names: list[str] = []
        arrays: Arrays = {}
        boxes = []
        for name in masks:
            soft = soft_mask(masks[name], volume.geometry, self._settings.contour_spacing_mm)
            if soft is not None:
                arrays[f"mask{len(names)}"] = soft.shares
                boxes.append(soft.first)
                names.append(name)
        if not names:
            raise DataError("its structures are empty, or `structures` in atlases.yaml names none of them")
        grid = contour_grid(volume.geometry, self._settings.contour_spacing_mm)
        about = {"names": names, "boxes": boxes, "voxels": content_hash(volume.voxels, volume.geometry)}
        place = {"spacing": scan.image.GetSpacing(), "origin": scan.image.GetOrigin(), "shape": grid.shape}
        return {
            **arrays,
            "about": np.array(json_text({**about, **place})),
            "affine": np.asarray(grid.affine),
            "image": sitk.GetArrayFromImage(scan.image).astype(np.float16),
            "body": np.packbits(sitk.GetArrayFromImage(scan.body)),
            "scanned": np.packbits(sitk.GetArrayFromImage(scan.scanned)),
        }

    def _image(self, path: Path) -> Volume:
        volume = read_image(self._plugins(), path)
        if volume.modality not in {"unknown", self.description.modality}:
            raise DataError(f"its image is {volume.modality!r}, `modality` is {self.description.modality!r}")
        volume = replace(volume, modality=self.description.modality)
        return calibrated(volume, self._plugins())

    def _masks(self, folder: Path, path: Path, volume: Volume) -> Mapping[str, BoolArray]:
        names = self.description.names
        if (folder / NAMES).is_file():
            names = validate(_Names, {"names": read_yaml(folder / NAMES)}, NAMES).names
        rename = self.description.rename
        files = [] if path.is_file() else sorted(one for one in path.iterdir() if format_suffix(one) in VOLUME_SUFFIXES)
        masks: dict[str, BoolArray] = {}
        for name, mask in _of_files(files, volume) if files else self._of_one(path, volume, names):
            called = rename.get(name, name)
            if called in masks:
                raise DataError(f"two of its structures share a name: {called!r}")
            masks[called] = mask
        only = self.description.structures
        return {name: mask for name, mask in masks.items() if only is None or name in only}

    def _of_one(self, path: Path, volume: Volume, names: Mapping[int, str]) -> Iterator[tuple[str, BoolArray]]:
        read = read_masks(self._plugins(), path, volume).masks
        return ((_named(name, names), read[name]) for name in read)

    def _plugins(self) -> Registry:
        if self._registry is None:
            self._registry = load_plugins()
        return self._registry


class _Names(Settings):
    names: dict[int, str]


def _of_files(files: Sequence[Path], volume: Volume) -> Iterator[tuple[str, BoolArray]]:
    """One structure for each file, which is called like it."""
    for path in files:
        label = read_label(path, volume, any_axes=True)
        yield path.name[: -len(format_suffix(path))], np.asarray(label, dtype=bool)


def _named(name: str, names: Mapping[int, str]) -> str:
    """The name of a structure; of a label image's number, what the names say.

    Raises:
        DataError: a label image holds a number that has no name.
    """
    number = name.removeprefix("label ")
    if number == name or not number.lstrip("-").isdigit():
        return name
    if int(number) not in names:
        raise DataError(f"its label image holds {number}, which has no name in {NAMES} or {DESCRIPTION}")
    return names[int(number)]


def calibrated(volume: Volume, registry: Registry) -> Volume:
    """The values as the modality means them, where the file says how they are stored."""
    if not volume.headers:
        return volume
    try:
        normalizer = registry.build(NormalizerSpec, volume.modality)
    except UnknownComponentError:
        return replace(volume, headers=())
    voxels = normalizer.calibrate(volume.voxels, volume.headers[0])
    return replace(volume, voxels=np.ascontiguousarray(voxels), headers=())


def _the_one(folder: Path, stem: str) -> Path:
    """The file or folder of a case that is called ``stem``, with whatever suffix.

    Raises:
        DataError: there is none, or several.
    """
    found = [path for path in sorted(folder.iterdir()) if path.name.partition(".")[0].lower() == stem]
    if len(found) != 1:
        which = "no" if not found else " and ".join(path.name for path in found) + " as"
        raise DataError(f"it holds {which} `{stem}`: expected one file or folder of that name")
    return found[0]


def files_sha256(folder: Path) -> str:
    """Of the contents and relative names of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return digest.hexdigest()


def _atlas(key: str, arrays: Arrays) -> Atlas:
    about: dict[str, Any] = json.loads(str(arrays["about"]))
    shape = arrays["image"].shape

    def placed(array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(about["spacing"])
        image.SetOrigin(about["origin"])
        return image

    def bits(name: str) -> sitk.Image:
        return placed(np.unpackbits(arrays[name], count=int(np.prod(shape))).reshape(shape))

    masks = {
        name: SoftMask(index_of(first), arrays[f"mask{number}"])
        for number, (name, first) in enumerate(zip(about["names"], about["boxes"], strict=True))
    }
    scan = Prepared(placed(arrays["image"].astype(np.float32)), bits("body"), bits("scanned"))
    return Atlas(key, scan, Geometry(index_of(about["shape"]), arrays["affine"]), masks)
