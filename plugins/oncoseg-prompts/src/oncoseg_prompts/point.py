"""One click inside the mask."""

from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from oncoseg_core import Point, Prompt, PromptGenerator, Settings, Target
from oncoseg_prompts.extent import extent


class PointSettings(Settings):
    """``where``: ``center`` is the pixel farthest from the mask's border, ``random`` any of its pixels alike."""

    where: Literal["center", "random"] = "center"


class PointGenerator(PromptGenerator):
    """One positive point prompt, at the centre ``(j + 0.5, i + 0.5)`` of a pixel of the mask."""

    Settings = PointSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:  # noqa: ARG002
        """Make the point of a bool mask ``(y, x)``; ``center`` draws nothing from ``rng``.

        Raises:
            PromptError: the mask is empty, or not bool ``(y, x)``.
        """
        x0, y0, x1, y1 = extent(mask)
        if self.settings.where == "center":
            row, column = _innermost(mask[y0:y1, x0:x1])
            row, column = row + y0, column + x0
        else:
            pixels = np.flatnonzero(mask)
            row, column = divmod(int(pixels[rng.integers(pixels.size)]), mask.shape[1])
        return (Point(column + 0.5, row + 0.5),)


def _innermost(mask: np.ndarray) -> tuple[int, int]:
    """The pixel farthest from the border; of several, the one nearest to their middle. The slice's edge is a border."""
    distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    farthest = np.argwhere(distance == distance.max())
    from_middle = ((farthest - farthest.mean(axis=0)) ** 2).sum(axis=1)
    row, column = farthest[from_middle.argmin()]
    return int(row), int(column)
