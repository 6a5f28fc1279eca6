"""Dermoscopy: colour photographs of skin under a lens."""

import numpy as np

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings


class DermoscopySettings(PercentileSettings):
    """By default 1st to 99th percentile of all pixels of each colour channel, the paper's rule."""

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)


class DermoscopyNormalizer(PercentileNormalizer):
    """Each colour channel's 1st to 99th percentile, linear to [0, 1].

    Stretching each channel by itself also takes out much of the light's colour, as grey-world and max-RGB colour
    constancy do (Barata et al., IEEE J Biomed Health Inform 2015, for dermoscopy).
    """

    Settings = DermoscopySettings
    channels = "colour"

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.dermoscopy()
