"""Computed tomography: a window of Hounsfield units."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat, field_validator

from oncoseg_core import Normalizer, Settings, Stats
from oncoseg_modalities.intensity import generated
from oncoseg_modalities.intensity.linear import to_unit

# By definition of the Hounsfield scale air is -1000 and water 0. Scanners pad outside their field down to -3024 (-2000
# stored, rescaled by -1024), and metal goes as far as 16 bits hold.
_PADDING_TO_AIR = (-3072, -900)
_AIR = (-1100, -900)
_SOFT_TISSUE = (-150, 150)
_BONE_TO_METAL = (100, 32767)
_LEAST_SHARE = 0.01
_SAMPLES = 1 << 18


WINDOWS = {
    "lung": (-1350.0, 150.0),
    "liver": (-45.0, 105.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "soft tissue": (-150.0, 250.0),
}
"""HU, low and high: level -/+ half the width of Radiopaedia's table "Windowing (CT)" (lung W 1500 L -600, liver W 150
L 30, bone W 1800 L 400, brain W 80 L 40, soft tissue W 400 L 50)."""


class CTSettings(Settings):
    """``window``: the Hounsfield units that become 0 and 1, or the name of a usual window; the rest is clipped.

    Names: lung, liver, bone, brain, soft tissue. The default, -1000 to 1000, is the paper's.
    """

    window: Annotated[
        Literal["lung", "liver", "bone", "brain", "soft tissue"] | tuple[FiniteFloat, FiniteFloat],
        Field(description="HU, low and high, or a name"),
    ] = (-1000.0, 1000.0)

    @field_validator("window")
    @classmethod
    def _increasing(cls, window: str | tuple[float, float]) -> str | tuple[float, float]:
        if not isinstance(window, str) and window[0] >= window[1]:
            raise ValueError("the window's low end must be below its high end (HU)")
        return window

    @property
    def limits(self) -> tuple[float, float]:
        """The window in HU, low and high."""
        return WINDOWS[self.window] if isinstance(self.window, str) else self.window


class CTNormalizer(Normalizer):
    """Linear in a window of Hounsfield units, by default -1000 to 1000 (air to dense bone).

    Hounsfield units mean the same in every scan, so nothing is learned from the volume: the statistics are empty.
    """

    Settings = CTSettings

    def fit(self, voxels: np.ndarray) -> Stats:  # noqa: ARG002 - the window does not depend on the volume
        """Learn nothing: returns ``{}`` for any ``(channel, z, y, x)``."""
        return {}

    def apply(self, voxels: np.ndarray, stats: Stats) -> npt.NDArray[np.float32]:  # noqa: ARG002 - always empty
        """Map Hounsfield units ``(channel, ...)`` to float32 in [0, 1], exact at the window's ends and middle."""
        low, high = self.settings.limits
        channels = voxels.shape[0]
        return to_unit(voxels, [low] * channels, [high] * channels)

    def recognises(self, voxels: np.ndarray) -> bool:
        """Whether ``(channel, z, y, x)`` can only be a patient in Hounsfield units.

        True when the values are whole numbers that reach from air or scanner padding to bone, with at least 1 % of them
        within 100 HU of air and 1 % within 150 HU of water. Other modalities are rarely negative, and the signed ones
        (phase, subtraction) do not gather at -1000. A scan cropped to the inside of the body may hold no air and is
        then not recognised. Looks at no more than about 262,000 evenly spread voxels.
        """
        # An odd stride visits every column of an image whose width is even.
        sample = voxels.flat[:: max(1, voxels.size // _SAMPLES) | 1]
        if sample.dtype.kind == "f" and not np.array_equal(sample, np.rint(sample)):
            return False
        return (
            _within(float(sample.min()), _PADDING_TO_AIR)
            and _within(float(sample.max()), _BONE_TO_METAL)
            and _share_within(sample, _AIR) >= _LEAST_SHARE
            and _share_within(sample, _SOFT_TISSUE) >= _LEAST_SHARE
        )

    def example(self) -> np.ndarray:
        """A generated image."""
        return generated.ct()


def _within(value: float, interval: tuple[int, int]) -> bool:
    return interval[0] <= value <= interval[1]


def _share_within(sample: np.ndarray, interval: tuple[int, int]) -> float:
    inside = (sample >= interval[0]) & (sample <= interval[1])
    return float(np.count_nonzero(inside)) / sample.size
