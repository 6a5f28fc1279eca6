"""Normalizers that clip each channel at two of its percentiles and map what is between to [0, 1]."""

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from oncoseg_core.errors import DataError
from oncoseg_core.interfaces import Normalizer, Settings, Stats
from oncoseg_modalities.linear import to_unit
from oncoseg_modalities.ranks import percentile, rank_values

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class PercentileSettings(Settings):
    """``percentiles``: what becomes 0 and 1.

    ``background_share``: when at least this share of a channel's voxels lies on one value at its bottom, that is the
    air or the frame around the object, and the percentiles are taken without it. 1 takes all voxels.
    """

    percentiles: tuple[Percent, Percent]
    background_share: Share = 1.0

    @field_validator("percentiles")
    @classmethod
    def _increasing(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        if percentiles[0] >= percentiles[1]:
            raise ValueError("the low percentile must be below the high one")
        return percentiles


class PercentileNormalizer(Normalizer):
    """Base of the percentile normalizers: a subclass brings its own ``Settings`` with defaults.

    The bottom of a channel is the value at its low percentile, not its minimum, so that a few stray voxels below the
    background do not hide it; and it is not "zero", so that the result is the same after ``x -> a * x + b`` with
    a > 0. Percentiles are those of ``numpy.percentile`` on float64.
    """

    Settings = PercentileSettings

    def fit(self, voxels: np.ndarray) -> Stats:
        """Find each channel's two percentiles in a whole volume ``(channel, z, y, x)``: ``low`` and ``high``."""
        limits = [self._limits(channel) for channel in voxels]
        return {"low": tuple(low for low, _ in limits), "high": tuple(high for _, high in limits)}

    def apply(self, voxels: np.ndarray, stats: Stats) -> npt.NDArray[np.float32]:
        """Map voxels ``(channel, ...)`` to float32 in [0, 1]; a constant channel becomes 0.

        Raises:
            DataError: the statistics are of another number of channels.
        """
        if len(stats["low"]) != voxels.shape[0]:
            raise DataError(
                f"statistics of {len(stats['low'])} channels given for an image of {voxels.shape[0]}; "
                "fit them on the volume that they are applied to"
            )
        return to_unit(voxels, stats["low"], stats["high"])

    def _limits(self, channel: np.ndarray) -> tuple[float, float]:
        low_percent, high_percent = self.settings.percentiles
        values = rank_values(channel)
        bottom = math.floor(low_percent / 100 * (values.size - 1))
        background = values.count_up_to(bottom)
        if not self.settings.background_share * values.size <= background < values.size:
            background = 0
        low = percentile(values, low_percent, skip=background)
        high = percentile(values, high_percent, skip=background)
        if low == high:  # an object of one single value: keep it apart from its background
            low = values.value_at(bottom)
        return low, high
