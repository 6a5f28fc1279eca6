"""A box around the mask, as a person would draw it: a little too wide, and not the same twice."""

import numpy as np
import numpy.typing as npt
from pydantic import FiniteFloat, field_validator

from oncoseg_core import Box, Prompt, PromptGenerator, Settings, Target
from oncoseg_prompts.extent import extent


class BoxSettings(Settings):
    """How far each side moves outward from the tight box: two ranges, lowest and highest, that add up.

    ``margin_px`` is in pixels, ``margin_percent`` in percent of the tight box's width (left and right side) or height
    (top and bottom). Each side draws its own margins uniformly; equal ends mean a fixed margin, negative ones inward.
    """

    margin_px: tuple[FiniteFloat, FiniteFloat] = (0.0, 0.0)
    margin_percent: tuple[FiniteFloat, FiniteFloat] = (0.0, 0.0)

    @field_validator("margin_px", "margin_percent")
    @classmethod
    def _ordered(cls, margin: tuple[float, float]) -> tuple[float, float]:
        if margin[0] > margin[1]:
            raise ValueError("a margin is [lowest, highest], outward; the lowest is above the highest")
        return margin


class BoxGenerator(PromptGenerator):
    """One box prompt: the mask's tight box with a random margin on each side, clipped to the slice."""

    Settings = BoxSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:  # noqa: ARG002
        """Make the box of a bool mask ``(y, x)``: inside the slice, and over at least one pixel of the tight box.

        Always draws eight numbers from ``rng``, whatever the settings, so that a fixed margin leaves later draws as
        they were.

        Raises:
            PromptError: the mask is empty, or not bool ``(y, x)``.
        """
        left, top, right, bottom = extent(mask)
        sides = np.array([right - left, bottom - top] * 2)
        margins = _draw(rng, self.settings.margin_px) + _draw(rng, self.settings.margin_percent) / 100 * sides
        height, width = mask.shape
        x0, x1 = _widened(left, right, margins[0], margins[2], width)
        y0, y1 = _widened(top, bottom, margins[1], margins[3], height)
        return (Box(x0, y0, x1, y1),)


def _draw(rng: np.random.Generator, margin: tuple[float, float]) -> npt.NDArray[np.float64]:
    """One margin for each of the four sides."""
    low, high = margin
    return low + (high - low) * rng.random(4)


def _widened(start: int, end: int, before: float, after: float, size: int) -> tuple[float, float]:
    """Move the ends of ``[start, end]`` outward, within ``[0, size]``; at least one pixel of the interval remains."""
    low = min(max(start - before, 0.0), end - 1.0)
    high = max(min(end + after, float(size)), start + 1.0)
    if high - low < 1:
        low = min(max((low + high) / 2 - 0.5, float(start)), end - 1.0)
        high = low + 1
    return float(low), float(high)
