"""JSRT chest films, raw numbers without a header, with the SCR masks, one GIF per structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from oncoseg_core import BoolArray, Case, Geometry, GeometryError, ImageReadError, Settings, Split, Volume
from oncoseg_datasets.folders import files_in, folders_named
from oncoseg_datasets.layouts.base import LayoutAdapter, union_of_parts, with_fault
from oncoseg_datasets.layouts.files import FilesByName
from oncoseg_datasets.pictures import read_mask

_SIZE = 2048
"""Pixels along both sides of every film (JSRT User's Guide: 2048 x 2048, 12 bits in two bytes, big-endian)."""

_STRUCTURES = {"left lung": 1, "right lung": 2, "heart": 3, "left clavicle": 4, "right clavicle": 5}
"""The folders of SCR masks, and the label value of what they mark."""


class JsrtSettings(Settings):
    """``fold``: which fold of the SCR masks validates, 1 or 2; the other one trains. None: no split."""

    fold: Literal[1, 2] | None = None


class Jsrt(LayoutAdapter):
    """``All247images/JPCLN001.IMG`` with ``fold1/masks/<structure>/JPCLN001.gif`` (or ``fold2``).

    The values are high where the film is dark, so the volume's header says MONOCHROME1 and the path turns them around.
    The masks have half as many pixels along each side: each marks four pixels of the film.
    """

    Settings = JsrtSettings

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per film; its category is ``nodule`` or ``no nodule``.

        A film or mask that is there twice, or some but not all of a film's masks, make a bad case.

        Raises:
            DataError: no film is found.
        """
        root = Path(root)
        films = FilesByName()
        for folder in folders_named(root, "All247images"):
            for path in files_in(folder, (".img",)):
                if re.fullmatch(r"JPC[LN]N\d{3}", path.stem):
                    films.add(path.stem, path)
        if not films:
            raise self.refusal(root, "All247images/JPCLN001.IMG, and the SCR masks in fold1/masks and fold2/masks")
        masks = {structure: _masks(root, structure) for structure in _STRUCTURES}
        for name, film in sorted(films.items()):
            found = [files[name] for files in masks.values() if name in files]
            case = self.case(
                case_id=name,
                patient_id=name,
                images=(film,),
                labels=tuple(found),
                targets=self.record.targets if found else (),
                split=self._side(found),
                category="nodule" if name.startswith("JPCLN") else "no nodule",
            )
            if found and len(found) < len(_STRUCTURES):
                lacking = next(structure for structure, files in masks.items() if name not in files)
                incomplete = f"{film}: has no mask of the {lacking}; the copy of the SCR masks is incomplete"
                case = with_fault(case, "missing-label", incomplete)
            clashes = [films.clashes.get(name), *(files.clashes.get(name) for files in masks.values())]
            yield with_fault(case, "twice", next(filter(None, clashes), None))

    def _side(self, masks: list[Path]) -> Split | None:
        """The side of a film by the fold that its masks lie in."""
        if self.settings.fold is None or not masks:
            return None
        return "validation" if f"fold{self.settings.fold}" in masks[0].parts else "train"

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a film and its masks."""
        volume = _read_film(case.images[0], case.modality)
        parts = {_STRUCTURES[path.parent.name]: _enlarged(path)[np.newaxis] for path in case.labels}
        if not parts:
            return volume, {}
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))


def _masks(root: Path, structure: str) -> FilesByName:
    """The masks of a structure by film; a film is in one of the two folds."""
    found = FilesByName()
    for folder in folders_named(root, f"masks/{structure}"):
        for path in files_in(folder, (".gif",)):
            found.add(path.stem.upper(), path)
    return found


def _read_film(path: Path, modality: str) -> Volume:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) != 2 * _SIZE * _SIZE:
        raise ImageReadError(
            f"{path}: has {len(content)} bytes; expected {2 * _SIZE * _SIZE}, {_SIZE} x {_SIZE} numbers of two bytes"
        )
    pixels = np.frombuffer(content, dtype=">u2").astype(np.uint16).reshape(1, 1, _SIZE, _SIZE)
    if pixels.max() > 4095:
        raise ImageReadError(f"{path}: holds {pixels.max()}; expected 12 bits (0 to 4095), big-endian")
    header = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}
    return Volume(pixels, Geometry.from_parts((1, _SIZE, _SIZE)), modality, path, physical=False, headers=(header,))


def _enlarged(path: Path) -> BoolArray:
    """A mask with each pixel repeated so that it covers the film."""
    mask = read_mask(path)
    height, width = mask.shape
    if height != width or _SIZE % height:
        raise GeometryError(f"{path}: has {height} x {width} pixels; expected a whole fraction of {_SIZE} x {_SIZE}")
    times = _SIZE // height
    return mask.repeat(times, axis=0).repeat(times, axis=1)
