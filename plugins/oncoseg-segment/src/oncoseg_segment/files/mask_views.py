"""Masks by name that are made when they are taken, so that one of many is in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

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


class ChosenMasks(Mapping[str, BoolArray]):
    """Some masks of a mapping, in the order given; those ``left_out`` are empty."""

    def __init__(self, masks: Mapping[str, BoolArray], names: Sequence[str], left_out: Collection[str] = ()) -> None:
        self._masks, self._names, self._left_out = masks, tuple(names), frozenset(left_out)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> BoolArray:
        if name not in self._names:
            raise KeyError(name)
        mask = self._masks[name]
        return np.zeros_like(mask) if name in self._left_out else mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class FirstClaims(Mapping[str, BoolArray]):
    """Masks of which no two share a voxel: each voxel that several claim is the earliest's.

    ``order`` are those that claim, the earliest first; all when None. Masks of others stay as they are.
    Holds one small number per voxel, whose it is.
    """

    def __init__(self, masks: Mapping[str, BoolArray], order: Iterable[str] | None = None) -> None:
        self._masks = masks
        self._numbers = {name: number for number, name in enumerate(masks if order is None else order, start=1)}
        self._owners: npt.NDArray[np.generic] | None = None
        for name, number in self._numbers.items():
            mask = masks[name]
            if self._owners is None:
                self._owners = np.zeros(mask.shape, dtype=np.min_scalar_type(len(masks)))
            self._owners[mask & (self._owners == 0)] = number

    def __getitem__(self, name: str) -> BoolArray:
        number = self._numbers.get(name)
        return self._masks[name] if number is None else np.asarray(self._owners == number)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self._masks)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._numbers, *self._masks]))

    def __len__(self) -> int:
        return len(self._masks)
