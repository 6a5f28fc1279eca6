"""Ultrasound: speckle makes its extremes meaningless."""

import numpy as np

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings


class UltrasoundSettings(PercentileSettings):
    """By default 2nd to 98th percentile of all pixels, the paper's rule, wide enough for speckle's outliers.

    The black outside of the fan counts as well; ``background_share: 0.02`` leaves it out.
    """

    percentiles: tuple[Percent, Percent] = (2.0, 98.0)


class UltrasoundNormalizer(PercentileNormalizer):
    """2nd to 98th percentile, linear to [0, 1]. RGB frames share one pair of limits: echoes stay grey, Doppler its hue.

    Ultrasound is one quantity, most often stored as RGB (DICOM PS3.3, C.8.5.6).
    """

    Settings = UltrasoundSettings
    channels = "grey"

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.ultrasound()
