"""Order statistics of a channel: exact, counted digit by digit, without a copy of the volume."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_DIGIT = 16
_BLOCK = 1 << 18
_FEW = 1 << 18


class RankedValues:
    """A channel's finite values as if they were sorted; ranks count from 0.

    Every value has an unsigned key that sorts as the values do (of a float: its bits, all turned around when it is
    negative). Values are counted by the first 16 bits of their keys; those that share the 16 bits of a rank that is
    asked for are sorted when they are few, or counted by their next 16 bits. No more than a block of values is ever
    copied.
    """

    def __init__(self, channel: np.ndarray) -> None:
        """Rank a channel ``(z, y, x)`` of any real dtype, which is not modified."""
        self._channel = channel if channel.dtype.itemsize <= 8 else channel.astype(np.float64)
        self._type = self._channel.dtype.newbyteorder("=") if channel.dtype != bool else np.dtype(np.uint8)
        self._bits = 8 * self._type.itemsize
        self._width = min(_DIGIT, self._bits)
        self._unsigned = np.dtype(f"u{self._type.itemsize}")
        self._counted: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._few: dict[tuple[int, int], np.ndarray] = {}
        self.size = int(self._cumulative(0, self._bits)[-1])

    def value_at(self, rank: int) -> float:
        """The value at a rank of the sorted values."""
        return float(self._value(self._locate(rank)[0]))

    def count_up_to(self, rank: int) -> int:
        """How many values are at most the one at ``rank``, ties included."""
        return self._locate(rank)[1]

    def count_at_most(self, limit: float) -> int:
        """How many values are at most ``limit``."""
        return sum(int(np.count_nonzero(block <= np.float64(limit))) for block in self._blocks())

    def _locate(self, rank: int) -> tuple[int, int]:
        """The key at a rank, and how many keys are at most it."""
        prefix, below, shift = 0, 0, self._bits
        while True:
            cumulative = self._cumulative(prefix, shift)
            digit = int(np.searchsorted(cumulative, rank - below, side="right"))
            before = int(cumulative[digit - 1]) if digit else 0
            shift -= self._width
            prefix = prefix << self._width | digit
            if shift == 0:
                return prefix, below + int(cumulative[digit])
            below += before
            if cumulative[digit] - before <= _FEW:
                keys = self._sorted(prefix, shift)
                key = keys[rank - below]
                return int(key), below + int(np.searchsorted(keys, key, side="right"))

    def _cumulative(self, prefix: int, shift: int) -> npt.NDArray[np.int64]:
        """Counts of the digit that follows a key's prefix, summed up; ``shift`` bits of the key follow the prefix."""
        if (prefix, shift) not in self._counted:
            counts = np.zeros(1 << self._width, np.int64)
            last = self._unsigned.type((1 << self._width) - 1)
            for keys in self._with_prefix(prefix, shift):
                digits = (keys >> self._unsigned.type(shift - self._width)) & last
                counts += np.bincount(digits.astype(np.intp), minlength=1 << self._width)
            self._counted[prefix, shift] = np.cumsum(counts)
        return self._counted[prefix, shift]

    def _sorted(self, prefix: int, shift: int) -> np.ndarray:
        """The few keys with a prefix, sorted."""
        if (prefix, shift) not in self._few:
            self._few[prefix, shift] = np.sort(np.concatenate(list(self._with_prefix(prefix, shift))))
        return self._few[prefix, shift]

    def _with_prefix(self, prefix: int, shift: int) -> Iterator[np.ndarray]:
        for block in self._blocks():
            keys = self._keys(block)
            yield keys if shift == self._bits else keys[keys >> self._unsigned.type(shift) == prefix]

    def _blocks(self) -> Iterator[np.ndarray]:
        """The finite values, some rows at a time, flat and of native byte order."""
        for plane in self._channel:
            rows = max(1, _BLOCK // max(1, plane.size // max(1, len(plane))))
            for start in range(0, len(plane), rows):
                block = np.ascontiguousarray(plane[start : start + rows], dtype=self._type).reshape(-1)
                if self._type.kind == "f":
                    finite = np.isfinite(block)
                    block = block if finite.all() else block[finite]
                yield block

    def _keys(self, block: np.ndarray) -> np.ndarray:
        sign = self._unsigned.type(1 << (self._bits - 1))
        if self._type.kind == "u":
            return block
        if self._type.kind == "i":
            return block.view(self._unsigned) ^ sign
        bits = (block + self._type.type(0)).view(self._unsigned)  # -0 becomes 0
        return np.where(bits & sign, ~bits, bits | sign)

    def _value(self, key: int) -> np.generic:
        sign = 1 << (self._bits - 1)
        if self._type.kind == "i":
            key ^= sign
        elif self._type.kind == "f":
            key = key ^ sign if key & sign else ~key & ((1 << self._bits) - 1)
        value: np.generic = np.array([key], self._unsigned).view(self._type)[0]
        return value


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
