"""Images whose channels are of different modalities (PET-CT): each channel by its own modality's rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oncoseg_core.contract.errors import DataError
from oncoseg_core.contract.interfaces import Normalizer
from oncoseg_core.contract.records import Stats


class ChannelwiseNormalizer(Normalizer):
    """One normalizer per channel, in channel order. A channel's statistics carry its number: ``1.low``."""

    def __init__(self, normalizers: Sequence[Normalizer]) -> None:
        super().__init__()
        self.normalizers = tuple(normalizers)

    def fit(self, voxels: np.ndarray) -> Stats:
        """Fit each channel of ``(channel, z, y, x)`` on its own.

        Raises:
            DataError: there are more or fewer channels than modalities.
        """
        if len(voxels) != len(self.normalizers):
            raise DataError(
                f"an image of mixed modalities has one channel for each: expected {len(self.normalizers)} channels, "
                f"found {len(voxels)}"
            )
        return {
            f"{number}.{name}": values
            for number, normalizer in enumerate(self.normalizers)
            for name, values in normalizer.fit(voxels[number : number + 1]).items()
        }

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        """Map each channel of ``(channel, ...)`` by its own rule to float32 in [0, 1]."""
        unit = np.empty(voxels.shape, np.float32)
        for number, normalizer in enumerate(self.normalizers):
            own = {name.partition(".")[2]: v for name, v in stats.items() if name.partition(".")[0] == str(number)}
            unit[number : number + 1] = normalizer.apply(voxels[number : number + 1], own)
        return unit
