"""How the intensities of fluorescence microscopy become values in [0, 1]."""

from typing import Annotated

import numpy as np
from oncoseg_core import Normalizer, Settings, Stats
from pydantic import Field, field_validator

Percent = Annotated[float, Field(ge=0, le=100)]


class FluorescenceSettings(Settings):
    """``percentiles``: what becomes 0 and 1, in percent of a channel's voxels; what lies outside is clipped.

    ``gamma``: the exponent after that. The defaults: 1 and 99.8 percent are how StarDist (Schmidt et al., MICCAI 2018)
    normalises such images; and the noise of counted photons grows with the square root of their number, so that the
    square root makes it alike in dim and in bright nuclei (Anscombe, Biometrika 1948).
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.8)
    gamma: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5

    @field_validator("percentiles")
    @classmethod
    def _increasing(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        if percentiles[0] >= percentiles[1]:
            raise ValueError("the low percentile must be below the high one")
        return percentiles


class FluorescenceNormalizer(Normalizer[FluorescenceSettings]):
    """Each channel's low to high percentile, raised to ``gamma``."""

    Settings = FluorescenceSettings

    def fit(self, voxels: np.ndarray) -> Stats:
        """Find each channel's two percentiles in a whole volume ``(channel, z, y, x)``: ``low`` and ``high``."""
        ends = [np.percentile(channel, self.settings.percentiles).tolist() for channel in voxels]
        return {"low": tuple(low for low, _ in ends), "high": tuple(high for _, high in ends)}

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        """Map voxels ``(channel, ...)`` to float32 in [0, 1]; where both ends are one value, what lies above is 1."""
        per_channel = (-1,) + (1,) * (voxels.ndim - 1)
        low, high = (np.reshape(stats[name], per_channel) for name in ("low", "high"))
        width = high - low
        unit = (voxels - low) / np.where(width > 0, width, 1.0)  # in float64, whatever the voxels are
        unit = np.clip(np.where(width > 0, unit, voxels > low), 0, 1)
        return (unit**self.settings.gamma).astype(np.float32)

    def example(self) -> np.ndarray:
        """A generated image, for pictures: forty nuclei of unlike brightness, uint16 ``(1, 1, 128, 128)``."""
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:128, :128]
        photons = np.full((128, 128), 8.0)  # the camera's dark value
        for row, column, brightness in zip(*rng.uniform(0, 128, (2, 40)), rng.uniform(5, 150, 40), strict=True):
            photons[(rows - row) ** 2 + (columns - column) ** 2 < 7**2] += brightness
        return rng.poisson(photons).astype(np.uint16)[np.newaxis, np.newaxis]
