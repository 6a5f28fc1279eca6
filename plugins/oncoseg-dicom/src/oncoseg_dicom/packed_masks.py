"""Masks by name, held as bits of the boxes that they fill on each slice: a file may hold sixty of a whole body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray


class _Box(NamedTuple):
    """What a mask holds on a slice: the box's rows and columns, and its pixels, eight to a byte."""

    rows: slice
    columns: slice
    bits: npt.NDArray[np.uint8]

    def pixels(self) -> BoolArray:
        height, width = (part.stop - part.start for part in (self.rows, self.columns))
        return np.unpackbits(self.bits, count=height * width).reshape(height, width).view(bool)


class PackedMasks(Mapping[str, BoolArray]):
    """Masks bool ``(z, y, x)`` of one shape by name, each unpacked, as an array of its own, whenever it is taken."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._boxes: dict[str, dict[int, _Box]] = {}

    def add_empty(self, name: str) -> None:
        """Keep a place for a mask that may get nothing."""
        self._boxes.setdefault(name, {})

    def add(self, name: str, mask: BoolArray) -> None:
        """Add a mask ``(z, y, x)`` to what there is by that name."""
        self.add_empty(name)
        for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
            self.add_slice(name, index, mask[index])

    def add_slice(self, name: str, index: int, plane: BoolArray) -> None:
        """Add what a mask holds on a slice ``(y, x)`` to what there is by that name."""
        boxes = self._boxes.setdefault(name, {})
        if index in boxes:
            plane = plane.copy()
            plane[boxes[index].rows, boxes[index].columns] |= boxes[index].pixels()
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if rows.size:
            box = (slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
            boxes[index] = _Box(*box, np.packbits(plane[box]))

    def __getitem__(self, name: str) -> BoolArray:
        boxes = self._boxes[name]
        mask = np.zeros(self._shape, dtype=bool)
        for index, box in boxes.items():
            mask[index, box.rows, box.columns] = box.pixels()
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._boxes)

    def __len__(self) -> int:
        return len(self._boxes)
