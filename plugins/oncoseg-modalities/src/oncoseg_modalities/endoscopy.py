"""Endoscopy: colour video frames with reflections of the lamp in them."""

import numpy as np

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings


class EndoscopySettings(PercentileSettings):
    """By default 5th to 95th percentile of all pixels of each colour channel, the paper's rule.

    The black frame around the picture counts as well; ``background_share: 0.1`` leaves it out.
    """

    percentiles: tuple[Percent, Percent] = (5.0, 95.0)


class EndoscopyNormalizer(PercentileNormalizer):
    """Each colour channel's 5th to 95th percentile, linear to [0, 1]: wide enough for reflections and the frame."""

    Settings = EndoscopySettings
    channels = "colour"

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.endoscopy()
