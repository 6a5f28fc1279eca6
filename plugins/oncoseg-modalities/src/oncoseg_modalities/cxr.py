"""Chest radiographs: the lungs between collimated borders and burned-in letters."""

from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings, Share


class CXRSettings(PercentileSettings):
    """By default 1st to 99th percentile of the picture without a border of 5 % on each side, and without flat black.

    The paper says "chest X-ray specific" and no more. What is specific: the thorax fills the middle, and the edges
    hold what is no patient - collimator blades, side letters, white labels, black padding. DICOM marks them with a
    shutter (PS3.3, C.7.6.11); pictures exported from it keep them and lose the mark. Flat black of 2 % or more inside
    the border is left out as air is in MR.
    """

    percentiles: tuple[Percent, Percent] = (1.0, 99.0)
    background_share: Share = 0.02
    border: Annotated[float, Field(ge=0, lt=0.5, description="share of the rows and columns left out on each side")] = (
        0.05
    )


class CXRNormalizer(PercentileNormalizer):
    """1st to 99th percentile of the middle of the picture, linear to [0, 1]. One pair of limits for RGB."""

    Settings = CXRSettings
    channels = "grey"

    def region(self, voxels: np.ndarray) -> np.ndarray:
        """The volume ``(channel, z, y, x)`` without its border in y and x."""
        rows, columns = (int(self.settings.border * size) for size in voxels.shape[2:])
        return voxels[:, :, rows : voxels.shape[2] - rows, columns : voxels.shape[3] - columns]

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.cxr()
