"""The models of a worker process: built when first needed, kept for the jobs that follow."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

from oncoseg_core import AutomaticModel, AutomaticModelSpec, Registry
from oncoseg_core.system import json_text
from oncoseg_node.config.settings import ModelSettings
from oncoseg_segment import api

MOST = 8
"""Models that stay in memory; of more, those not used for longest are built again."""


def automatic_model(model: ModelSettings, registry: Registry, device: str) -> AutomaticModel:
    """An automatic model with its settings; on this device, where it has such a setting and the file leaves it out.

    Raises:
        OncoSegError: it cannot be built.
    """
    return _automatic(_Key(json_text([model.model, model.settings]), model, registry), device)


def text_model(model: ModelSettings, registry: Registry, device: str) -> api.LoadedModel:
    """A promptable model with its adapter, on this device.

    Raises:
        OncoSegError: it cannot be loaded.
    """
    key = json_text([model.model, model.settings, model.adapter])
    return _promptable(_Key(key, model, registry), device)


class _Key:
    """What a model is built from, compared by its settings' text."""

    def __init__(self, text: str, model: ModelSettings, registry: Registry) -> None:
        self.text, self.model, self.registry = text, model, registry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and (self.text, id(self.registry)) == (other.text, id(other.registry))

    def __hash__(self) -> int:
        return hash(self.text)


@lru_cache(MOST)
def _automatic(key: _Key, device: str) -> AutomaticModel:
    model, registry = key.model, key.registry
    settings = dict(model.settings)
    registry.prepare(AutomaticModelSpec, model.model, settings)
    if "device" in _settings_of(registry, model.model) and "device" not in settings:
        settings["device"] = device
    built: AutomaticModel = registry.build(AutomaticModelSpec, model.model, settings)
    return built


def _settings_of(registry: Registry, name: str) -> Any:
    module, _, attribute = registry.get(AutomaticModelSpec, name).factory.partition(":")
    return getattr(importlib.import_module(module), attribute).Settings.model_fields


@lru_cache(MOST)
def _promptable(key: _Key, device: str) -> api.LoadedModel:
    model = key.model
    where = "cuda" if device.startswith("cuda") else "cpu"
    settings = api.SegmentSettings(
        model=model.model, model_settings=model.settings, adapter=model.adapter, device=where
    )
    return api.LoadedModel(settings, registry=key.registry)
