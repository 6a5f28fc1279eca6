"""How the intensities of newname become values in [0, 1]."""

from typing import Annotated

import numpy as np
from oncoseg_core import Normalizer, Settings, Stats
from pydantic import Field, field_validator

Percent = Annotated[float, Field(ge=0, le=100)]


class NewnameSettings(Settings):
    """``percentiles``: what becomes 0 and 1, in percent of a channel's voxels; what lies outside is clipped."""

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)

    @field_validator("percentiles")
    @classmethod
    def _increasing(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        if percentiles[0] >= percentiles[1]:
            raise ValueError("the low percentile must be below the high one")
        return percentiles


class NewnameNormalizer(Normalizer[NewnameSettings]):
    """Each channel's low to high percentile, linear to [0, 1]."""

    Settings = NewnameSettings

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
        return np.clip(np.where(width > 0, unit, voxels > low), 0, 1).astype(np.float32)

    def example(self) -> np.ndarray:
        """A generated image, for pictures: two blobs on a noisy background, uint16 ``(1, 1, 128, 128)``."""
        rows, columns = np.mgrid[:128, :128]
        image = np.random.default_rng(0).normal(200.0, 20.0, (128, 128))
        for row, column, radius, height in ((48, 56, 20, 900.0), (88, 84, 10, 500.0)):
            image += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * radius**2))
        return image.round().astype(np.uint16)[np.newaxis, np.newaxis]
