"""Projection radiographs other than of the chest or breast."""

import numpy as np

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.compression import Compression, logarithmic
from oncoseg_modalities.intensity.linear import Curve
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings


class XRaySettings(PercentileSettings):
    """By default 1st to 99th percentile of all pixels, and a compression of 3.

    The paper says "wide dynamic range compression" and no more. A detector's signal falls exponentially with the
    thickness that the rays pass (Lambert-Beer), so radiography compresses by the logarithm. 3 lifts the middle to 0.66
    (a gamma of 0.6): enough for soft tissue beside bone, and not too much for pictures compressed by their device.
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    compression: Compression = 3.0


class XRayNormalizer(PercentileNormalizer):
    """1st to 99th percentile, then a logarithmic curve to [0, 1]. One pair of limits for radiographs stored as RGB."""

    Settings = XRaySettings
    channels = "grey"

    def curve(self) -> Curve | None:
        """The logarithm of the settings' strength."""
        return logarithmic(self.settings.compression)

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.xray()
