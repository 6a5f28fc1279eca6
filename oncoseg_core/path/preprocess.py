"""The one way from an image to a model's input, and its exact inverse back to the image's own pixels.

Training, prediction, benchmark and server all use this module. For a slice along the stored z axis: check, normalise to
[0, 1] with statistics of the whole volume, choose three channels, turn upright, scale the longer side to the model's
input (bilinear, antialiased), pad at the bottom and right, and map to the model's own range. With the fit ``stretch``
both sides are scaled to it, and nothing is padded. Logits go the same way back.
"""

from __future__ import annotations

import hashlib
import json
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core.contract.geometry import SliceGrid
from oncoseg_core.contract.prompts import Prompt, check_on_slice
from oncoseg_core.contract.records import ModelSpec, Stats
from oncoseg_core.contract.volume import BoolArray, Volume
from oncoseg_core.path.channels import choose_channels
from oncoseg_core.path.normalization import Normalization
from oncoseg_core.path.settings import PathSettings
from oncoseg_core.path.zoom import Window
from oncoseg_core.plugins.registry import Registry


class Preprocessor:
    """The path of one modality into one model.

    Args:
        registry: where the modality's normalizer is found.
        modality: what the intensities are, such as ``ct``; ``ct+pet`` for an image whose channels differ.
        model: the record of the model that the pixels are for.
        settings: of the normalizers, and which channels to take; the defaults when omitted.

    Raises:
        UnknownComponentError: no plugin provides that modality.
        ConfigError: a setting is wrong.
    """

    def __init__(
        self, registry: Registry, modality: str, model: ModelSpec, settings: PathSettings | None = None
    ) -> None:
        self.modality = modality
        self.model = model
        settings = settings or PathSettings()
        self.normalization = Normalization(registry, modality, settings.normalizers)
        self.normalizer = self.normalization.normalizer
        self.settings = settings.model_copy(update={"normalizers": self.normalization.settings})
        self._identity = json.dumps(
            [modality, self.settings.model_dump(mode="json"), model.input_size, model.input_range]
        )

    def calibrated(self, volume: Volume) -> Volume:
        """The volume with values as its modality means them, where its files tell how they are stored.

        Raises:
            DataError: a header lacks what is needed; the message names it.
        """
        return self.normalization.calibrated(volume)

    def fit(self, volume: Volume) -> Stats:
        """Learn the normalizer's statistics from the whole volume, once.

        Raises:
            DataError: the volume is not calibrated, holds NaN or infinite voxels, or has channels of which it is not
                said which three to take.
        """
        self.channels(volume)
        return self.normalization.fit(volume)

    def channels(self, volume: Volume) -> tuple[int, int, int]:
        """The indices of the three channels of this volume that the model sees.

        Raises:
            DataError: as for :func:`oncoseg_core.path.channels.choose_channels`.
        """
        specs = self.normalization.specs
        spec = specs[0] if len(specs) == 1 else None
        return choose_channels(self.settings.channels, spec, len(volume.voxels), volume.channel_names, volume.name)

    def grid(self, volume: Volume, window: Window | None = None) -> SliceGrid:
        """Where the pixels of each slice of this volume, or of a window of it, go in the model's input."""
        whole = SliceGrid.of(volume.geometry, self.model.input_size, self.settings.fit)
        return whole if window is None else window.grid(whole)

    def pixels(self, volume: Volume, index: int, stats: Stats, window: Window | None = None) -> torch.Tensor:
        """The model's input for slice ``index``: float32 ``(3, size, size)`` in the model's range.

        The slice is normalised as a whole; a window is cut out afterwards.

        Raises:
            PluginError: the normalizer returned something else than finite values in [0, 1].
        """
        normalised = self.normalizer.apply(volume.voxels[:, index], stats)
        if window is not None:
            normalised = window.cut(normalised)
        grid = self.grid(volume, window)
        chosen = self.channels(volume)
        different = sorted(set(chosen))
        upright = grid.view.apply(normalised[different]).copy()
        resized = _resize(torch.from_numpy(upright), grid.letterbox.scaled).numpy()
        image = upright if resized.shape == upright.shape else np.clip(resized, 0.0, 1.0)
        return torch.from_numpy(self._in_model_range(image[[different.index(channel) for channel in chosen]], grid))

    def _in_model_range(self, image: npt.NDArray[np.generic], grid: SliceGrid) -> npt.NDArray[np.float32]:
        """Pad with 0 at the bottom and right, and map [0, 1] to the model's range.

        In numpy: torch would share so little work among its threads, and wait for the slowest.
        """
        low, high = self.model.input_range
        square = np.full((3, grid.size, grid.size), low, np.float32)
        rows, columns = image.shape[1:]
        used = square[:, :rows, :columns]
        np.multiply(image, high - low, out=used)
        used += low
        return square

    def slice_key(self, volume: Volume, index: int, stats: Stats, window: Window | None = None) -> str:
        """SHA-256 of everything that :meth:`pixels` depends on: the slice's bytes, statistics, settings and grids."""
        digest = hashlib.sha256(self._identity.encode())
        statistics = sorted((name, list(values)) for name, values in stats.items())
        digest.update(json.dumps([statistics, str(self.grid(volume)), str(window), self.channels(volume)]).encode())
        section = np.ascontiguousarray(volume.voxels[:, index])
        digest.update(f"{section.dtype.str}{section.shape}".encode())
        digest.update(section.tobytes())
        return digest.hexdigest()


def prompt_to_model(prompt: Prompt, grid: SliceGrid) -> Prompt:
    """A prompt on a stored slice, in pixels of the model's input.

    A mask becomes the pixels of the model of which it covers at least half; of a mask narrower than such a pixel, half
    of the most that it covers of any, so that it does not vanish.

    Raises:
        PromptError: it lies outside the slice.
    """
    check_on_slice(prompt, grid.height, grid.width)

    def covered_half(mask: BoolArray) -> BoolArray:
        covered = mask_to_model(mask, grid).numpy()
        return cast("BoolArray", (covered > 0) & (covered >= 0.5 * covered.max()))

    return tuple(hint.clipped(grid.height, grid.width).mapped(grid.point, covered_half) for hint in prompt)


def mask_to_model(mask: BoolArray, grid: SliceGrid) -> torch.Tensor:
    """A stored slice's mask ``(y, x)`` as the covered share of each model pixel: float32 ``(size, size)``."""
    upright = grid.view.apply(mask).copy()
    return _pad(_resize(torch.from_numpy(upright).float()[None], grid.letterbox.scaled), grid.size)[0]


def logits_to_slice(logits: torch.Tensor, grid: SliceGrid) -> npt.NDArray[np.float32]:
    """A model's logits over its whole square input, ``(h, w)``, back on the stored slice: float32 ``(y, x)``.

    Logits of another resolution than the input (SAM3: 288 for 1008) are scaled to it first. The padding is cut off.
    """
    square = logits.detach().float()[None]
    if square.shape[-2:] != (grid.size, grid.size):
        square = _resize(square, (grid.size, grid.size))
    rows, columns = grid.letterbox.scaled
    upright = _resize(square[..., :rows, :columns], (grid.letterbox.height, grid.letterbox.width))[0]
    native = grid.view.undo(upright.cpu().numpy())
    return np.ascontiguousarray(cast("npt.NDArray[np.float32]", native))


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Scale ``(channel, y, x)``; bilinear, averaging when it shrinks; the very same tensor when nothing changes."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _pad(image: torch.Tensor, size: int) -> torch.Tensor:
    rows, columns = image.shape[-2:]
    return F.pad(image, (0, size - columns, 0, size - rows))
