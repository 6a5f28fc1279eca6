"""Spatial changes of a training slice, image and mask together, by MONAI.

On the model's input, after normalisation: the part that the slice takes of the square is changed, the padding stays
where the model expects it. What comes in from outside the slice is the model's value of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.transforms import Affine, Flip, Rand2DElastic

from oncoseg_core import SliceGrid
from oncoseg_trainer.config.data_settings import AugmentationSettings

ELASTIC_GRID_PX = 32
"""Distance of the nodes that an elastic change moves, in pixels of the model's input."""


class SpatialAugmentation:
    """Flips, then rotation, scaling and elastic change in one resampling (bilinear; masks from 0.5 on).

    Args:
        settings: how much of each.
        low: the value that 0 has in the model's range.
    """

    def __init__(self, settings: AugmentationSettings, low: float) -> None:
        self.settings = settings
        self._low = low

    def __call__(
        self, pixels: torch.Tensor, masks: Sequence[torch.Tensor], grid: SliceGrid, rng: np.random.Generator
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Change a slice.

        Args:
            pixels: ``(3, size, size)`` in the model's range.
            masks: 0/1 ``(size, size)``.
            grid: says which part of the square the slice takes.
            rng: decides; always draws the same number of values.

        Returns:
            pixels and masks, changed alike; new tensors.
        """
        rows, columns = grid.letterbox.scaled
        square = torch.cat([pixels, torch.stack(list(masks))]).clone()
        square[:, :rows, :columns] = self._changed(square[:, :rows, :columns], len(pixels), rng)
        return square[: len(pixels)], [(mask >= 0.5).float() for mask in square[len(pixels) :]]

    def _changed(self, part: torch.Tensor, n_pixels: int, rng: np.random.Generator) -> torch.Tensor:
        settings = self.settings
        flips = rng.random(2) < (settings.flip_vertical, settings.flip_horizontal)
        angle = math.radians(settings.rotate_degrees) * rng.uniform(-1, 1)
        scale = 1 + settings.scale * rng.uniform(-1, 1)
        elastic_seed = int(rng.integers(2**32))
        for axis in np.flatnonzero(flips):
            part = torch.as_tensor(Flip(spatial_axis=int(axis))(part))
        if not (settings.rotate_degrees or settings.scale or settings.elastic_px):
            return part
        low = torch.zeros(len(part), 1, 1)
        low[:n_pixels] = self._low
        # MONAI's grid says for each new pixel where it comes from: an object grows when the factor is below 1.
        factor = 1 / scale
        if settings.elastic_px:
            # Ranges of no width: the angle and the factor are drawn already. All channels in one call, since each call
            # draws its own displacements.
            resample = Rand2DElastic(
                spacing=ELASTIC_GRID_PX,
                magnitude_range=(settings.elastic_px, settings.elastic_px),
                prob=1.0,
                rotate_range=((angle, angle),),
                scale_range=((factor - 1, factor - 1), (factor - 1, factor - 1)),
                padding_mode="zeros",
            )
            resample.set_random_state(seed=elastic_seed)
        else:
            resample = Affine(rotate_params=angle, scale_params=(factor, factor), padding_mode="zeros", image_only=True)
        return torch.as_tensor(resample(part - low)) + low
