"""Magnetic resonance: arbitrary units, so each channel is scaled by its own percentiles."""

from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings, Share


class MRISettings(PercentileSettings):
    """By default 1st to 99th percentile, without air.

    Masked or clipped air is a bottom value that 2 % of the voxels hold or more: twice the share that lies at or below
    a 1st percentile by itself. Leaving it out is what nnU-Net (z-score in the non-zero mask, Isensee et al., Nature
    Methods 2021) and MedSAM (percentiles of the non-zero voxels, Ma et al., Nature Communications 2024) do.

    Air as the scanner delivers it has Rayleigh noise in it, most of which lies below two standard deviations
    (Gudbjartsson and Patz, Magn Reson Med 1995). Where a quarter of the voxels lie in the lowest 1/32 of the range,
    they are such air. Of the sample scans the two heads have 40 % and 44 % there, the images cropped to the inside of
    the body 1 % (breast) and 11 % (spine, T2-weighted).
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    background_share: Share = 0.02
    noise_level: Annotated[float, Field(ge=0, lt=1)] = 1 / 32
    noise_share: Share = 1 / 4


class MRINormalizer(PercentileNormalizer):
    """Each channel's 1st to 99th percentile, without its air, linear to [0, 1]."""

    Settings = MRISettings

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.mri()
