"""Positron emission tomography: uptake, from nothing to a hundred times the body's mean."""

from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat, field_validator

from oncoseg_core import Header, Stats
from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.percentile import Percent, PercentileNormalizer, PercentileSettings, Share
from oncoseg_modalities.intensity.suv import suvbw_factor


class PETSettings(PercentileSettings):
    """By default 0.5th to 99.5th percentile without air, as MedSAM (Ma et al., Nature Communications 2024).

    The paper says "NaN-safe SUV, percentile clip" and no more. MedSAM leaves the zero voxels out; so does this, and
    reconstruction noise too: a quarter of the voxels or more in the lowest 1/64 of the range (0.1 SUV if the hottest
    of the body has 6).

    ``suv_window``: two SUV that become 0 and 1, for all scans alike, in place of percentiles.
    """

    percentiles: tuple[Percent, Percent] = (0.5, 99.5)
    background_share: Share = 0.02
    noise_level: Annotated[float, Field(ge=0, lt=1)] = 1 / 64
    noise_share: Share = 1 / 4
    suv_window: Annotated[tuple[FiniteFloat, FiniteFloat] | None, Field(description="g/mL, low and high")] = None

    @field_validator("suv_window")
    @classmethod
    def _window_increases(cls, window: tuple[float, float] | None) -> tuple[float, float] | None:
        if window is not None and window[0] >= window[1]:
            raise ValueError("the window's low end must be below its high end (SUV)")
        return window


class PETNormalizer(PercentileNormalizer):
    """SUV between two percentiles of the body, or in a window, linear to [0, 1]. NaN voxels count as no uptake."""

    Settings = PETSettings

    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        """SUV by body weight, float32, from what a DICOM file stores; values without a header are taken as they are.

        Raises:
            DataError: the header does not say how; the attribute that is missing is named.
        """
        if not header:
            return voxels
        suv: np.ndarray = voxels.astype(np.float32) * np.float32(suvbw_factor(header))
        return suv

    def fit(self, voxels: np.ndarray) -> Stats:
        """The window, or each channel's two percentiles in a whole volume ``(channel, z, y, x)``."""
        if self.settings.suv_window is None:
            return super().fit(voxels)
        low, high = self.settings.suv_window
        return {"low": (low,) * len(voxels), "high": (high,) * len(voxels)}

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.pet()
