"""Normalizers that clip each channel at two of its percentiles and map what is between to [0, 1]."""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from oncoseg_core import DataError, Normalizer, Settings, Stats
from oncoseg_modalities.intensity.colour import is_grey
from oncoseg_modalities.intensity.linear import Curve, to_unit
from oncoseg_modalities.intensity.ranks import RankedValues, percentile, rank_values

Percent = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class PercentileSettings(Settings):
    """``percentiles``: what becomes 0 and 1.

    ``background_share``: when at least this share of a channel's voxels lies on one value at its bottom, that is the
    air or the frame around the object, and the percentiles are taken without it. 1 takes all voxels.

    ``noise_level``, ``noise_share``: air that is not one value. When at least the share of a channel's voxels lies in
    the lowest part of its range, that is air with noise in it, and left out too. The range is that between the two
    percentiles of all voxels; the level is the part of it. A share of 1 takes all voxels.
    """

    percentiles: tuple[Percent, Percent]
    background_share: Share = 1.0
    noise_level: Annotated[float, Field(ge=0, lt=1)] = 0.0
    noise_share: Share = 1.0

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
    a > 0. Percentiles are those of ``numpy.percentile`` on float64. NaN and infinite voxels take no part in them; NaN
    becomes 0.

    ``channels`` says what several channels are: ``separate`` images, each with its own limits; ``colour``, each with
    its own, unless the picture is grey and merely stored in colour; or ``grey``, a picture of one quantity whatever
    it is stored in: one pair of limits, so that grey stays grey and colours drawn on it keep their hue.
    """

    Settings = PercentileSettings
    channels: ClassVar[Literal["separate", "colour", "grey"]] = "separate"

    def fit(self, voxels: np.ndarray) -> Stats:
        """Find each channel's two percentiles in a whole volume ``(channel, z, y, x)``: ``low`` and ``high``."""
        voxels = self.region(voxels)
        several = len(voxels) > 1 and self.channels != "separate"
        if several and is_grey(voxels):  # exactly as for the picture stored in one channel
            limits = [self._limits(rank_values(voxels[0]))] * len(voxels)
        elif several and self.channels == "grey":
            limits = [self._limits(rank_values(voxels.reshape(-1, *voxels.shape[2:])))] * len(voxels)
        else:
            limits = [self._limits(rank_values(channel)) for channel in voxels]
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
        return to_unit(voxels, stats["low"], stats["high"], self.curve())

    def region(self, voxels: np.ndarray) -> np.ndarray:
        """The part of a volume ``(channel, z, y, x)`` that the percentiles are taken of; by default all of it."""
        return voxels

    def curve(self) -> Curve | None:
        """What bends the values between the limits; by default nothing."""
        return None

    def _limits(self, values: RankedValues) -> tuple[float, float]:
        if values.size == 0:  # nothing but NaN and infinity
            return 0.0, 0.0
        low_percent, high_percent = self.settings.percentiles
        bottom = math.floor(low_percent / 100 * (values.size - 1))
        background = self._background(values, bottom)
        low = percentile(values, low_percent, skip=background)
        high = percentile(values, high_percent, skip=background)
        if low == high:  # an object of one single value: keep it apart from its background
            low = values.value_at(bottom)
        return low, high

    def _background(self, values: RankedValues, bottom: int) -> int:
        """How many of the lowest values are air: with noise in it, or else flat."""
        settings = self.settings
        if settings.noise_share < 1:
            lowest = values.value_at(bottom)
            highest = values.value_at(math.floor(settings.percentiles[1] / 100 * (values.size - 1)))
            noisy = values.count_at_most(lowest + settings.noise_level * (highest - lowest))
            if settings.noise_share * values.size <= noisy < values.size:
                return noisy
        if settings.background_share < 1:
            flat = values.count_up_to(bottom)
            if settings.background_share * values.size <= flat < values.size:
                return flat
        return 0
