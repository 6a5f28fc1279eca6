"""Mammography: variable exposure, and more air than breast."""

from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings, Share


class MammographySettings(PercentileSettings):
    """By default 1st to 99th percentile of the breast.

    The paper says "percentile for variable exposure" and no more; 1 and 99 are what it has for radiographs. Air is
    left out: flat, as digital devices deliver it (2 % of the pixels or more on one value at the bottom), or with noise
    in it, as scanned film has it (a quarter of the pixels or more in the lowest 1/8 of the range; the breast itself,
    even a fatty one, lies above).
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    background_share: Share = 0.02
    noise_level: Annotated[float, Field(ge=0, lt=1)] = 1 / 8
    noise_share: Share = 1 / 4


class MammographyNormalizer(PercentileNormalizer):
    """1st to 99th percentile of the breast without the air, linear to [0, 1]. One pair of limits for RGB."""

    Settings = MammographySettings
    channels = "grey"

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.mammography()
