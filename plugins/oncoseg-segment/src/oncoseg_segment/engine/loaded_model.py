"""A model in memory that many sessions share: viewers and servers load it once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from oncoseg_core import Registry, Volume, load_plugins
from oncoseg_core.inference import EmbeddingCache, FittedVolume, Predictor, choose_device
from oncoseg_core.path import Preprocessor
from oncoseg_lora import adapter_folder
from oncoseg_segment.engine.checks import Finding, examine_image
from oncoseg_segment.engine.device_lock import DeviceLock
from oncoseg_segment.engine.resolve import (
    build_model,
    modality_of,
    path_settings,
    require_known_modality,
    require_served,
)
from oncoseg_segment.engine.settings import SegmentSettings

EMBEDDING_BYTES = 1024 * 1024 * 1024
"""Memory for embeddings: about 1,000 slices of LiteMedSAM, 50 of SAM3."""


class _InTurn(Predictor):
    """A predictor whose model and cache one thread at a time uses; the others go on between two slices."""

    def __init__(self, lock: DeviceLock, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._turns = lock

    @contextmanager
    def inference(self) -> Iterator[None]:
        """As the predictor's, in turn: a model's answer and its embedding are made within it."""
        with self._turns, super().inference():
            yield


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """A fitted image and what segments it; any number of sessions share it.

    ``image`` is the volume as it was given, ``modality`` what its values are taken for and how that is known.
    """

    loaded: LoadedModel
    image: Volume
    fitted: FittedVolume
    modality: tuple[str, str]
    predictor: Predictor

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said of the image, before anything is found on it."""
        specs = self.fitted.preprocessor.normalization.specs
        return tuple(examine_image(self.image, self.fitted.volume, self.modality[0], specs))


class LoadedModel:
    """A model with its adapter on its device. Safe to use from several threads.

    Args:
        settings: how to segment.
        registry: the plugins; those installed when omitted.
        keep_embeddings: bytes of embeddings to keep for further prompts; none when 0.

    Raises:
        UsageError: a setting does not fit the model; the message names the field.
        WeightsError: the weights cannot be taken.
    """

    def __init__(
        self, settings: SegmentSettings, *, registry: Registry | None = None, keep_embeddings: int = EMBEDDING_BYTES
    ) -> None:
        self.registry = load_plugins() if registry is None else registry
        self.settings = settings
        require_known_modality(self.registry, settings.modality)
        self.spec = require_served(self.registry, settings, ())
        self.adapter = None if settings.adapter is None else adapter_folder(settings.adapter)
        self.device = choose_device(settings.device)
        self.cache = EmbeddingCache(keep_embeddings) if keep_embeddings else None
        self.lock = DeviceLock()
        self.model: Any = None
        self.load_seconds = 0.0
        self._building = threading.Lock()
        self._predictors: Mapping[str, Predictor] = {}

    def open(self, volume: Volume) -> OpenedImage:
        """Fit an image; the first one loads the model, once it is sure that the settings fit the image.

        Raises:
            UsageError: a setting does not fit the image.
            DataError, WeightsError: the image or the weights cannot be taken.
        """
        modality = modality_of(self.registry, self.settings, volume)
        predictor = self._predictor(modality[0])
        fitted = predictor.fit(replace(volume, modality=modality[0]))
        return OpenedImage(self, volume, fitted, modality, predictor)

    def load(self) -> None:
        """Load the model now, not with the first image.

        Raises:
            WeightsError: the weights cannot be taken.
        """
        with self._building:
            self._load()

    def _load(self) -> None:
        if self.model is None:
            start = time.perf_counter()
            self.model = build_model(self.registry, self.settings, self.adapter).to(self.device)  # type: ignore[attr-defined]
            self.load_seconds = time.perf_counter() - start

    def _predictor(self, modality: str) -> Predictor:
        """One for each modality: it remembers the fingerprint of the weights."""
        with self._building:
            if modality not in self._predictors:
                path = path_settings(self.settings, self.adapter, modality)
                preprocessor = Preprocessor(self.registry, modality, self.spec, path)
                self._load()
                settings = self.settings
                predictor = _InTurn(
                    self.lock,
                    self.model,
                    {modality: preprocessor},
                    self.cache,
                    self.device,
                    settings.precision,
                    settings.zoom,
                )
                self._predictors = {**self._predictors, modality: predictor}
            return self._predictors[modality]
