"""Order statistics of a channel: exact, without a copy of the volume."""

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from oncoseg_core.system import for_each

Result = TypeVar("Result")

_BLOCK = 1 << 18
_SAMPLES = 1 << 16


class RankedValues(ABC):
    """A channel's finite values as if they were sorted; ranks count from 0.

    Args:
        channel: ``(z, y, x)`` of any real dtype, or ``(y, x)``; not modified.
    """

    size: int

    def __init__(self, channel: np.ndarray) -> None:
        self._channel = channel.reshape(-1, *channel.shape[-2:])

    @abstractmethod
    def value_at(self, rank: int) -> float:
        """The value at a rank of the sorted values."""

    @abstractmethod
    def count_up_to(self, rank: int) -> int:
        """How many values are at most the one at ``rank``, ties included."""

    def count_at_most(self, limit: float) -> int:
        """How many values are at most ``limit``."""
        return sum(self._of_blocks(lambda block, _: int(np.count_nonzero(block <= np.float64(limit)))))

    def _of_blocks(self, work: Callable[[np.ndarray, int], Result]) -> list[Result]:
        """What ``work`` makes of each block: the finite values of some rows, flat, and the place of the first one."""
        native = self._channel.dtype.newbyteorder("=")
        depth, height, width = self._channel.shape
        rows = max(1, _BLOCK // width)

        def of_block(place: tuple[int, int]) -> Result:
            z, y = place
            block = np.ascontiguousarray(self._channel[z, y : y + rows], dtype=native).reshape(-1)
            if native.kind == "f":
                finite = np.isfinite(block)
                block = block if finite.all() else block[finite]
            return work(block, (z * height + y) * width)

        return for_each(of_block, [(z, y) for z in range(depth) for y in range(0, height, rows)], self._channel.size)


def rank_values(channel: np.ndarray) -> RankedValues:
    """Rank a channel ``(z, y, x)`` of any real dtype, which is not modified."""
    if channel.dtype.kind in "biu" and channel.dtype.itemsize <= 2:
        return _CountedValues(channel)
    return _SelectedValues(channel)


def percentile(values: RankedValues, percent: float, skip: int = 0) -> float:
    """The percentile that ``numpy.percentile`` gives for the values as float64 (method "linear").

    Args:
        values: the ranked values.
        percent: from 0 to 100.
        skip: how many of the lowest values to leave out first.
    """
    last = values.size - skip - 1
    position = percent / 100 * last
    below = math.floor(position)
    left, right = values.value_at(skip + below), values.value_at(skip + min(below + 1, last))
    fraction = position - below
    if fraction < 0.5:  # numpy interpolates from the nearer end; the other order would round differently
        return left + (right - left) * fraction
    return right - (right - left) * (1 - fraction)


class _CountedValues(RankedValues):
    """Integers of 16 bits or less: how often each occurs."""

    def __init__(self, channel: np.ndarray) -> None:
        super().__init__(channel)
        self._lowest = 0 if channel.dtype == bool else int(np.iinfo(channel.dtype).min)
        bins = 1 << 8 * channel.dtype.itemsize
        counts = np.zeros(bins, np.int64)
        lock = threading.Lock()

        def count(block: np.ndarray, _: int) -> None:  # bincount widens to 64 bits: a block at a time keeps that small
            own = np.bincount(np.subtract(block, self._lowest, dtype=np.int64), minlength=bins)
            with lock:
                np.add(counts, own, out=counts)

        self._of_blocks(count)
        self.size = channel.size
        self._cumulative = np.cumsum(counts)

    def value_at(self, rank: int) -> float:
        return float(self._lowest + self._bin_of(rank))

    def count_up_to(self, rank: int) -> int:
        return int(self._cumulative[self._bin_of(rank)])

    def _bin_of(self, rank: int) -> int:
        return int(np.searchsorted(self._cumulative, rank, side="right"))


class _SelectedValues(RankedValues):
    """Anything else: a sample tells between which two values a rank lies, and a pass over all sorts those between.

    Floyd and Rivest's way to select (Communications of the ACM 18, 1975): exact, and quicker than sorting or
    partitioning a copy of all values.
    """

    def __init__(self, channel: np.ndarray) -> None:
        super().__init__(channel)
        self._sections: list[_Section] = []
        step = max(1, channel.size // _SAMPLES) | 1  # odd: does not fall on the same columns in every row
        found = self._of_blocks(lambda block, start: (block.size, block[-start % step :: step]))
        self.size = sum(size for size, _ in found)
        self._sample = np.sort(np.concatenate([kept for _, kept in found]))

    def value_at(self, rank: int) -> float:
        return float(self._section(rank).value_and_count(rank)[0])

    def count_up_to(self, rank: int) -> int:
        return self._section(rank).value_and_count(rank)[1]

    def _section(self, rank: int) -> "_Section":
        """The neighbourhood of a rank, found before or found now."""
        for section in self._sections:
            if section.holds(rank):
                return section
        expected = rank / self.size * self._sample.size
        margin = 2 + 2 * math.isqrt(self._sample.size)
        while True:
            first, last = math.floor(expected) - margin, math.ceil(expected) + margin
            section = self._between(
                self._sample[first] if first >= 0 else None,
                self._sample[last] if last < self._sample.size else None,
            )
            if section.holds(rank):
                self._sections.append(section)
                return section
            margin *= 8

    def _between(self, low: np.generic | None, high: np.generic | None) -> "_Section":
        """Count and keep the values from ``low`` to ``high``; None has no bound on that side."""

        def look(block: np.ndarray, _: int) -> tuple[int, int, np.ndarray, int]:
            inside, below, at_low, at_high = np.ones(block.shape, bool), 0, 0, 0
            if low is not None:
                inside = block > low
                at_low = int(np.count_nonzero(block == low))
                below = block.size - int(np.count_nonzero(inside)) - at_low
            if high is not None:
                inside &= block < high
                at_high = int(np.count_nonzero(block == high)) if high != low else 0
            return below, at_low, block[inside], at_high

        below, at_low, between, at_high = zip(*self._of_blocks(look), strict=True)
        return _Section(sum(below), low, sum(at_low), np.sort(np.concatenate(between)), high, sum(at_high))


class _Section(NamedTuple):
    """Neighbours in rank: after ``below`` others ``at_low`` times ``low``, those between, ``at_high`` times ``high``.

    A value that occurs often is a bound, and so never copied.
    """

    below: int
    low: np.generic | None
    at_low: int
    between: np.ndarray
    high: np.generic | None
    at_high: int

    def holds(self, rank: int) -> bool:
        """Whether the value at that rank is here."""
        return self.below <= rank < self.below + self.at_low + self.between.size + self.at_high

    def value_and_count(self, rank: int) -> tuple[Any, int]:
        """The value at a rank, and how many values are at most it."""
        position = rank - self.below - self.at_low
        if position < 0:
            return self.low, self.below + self.at_low
        if position >= self.between.size:
            return self.high, self.below + self.at_low + self.between.size + self.at_high
        value = self.between[position]
        return value, self.below + self.at_low + int(np.searchsorted(self.between, value, side="right"))
