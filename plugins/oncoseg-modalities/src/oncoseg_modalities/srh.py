"""Stimulated Raman histology: two channels of 16 bits, lipids (2845 / cm) and proteins (2930 / cm)."""

import numpy as np

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.compression import Compression, logarithmic
from oncoseg_modalities.intensity.linear import Curve
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings


class SRHSettings(PercentileSettings):
    """By default 1st to 99th percentile of each channel, and a compression of 9.

    The paper says "log transform for Raman dynamic range" and no more. 9 makes it the decimal logarithm of 1 to 10: a
    tenth of the range becomes 0.28, so that the weak lipid signal of cell bodies stays apart from the dark.
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    compression: Compression = 9.0


class SRHNormalizer(PercentileNormalizer):
    """Each channel's 1st to 99th percentile, then a logarithmic curve to [0, 1]."""

    Settings = SRHSettings

    def curve(self) -> Curve | None:
        """The logarithm of the settings' strength."""
        return logarithmic(self.settings.compression)

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.srh()
