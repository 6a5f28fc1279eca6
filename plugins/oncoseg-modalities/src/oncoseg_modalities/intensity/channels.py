"""Three channels for a model, by the names and modes that MR and Raman histology know."""

from collections.abc import Sequence

import numpy as np

from oncoseg_core import NormalizerSpec
from oncoseg_core.path import ChannelChoice, choose_channels
from oncoseg_modalities.plugin import MRI


class SelectMedicalChannels:
    """Chooses three of an image's channels, as the path does: by mode, names or indices.

    Args:
        choice: by default ``t1_t1gd_flair``: of BraTS' FLAIR, T1w, T1gd, T2w the indices 1, 2, 0. Other orders are
            told by the channels' names. One channel is repeated, of two the second.
        modality: the record whose names and modes are meant.
    """

    def __init__(self, choice: ChannelChoice = "t1_t1gd_flair", modality: NormalizerSpec = MRI) -> None:
        self.choice = choice
        self.modality = modality

    def __call__(self, image: np.ndarray, names: Sequence[str] = ()) -> np.ndarray:
        """The three channels of ``(channel, ...)``, whose ``names`` are in channel order.

        Raises:
            DataError: the image has no such channels, or not in the order that a mode expects of unnamed ones.
        """
        choice = None if len(image) < 3 and isinstance(self.choice, str) else self.choice
        return image[list(choose_channels(choice, self.modality, len(image), names))]
