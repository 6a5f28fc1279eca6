"""The prompt that a person would have given."""

from typing import Annotated

import numpy as np
import SimpleITK as sitk
from oncoseg_core import Box, Prompt, PromptError, PromptGenerator, Settings, Target
from pydantic import Field, field_validator

Pixels = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NewnameSettings(Settings):
    """``margin_px``: by how many pixels each side moves outward, at least and at most."""

    margin_px: tuple[Pixels, Pixels] = (0.0, 4.0)

    @field_validator("margin_px")
    @classmethod
    def _ordered(cls, margin: tuple[float, float]) -> tuple[float, float]:
        if margin[0] > margin[1]:
            raise ValueError("a margin is [lowest, highest]; the lowest is above the highest")
        return margin


class NewnameGenerator(PromptGenerator[NewnameSettings]):
    """A box around the largest part of the mask; pixels that touch at a corner are connected."""

    Settings = NewnameSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:  # noqa: ARG002
        """Make the box of a bool mask ``(y, x)``, clipped to the slice.

        Raises:
            PromptError: the mask is empty.
        """
        if not mask.any():
            raise PromptError("a box cannot be drawn around an empty mask; choose a slice where the target is present")
        parts = sitk.ConnectedComponent(sitk.GetImageFromArray(np.ascontiguousarray(mask, np.uint8)), True)
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.Execute(parts)
        largest = max(shapes.GetLabels(), key=shapes.GetNumberOfPixels)  # of equals, the first from the top
        x, y, width, height = shapes.GetBoundingBox(largest)
        low, high = self.settings.margin_px
        left, top, right, bottom = rng.uniform(low, high, size=4).tolist()
        rows, columns = mask.shape
        return (
            Box(
                max(0.0, x - left),
                max(0.0, y - top),
                min(float(columns), x + width + right),
                min(float(rows), y + height + bottom),
            ),
        )
