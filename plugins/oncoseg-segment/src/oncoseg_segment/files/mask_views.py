"""Masks by name that are made when they are taken, so that one of many is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray


class RenamedMasks(Mapping[str, BoolArray]):
    """Masks under other names: ``names`` maps the new ones, in their order, to those of ``masks``."""

    def __init__(self, masks: Mapping[str, BoolArray], names: Mapping[str, str]) -> None:
        self._masks, self._names = masks, dict(names)

    def __getitem__(self, name: str) -> BoolArray:
        return self._masks[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class FirstClaims(Mapping[str, BoolArray]):
    """Masks of which no two share a voxel: each voxel that several claim is the earliest's.

    Holds one small number per voxel, whose it is.
    """

    def __init__(self, masks: Mapping[str, BoolArray]) -> None:
        self._numbers = {name: number for number, name in enumerate(masks, start=1)}
        self._owners: npt.NDArray[np.generic] | None = None
        for number, mask in enumerate(masks.values(), start=1):
            if self._owners is None:
                self._owners = np.zeros(mask.shape, dtype=np.min_scalar_type(len(masks)))
            self._owners[mask & (self._owners == 0)] = number

    def __getitem__(self, name: str) -> BoolArray:
        return np.asarray(self._owners == self._numbers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
