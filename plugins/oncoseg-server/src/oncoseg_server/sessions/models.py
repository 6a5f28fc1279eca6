"""The configured models: each is loaded once, and shares its device and the memory for embeddings with the others."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from oncoseg_clicks import record_with_clicks
from oncoseg_core import Box, ModelSpec, OncoSegError, Registry
from oncoseg_core.inference import autocast
from oncoseg_segment.api import DeviceLock, LoadedModel, OpenedImage, Priority, SegmentSettings
from oncoseg_server.sessions.embeddings import ModelEmbeddings, SharedEmbeddings
from oncoseg_server.sessions.refusal import Refusal
from oncoseg_server.sessions.volumes import OpenedSeries
from oncoseg_server.wire import ModelInfo


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A loaded model; ``device`` is the lock that it shares with the models on the same device."""

    name: str
    loaded: LoadedModel
    device: DeviceLock
    embeddings: ModelEmbeddings
    info: ModelInfo

    def warm_up(self) -> str | None:
        """Answer a box on an empty image, and say what computes: engines compile, and compare themselves with torch,
        when they are first used.

        Raises:
            OncoSegError: an engine that was asked for cannot be used.
        """
        spec, model = self.loaded.spec, self.loaded.model
        side, middle = spec.input_size, sum(spec.input_range) / 2
        pixels = torch.full((1, 3, side, side), middle, device=self.loaded.device)
        precision = autocast(self.loaded.device, self.loaded.settings.precision)
        with self.device.priority(Priority.AHEAD), self.device, torch.inference_mode(), precision:
            model.eval()
            embedding = model.encode_image(pixels)
            if "box" in self.info.prompts:
                model.decode(embedding, [(Box(side / 4, side / 4, side / 2, side / 2),)])
        computed_by: str | None = getattr(model, "computed_by", None)
        return computed_by

    def image_of(self, opened: OpenedSeries) -> OpenedImage:
        """A series as this model takes it; fitted once for all sessions.

        Raises:
            UsageError, DataError: the model cannot take the image.
        """
        with opened.fitting:
            image = opened.images.get(self.name)
            if image is None:
                image = opened.images[self.name] = self.loaded.open(opened.volume)
            return image


def model_info(name: str, settings: SegmentSettings, registry: Registry) -> ModelInfo:
    """What clients learn of a model, from its record.

    Raises:
        UnknownComponentError: no plugin provides it.
    """
    spec = record_with_clicks(registry.get(ModelSpec, settings.model))
    adapted = settings.adapter is not None
    return ModelInfo(
        name=name,
        model=settings.model,
        adapter=None if settings.adapter is None else Path(settings.adapter).name,
        prompts=[kind for kind in spec.prompt_kinds if spec.refusal(kind, adapted=adapted) is None],
        precision=settings.precision,
        engine=str(settings.model_settings.get("engine", "auto" if spec.engines else "torch")),
        notice=(spec.licence.notice if spec.licence else None) or None,
    )


class Models:
    """The models by their names in the settings; the first is the default.

    Args:
        settings: how each segments.
        registry: the plugins.
        embeddings: the memory that all share.
    """

    def __init__(
        self, settings: Mapping[str, SegmentSettings], registry: Registry, embeddings: SharedEmbeddings
    ) -> None:
        self._settings = dict(settings)
        self._registry = registry
        self._embeddings = embeddings
        self._devices: dict[str, DeviceLock] = {}
        self._served: dict[str, ServedModel] = {}
        self._loading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """In the order of the settings."""
        return list(self._settings)

    def infos(self) -> list[ModelInfo]:
        """What clients learn of each; nothing is loaded for that."""
        return [self._info(name, settings) for name, settings in self._settings.items()]

    def _info(self, name: str, settings: SegmentSettings) -> ModelInfo:
        """From the record; the engine from the model, once it has computed something."""
        info, served = model_info(name, settings, self._registry), self._served.get(name)
        engine = None if served is None else getattr(served.loaded.model, "computed_by", None)
        return info if engine is None else info.model_copy(update={"engine": engine})

    @property
    def waiting(self) -> int:
        """How many threads wait for a device."""
        return sum(device.waiting for device in self._devices.values())

    def get(self, name: str | None) -> ServedModel:
        """The model of that name, loaded if it is not yet; the default one for None.

        Raises:
            Refusal: there is none of that name, or it cannot be loaded: the next call tries again.
        """
        name = name or next(iter(self._settings))
        settings = self._settings.get(name)
        if settings is None:
            raise Refusal("unknown_model", f"no model {name!r} is served here; known: {', '.join(self._settings)}")
        with self._loading:
            if name not in self._served:
                try:
                    self._served[name] = self._load(name, settings)
                except OncoSegError as error:
                    raise Refusal("model_unavailable", f"the model {name!r} cannot be loaded: {error}") from error
            return self._served[name]

    def _load(self, name: str, settings: SegmentSettings) -> ServedModel:
        loaded = LoadedModel(settings, registry=self._registry, keep_embeddings=0)
        loaded.load()
        beside = loaded.device.type == "cpu" and getattr(loaded.model, "reentrant", False)
        device = self._devices.setdefault(f"{loaded.device} {beside}", DeviceLock(beside=beside))
        embeddings = ModelEmbeddings(self._embeddings, settings.model_dump_json())
        loaded.lock, loaded.cache = device, embeddings
        return ServedModel(name, loaded, device, embeddings, model_info(name, settings, self._registry))
