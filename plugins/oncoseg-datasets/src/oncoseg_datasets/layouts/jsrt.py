"""JSRT chest films, raw numbers without a header, with the SCR masks, one GIF per structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, Case, DataError, Geometry, GeometryError, ImageReadError, Volume
from oncoseg_datasets.folders import files_in, folders_named
from oncoseg_datasets.layouts.base import LayoutAdapter, union_of_parts
from oncoseg_datasets.pictures import read_mask

_SIZE = 2048
"""Pixels along both sides of every film (JSRT User's Guide: 2048 x 2048, 12 bits in two bytes, big-endian)."""

_STRUCTURES = {"left lung": 1, "right lung": 2, "heart": 3, "left clavicle": 4, "right clavicle": 5}
"""The folders of SCR masks, and the label value of what they mark."""


class Jsrt(LayoutAdapter):
    """``All247images/JPCLN001.IMG`` with ``fold1/masks/<structure>/JPCLN001.gif`` (or ``fold2``).

    The values are high where the film is dark, so the volume's header says MONOCHROME1 and the path turns them around.
    The masks have half as many pixels along each side: each marks four pixels of the film.
    """

    def discover(self, root: Path) -> Iterator[Case]:
        """Yield one case per film; its category is ``nodule`` or ``no nodule``.

        Raises:
            DataError: no film is found, one is found twice, or some but not all of a film's masks are there.
        """
        root = Path(root)
        films: dict[str, Path] = {}
        for folder in folders_named(root, "All247images"):
            for path in files_in(folder, (".img",)):
                if re.fullmatch(r"JPC[LN]N\d{3}", path.stem):
                    if path.stem in films:
                        raise DataError(f"{films[path.stem]} and {path}: found twice; keep one")
                    films[path.stem] = path
        if not films:
            raise self.refusal(root, "All247images/JPCLN001.IMG, and the SCR masks in fold1/masks and fold2/masks")
        masks = self._masks(root)
        for name, film in sorted(films.items()):
            found = [masks[structure, name] for structure in _STRUCTURES if (structure, name) in masks]
            if found and len(found) < len(_STRUCTURES):
                lacking = next(structure for structure in _STRUCTURES if (structure, name) not in masks)
                raise DataError(f"{film}: has no mask of the {lacking}; the copy of the SCR masks is incomplete")
            yield self.case(
                case_id=name,
                patient_id=name,
                images=(film,),
                labels=tuple(found),
                targets=self.record.targets if found else (),
                category="nodule" if name.startswith("JPCLN") else "no nodule",
            )

    def load(self, case: Case) -> tuple[Volume, dict[str, BoolArray]]:
        """Read a film and its masks."""
        volume = _read_film(case.images[0], case.modality)
        parts = {_STRUCTURES[path.parent.name]: _enlarged(path)[np.newaxis] for path in case.labels}
        if not parts:
            return volume, {}
        return volume, union_of_parts(case.targets, parts, np.zeros(volume.geometry.shape, dtype=bool))

    def _masks(self, root: Path) -> dict[tuple[str, str], Path]:
        """The mask files by structure and film; a film is in one of the two folds."""
        found: dict[tuple[str, str], Path] = {}
        for structure in _STRUCTURES:
            for folder in folders_named(root, f"masks/{structure}"):
                for path in files_in(folder, (".gif",)):
                    key = (structure, path.stem.upper())
                    if key in found:
                        raise DataError(f"{found[key]} and {path}: found twice; keep one")
                    found[key] = path
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
