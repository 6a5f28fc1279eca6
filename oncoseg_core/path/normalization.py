"""How one modality's values become [0, 1], apart from any model: the part of the path that the prepared store needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from oncoseg_core.contract.errors import DataError
from oncoseg_core.contract.interfaces import Normalizer
from oncoseg_core.contract.records import NormalizerSpec, Stats
from oncoseg_core.contract.volume import Volume
from oncoseg_core.imaging.formats import require_finite
from oncoseg_core.path.channelwise import ChannelwiseNormalizer
from oncoseg_core.path.settings import parts_of
from oncoseg_core.plugins.registry import Registry


class Normalization:
    """A modality's normalizer, built with its settings.

    ``specs`` are the records, one for all channels or one for each; ``settings`` the effective ones by modality.
    ``identity`` is JSON of all that statistics depend on besides the voxels: modality, settings, and the plugins that
    provide the normalizers with their versions.

    Args:
        registry: where the modality's normalizer is found.
        modality: what the intensities are, such as ``ct``; ``ct+pet`` for an image whose channels differ.
        settings: of the normalizers, by modality; the defaults for those left out.

    Raises:
        UnknownComponentError: no plugin provides that modality.
        ConfigError: a setting is wrong.
    """

    def __init__(self, registry: Registry, modality: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.modality = modality
        parts = parts_of(modality)
        components = [registry.component(NormalizerSpec, part) for part in parts]
        self.specs = [registry.get(NormalizerSpec, part) for part in parts]
        built: dict[str, Normalizer] = {
            part: registry.build(NormalizerSpec, part, settings.get(part)) for part in sorted(set(parts))
        }
        self.normalizer: Normalizer = (
            built[modality] if len(parts) == 1 else ChannelwiseNormalizer([built[part] for part in parts])
        )
        self.settings = {part: normalizer.settings.model_dump(mode="json") for part, normalizer in built.items()}
        self.identity = json.dumps(
            {
                "modality": modality,
                "settings": self.settings,
                "plugins": {found.plugin.name: found.plugin.version for found in components},
            },
            sort_keys=True,
        )

    def calibrated(self, volume: Volume) -> Volume:
        """The volume with values as its modality means them, where its files tell how they are stored.

        Raises:
            DataError: a header lacks what is needed; the message names it.
        """
        if not volume.headers:
            return volume
        channels = len(volume.voxels)
        headers = volume.headers * channels if len(volume.headers) == 1 else volume.headers
        normalizers = (
            self.normalizer.normalizers
            if isinstance(self.normalizer, ChannelwiseNormalizer)
            else (self.normalizer,) * channels
        )
        calibrated = [
            normalizer.calibrate(volume.voxels[number : number + 1], header)
            for number, (normalizer, header) in enumerate(zip(normalizers, headers, strict=True))
        ]
        voxels = calibrated[0] if channels == 1 else np.concatenate(calibrated)
        return replace(volume, voxels=np.ascontiguousarray(voxels), headers=())

    def fit(self, volume: Volume) -> Stats:
        """Learn the normalizer's statistics from the whole volume, once.

        Raises:
            DataError: the volume is not calibrated, or holds NaN or infinite voxels.
        """
        if volume.headers:
            raise DataError(f"{volume.name}: its values are as the file stores them; calibrate it first")
        channels = range(len(volume.voxels))
        whole = self.specs * len(channels) if len(self.specs) == 1 else self.specs
        require_finite(volume, [c for c, spec in zip(channels, whole, strict=False) if not spec.accepts_nan])
        return self.normalizer.fit(np.asarray(volume.voxels))  # of a prepared case, all its slices
