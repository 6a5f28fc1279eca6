"""A sheet of thumbnails: cases as the model will see them, turned upright, with the outlines of their targets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import (
    BoolArray,
    Case,
    DataError,
    Normalizer,
    NormalizerSpec,
    OncoSegError,
    Registry,
    UsageError,
    Volume,
)
from oncoseg_core.imaging import COLOURS, draw_legend, draw_outline, draw_slice, new_figure, texts_as_written
from oncoseg_core.path import ChannelwiseNormalizer, choose_channels, parts_of
from oncoseg_core.system import atomic_path

MOST_TILES = 16
MOST_OUTLINES = 8
"""Targets of one case that are outlined; of more, those with the largest area."""

STYLES = ("solid", "dashed")
"""In turn from the largest target to the smallest: where two outlines run together, both are seen."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice turned upright: ``image`` ``(y, x, 3)`` in [0, 1], masks ``(y, x)``; row height over column width.

    The largest mask comes first. ``image`` is None where the modality's normalizer is missing or refuses the image;
    ``title`` then says why.
    """

    title: str
    image: npt.NDArray[np.float32] | None
    masks: dict[str, BoolArray]
    aspect: float


class Preview:
    """Collects tiles while cases are read, keeping one slice of each, and draws them.

    Args:
        registry: where the normalizers are found.
        cases: those that will be read; up to 16 annotated ones are taken, evenly.
        path: the PNG to be.

    Raises:
        UsageError: its name does not end in ``.png``.
    """

    def __init__(self, registry: Registry, cases: Sequence[Case], path: Path) -> None:
        if path.suffix.lower() != ".png":
            raise UsageError(f"{path}: a preview is a PNG; expected a name that ends in .png")
        self._path = path
        annotated = [case.case_id for case in cases if case.labels] or [case.case_id for case in cases]
        number = min(MOST_TILES, len(annotated))
        self._wanted = {annotated[index * len(annotated) // number] for index in range(number)}
        self._registry = registry
        self.tiles: list[Tile] = []

    def add(self, case: Case, volume: Volume, masks: dict[str, BoolArray]) -> None:
        """Take a slice of a case, if it is one of those to show."""
        if case.case_id in self._wanted:
            self.tiles.append(make_tile(self._registry, case.case_id, volume, masks))

    def write(self) -> None:
        """Draw the sheet.

        Raises:
            StorageError: it cannot be written.
        """
        with atomic_path(self._path) as temporary:
            texts_as_written(draw(self.tiles)).savefig(temporary, format="png")


def make_tile(registry: Registry, name: str, volume: Volume, masks: dict[str, BoolArray]) -> Tile:
    """The slice along z on which most of the targets lies, or the middle one, ready to be drawn."""
    areas = np.zeros(volume.geometry.shape[0], np.int64)
    for mask in masks.values():
        areas += mask.sum(axis=(1, 2), dtype=np.int64)
    index = int(areas.argmax()) if areas.any() else len(areas) // 2
    state = f"slice {index}" if areas.any() else f"slice {index}, empty" if masks else f"slice {index}, not annotated"
    view = volume.geometry.view
    row_mm, column_mm = view.spacing(*volume.geometry.spacing[1:])
    try:
        unit = _normalised(registry, volume, index)
    except OncoSegError as error:
        return Tile(f"{name}\n{error}", None, {}, 1.0)
    channels, note = _channels(registry, volume)
    image = np.moveaxis(view.apply(unit[list(channels)]), 0, -1).astype(np.float32)
    upright = {key: np.asarray(view.apply(mask[index]), dtype=bool) for key, mask in masks.items()}
    largest = sorted(upright, key=lambda key: -int(upright[key].sum()))[:MOST_OUTLINES]
    shown = {key: upright[key].copy() for key in largest if upright[key].any()}
    return Tile(f"{name}\n{state}{note}", image, shown, row_mm / column_mm)


def _channels(registry: Registry, volume: Volume) -> tuple[tuple[int, int, int], str]:
    """The three channels a model sees unless told otherwise; the first one, and a note, where nothing says which."""
    parts = parts_of(volume.modality)
    spec = registry.get(NormalizerSpec, volume.modality) if len(parts) == 1 else None
    try:
        return choose_channels(None, spec, len(volume.voxels), volume.channel_names, volume.name), ""
    except DataError:
        first = volume.channel_names[0] if volume.channel_names else "channel 1"
        return (0, 0, 0), f", {first} of {len(volume.voxels)}"


def _normalised(registry: Registry, volume: Volume, index: int) -> npt.NDArray[np.float32]:
    """One slice ``(channel, y, x)`` in [0, 1] by its modality's rule."""
    parts = parts_of(volume.modality)
    built: dict[str, Normalizer] = {part: registry.build(NormalizerSpec, part) for part in sorted(set(parts))}
    single = len(parts) == 1
    normalizer = built[volume.modality] if single else ChannelwiseNormalizer([built[part] for part in parts])
    calibrated = _calibrated(volume, [built[part] for part in parts])
    return np.asarray(normalizer.apply(calibrated[:, index], normalizer.fit(calibrated)), dtype=np.float32)


def _calibrated(volume: Volume, normalizers: Sequence[Normalizer]) -> npt.NDArray[np.generic]:
    """The voxels as their modality means them, where headers tell how they are stored."""
    if not volume.headers:
        return volume.voxels
    channels = len(volume.voxels)
    headers = volume.headers * channels if len(volume.headers) == 1 else volume.headers
    rules = list(normalizers) * channels if len(normalizers) == 1 else list(normalizers)
    return np.concatenate(
        [
            rule.calibrate(volume.voxels[number : number + 1], header)
            for number, (rule, header) in enumerate(zip(rules, headers, strict=False))
        ]
    )


def draw(tiles: Sequence[Tile]) -> Any:
    """A figure with the tiles in rows, and the targets' colours below."""
    columns = max(1, min(4, len(tiles)))
    rows = max(1, math.ceil(len(tiles) / columns))
    figure = new_figure(3.2 * columns, 3.5 * rows + 0.6)
    names = dict.fromkeys(name for tile in tiles for name in tile.masks)
    colours = dict(zip(names, itertools.cycle(COLOURS)))
    grid = figure.subplots(rows, columns, squeeze=False)
    for position, axes in enumerate(grid.flat):
        axes.set_axis_off()
        if position >= len(tiles):
            continue
        tile = tiles[position]
        axes.set_title(tile.title, fontsize=8, wrap=True)
        if tile.image is None:
            continue
        draw_slice(axes, tile.image, tile.aspect)
        for order, (name, mask) in enumerate(tile.masks.items()):
            draw_outline(axes, mask, colours[name], STYLES[order % 2], width=1.6)
    if colours:
        entries = {name: (colour, "-") for name, colour in colours.items()}
        draw_legend(figure, entries, ncols=min(4, len(entries)), fontsize=8)
    return figure
