"""Order statistics of a channel: exact, without widening the volume to float64."""

import math
from abc import ABC, abstractmethod

import numpy as np

_MOST_BINS = 1 << 20


class RankedValues(ABC):
    """A channel's values as if they were sorted; ranks count from 0."""

    size: int

    @abstractmethod
    def value_at(self, rank: int) -> float:
        """The value at a rank of the sorted values."""

    @abstractmethod
    def count_up_to(self, rank: int) -> int:
        """How many values are at most the one at ``rank``, ties included."""


def rank_values(channel: np.ndarray) -> RankedValues:
    """Rank a channel ``(z, y, x)`` of any real dtype, which is not modified."""
    if channel.dtype.kind in "iu" and channel.dtype.itemsize <= 4:
        lowest, highest = int(channel.min()), int(channel.max())
        if highest - lowest < _MOST_BINS:
            return _CountedValues(channel, lowest, highest)
    return _SortedValues(channel)


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
    """Integers of a narrow range: a histogram with one bin per value."""

    def __init__(self, channel: np.ndarray, lowest: int, highest: int) -> None:
        bins = highest - lowest + 1
        counts = np.zeros(bins, np.int64)
        for plane in channel:  # bincount widens to 64 bits: a plane at a time keeps that small
            counts += np.bincount(np.subtract(plane, lowest, dtype=np.int64).ravel(), minlength=bins)
        self.size = channel.size
        self._lowest = lowest
        self._cumulative = np.cumsum(counts)

    def value_at(self, rank: int) -> float:
        return float(self._lowest + self._bin_of(rank))

    def count_up_to(self, rank: int) -> int:
        return int(self._cumulative[self._bin_of(rank)])

    def _bin_of(self, rank: int) -> int:
        return int(np.searchsorted(self._cumulative, rank, side="right"))


class _SortedValues(RankedValues):
    """Anything else: a sorted copy in the channel's own dtype (numpy's vectorised sort is as fast as selecting)."""

    def __init__(self, channel: np.ndarray) -> None:
        native = channel.dtype.newbyteorder("=")
        self._values = np.array(channel, dtype=native, order="C").reshape(-1)
        self._values.sort()
        self.size = channel.size

    def value_at(self, rank: int) -> float:
        return float(self._values[rank])

    def count_up_to(self, rank: int) -> int:
        return int(np.searchsorted(self._values, self._values[rank], side="right"))
