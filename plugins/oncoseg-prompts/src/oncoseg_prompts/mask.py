"""A rough mask, as somebody paints it: too wide or too narrow, and a little beside the object."""

from typing import Annotated

import numpy as np
from pydantic import Field, FiniteFloat, field_validator
from scipy import ndimage

from oncoseg_core import MaskPrompt, Prompt, PromptGenerator, Settings, Target
from oncoseg_prompts.extent import extent


class MaskSettings(Settings):
    """``grow_px``: how far the border moves outward (negative: inward), in pixels, lowest and highest; drawn uniformly.

    ``shift_px``: how far the mask is moved along each axis at most.
    """

    grow_px: tuple[FiniteFloat, FiniteFloat] = (-2.0, 4.0)
    shift_px: Annotated[int, Field(ge=0, le=64)] = 2

    @field_validator("grow_px")
    @classmethod
    def _ordered(cls, grow: tuple[float, float]) -> tuple[float, float]:
        if grow[0] > grow[1]:
            raise ValueError("grow_px is [lowest, highest], outward; the lowest is above the highest")
        return grow


class MaskGenerator(PromptGenerator):
    """One mask prompt: the reference moved and grown or shrunk."""

    Settings = MaskSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:  # noqa: ARG002
        """Make a rough mask of a bool mask ``(y, x)``; the mask itself where nothing of the object would be left.

        Always draws three numbers from ``rng``, whatever the settings.

        Raises:
            PromptError: the mask is empty, or not bool ``(y, x)``.
        """
        extent(mask)
        low, high = self.settings.grow_px
        radius = low + (high - low) * rng.random()
        most = self.settings.shift_px
        rows, columns = (int(step) for step in rng.integers(-most, most + 1, size=2))
        outside = ndimage.distance_transform_edt(~mask)
        # From a pixel of the object to its border, the slice's edge being none.
        inside = ndimage.distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, np.inf)
        moved = ndimage.shift(np.where(mask, 0.5 - inside, outside - 0.5), (rows, columns), order=0, mode="nearest")
        rough = moved < radius
        return (MaskPrompt(rough if (rough & mask).any() else mask.copy()),)
