"""What will be scored, known before a model is loaded: which prompts it takes, and how to build it."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from oncoseg_benchmarks.config.settings import BenchSettings, Grid, ModelChoice
from oncoseg_benchmarks.scoring.policies import Policy
from oncoseg_benchmarks.scoring.subjects import (
    BoxFloor,
    LogitsCeiling,
    ModelSubject,
    NothingFloor,
    Subject,
    ZoomCeiling,
)
from oncoseg_clicks import record_with_clicks, with_clicks
from oncoseg_core import ConfigError, Fit, ModelSpec, PromptKind, Registry, WeightsError
from oncoseg_core.inference import EmbeddingCache, Predictor, choose_device
from oncoseg_core.path import PathSettings, Preprocessor, ZoomSettings
from oncoseg_core.plugins import validate
from oncoseg_lora import MANIFEST_FILE, AdapterManifest, adapter_folder, read_manifest
from oncoseg_segment.api import PropagationSettings

CACHE_BYTES = 512 * 1024 * 1024
"""Embeddings kept of a case, so that a slice is encoded once for all its targets and prompts: 128 of LiteMedSAM's."""


class SubjectPlan(ABC):
    """A subject to be: its label, what it refuses, and how to build it."""

    label: str
    is_reference = True
    adapter: Path | None = None

    @abstractmethod
    def refusal(self, policy: Policy) -> str | None:
        """Why it takes no prompts of that policy; None where it does."""

    def refuses_modality(self, modality: str) -> str | None:
        """Why it takes no images of that modality; None where it does."""
        del modality
        return None

    @abstractmethod
    def build(self, modalities: list[str]) -> Subject:
        """Load it."""


@dataclass(eq=False)
class ReferencePlan(SubjectPlan):
    """A floor or a ceiling: nothing to load."""

    make: Callable[[], Subject]

    def __post_init__(self) -> None:
        self._subject = self.make()
        self.label = self._subject.label

    def refusal(self, policy: Policy) -> str | None:
        """Its own word."""
        return self._subject.refusal(policy)

    def build(self, modalities: list[str]) -> Subject:
        """As it is."""
        del modalities
        return self._subject


class ModelPlan(SubjectPlan):
    """A model of the configuration.

    Raises:
        UnknownComponentError, ConfigError: the model is unknown or a setting wrong.
        WeightsError: its adapter is missing, or another model's.
    """

    is_reference = False

    def __init__(self, choice: ModelChoice, settings: BenchSettings, registry: Registry) -> None:
        self.label = choice.display_name
        if choice.structures:
            raise ConfigError(
                f"models: {self.label}: takes prompts; structures are of automatic models, leave them out"
            )
        self.spec = record_with_clicks(registry.get(ModelSpec, choice.name))
        self._settings, self._registry = settings, registry
        asked = {kind for each in settings.prompts for kind in Policy(each, registry).kinds}
        self._read_as = {kind: how for kind, how in self.spec.reads_as.items() if kind in asked}
        self._prepared = registry.prepare(ModelSpec, choice.name, choice.settings)
        self.zoom = None if choice.zoom is None else validate(ZoomSettings, choice.zoom, f"zoom of {self.label}")
        self._propagation = validate(PropagationSettings, settings.propagation, "propagation")
        self._device = _process_device(settings.device)
        self.manifest: AdapterManifest | None = None
        self.fit: Fit = choice.fit or "letterbox"
        if choice.adapter is not None:
            self.adapter = adapter_folder(choice.adapter)
            self.manifest = read_manifest(self.adapter)
            if self.manifest.model != choice.name:
                raise WeightsError(
                    f"{self.adapter}: the adapter was trained for model {self.manifest.model!r}, not {choice.name!r}"
                )
            self.fit = _trained_fit(self.label, self.manifest, choice.fit)
            if settings.normalizers or settings.channels:
                raise ConfigError(
                    f"normalizers and channels are those that {self.label} was trained with: leave them out, or score "
                    "it in a benchmark of its own"
                )

    def refusal(self, policy: Policy) -> str | None:
        """The model's own word; of an adapter also what it was not taught: that is the untouched model's score."""
        reasons = [self.spec.refusal(kind, adapted=self.adapter is not None) for kind in policy.kinds]
        if self.manifest is not None:
            follows = policy.level == "volume" and not policy.asks_every_slice
            # The model's own tracker remembers masks, whatever prompt it begins with.
            tracked: tuple[PromptKind, ...] = ("mask",) if follows and self._propagation.tracker == "own" else ()
            lora, trained = self.spec.lora, self.manifest.lora.policy
            reasons += [lora.untaught(kind, trained) for kind in (*policy.kinds, *tracked)]
        return next((reason for reason in reasons if reason is not None), None)

    def refuses_modality(self, modality: str) -> str | None:
        """An adapter takes what it was trained on."""
        if self.manifest is None or modality in self.manifest.paths:
            return None
        return f"the adapter was trained on {', '.join(sorted(self.manifest.paths))}, not on {modality!r}"

    def identity(self) -> dict[str, str | None]:
        """What is known before the weights are loaded: the model, and the hash of its adapter's manifest."""
        adapter = None
        if self.adapter is not None:
            adapter = hashlib.sha256((self.adapter / MANIFEST_FILE).read_bytes()).hexdigest()
        return {"name": self.spec.name, "adapter_sha256": adapter}

    def licence(self) -> dict[str, Any] | None:
        """Of the model's code and weights; None where its record states none."""
        return (
            None
            if self.spec.licence is None
            else {**self.spec.licence.model_dump(), "notice": self.spec.licence.notice}
        )

    def build(self, modalities: list[str]) -> ModelSubject:
        """Load the weights and the adapter, and the path of each modality."""
        model: Any = self._prepared()
        version: dict[str, Any] = {**self.identity(), "weights_sha256": model.weights_sha256}
        if self._read_as:
            version["prompts_read_as"] = self._read_as
        if self.adapter is not None:
            from oncoseg_lora import load_adapter

            model = load_adapter(model, self.adapter)
            if self.manifest is not None and self.manifest.trained is not None:
                version["trained"] = self.manifest.trained.model_dump(mode="json")
        model = with_clicks(model)
        own = [modality for modality in modalities if self.refuses_modality(modality) is None]
        cache = EmbeddingCache(CACHE_BYTES)
        predictor = Predictor(
            model.to(self._device),
            {modality: Preprocessor(self._registry, modality, self.spec, self._path(modality)) for modality in own},
            cache,
            self._device,
            self._settings.precision,
            self.zoom,
        )
        return ModelSubject(self.label, predictor, cache, self._propagation, version)

    def _path(self, modality: str) -> PathSettings:
        if self.manifest is not None:
            return self.manifest.paths[modality]
        return PathSettings(
            normalizers=self._settings.normalizers, channels=self._settings.channels.get(modality), fit=self.fit
        )


def _trained_fit(label: str, manifest: AdapterManifest, given: Fit | None) -> Fit:
    """The one fit that an adapter was trained with.

    Raises:
        ConfigError: the configuration gives another.
    """
    trained: Fit = next((path.fit for path in manifest.paths.values()), "letterbox")
    if given is not None and given != trained:
        raise ConfigError(
            f"{label} was trained with fit {trained}, not {given}: leave its fit out, or score another adapter"
        )
    return trained


def _process_device(device_name: str) -> torch.device:
    """That of this process: of a machine's several, the one that ``torchrun`` counts out for it (``LOCAL_RANK``)."""
    device = choose_device(device_name)
    if device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(own)
    return own


def reference_plans(settings: BenchSettings, models: Sequence[ModelPlan]) -> list[SubjectPlan]:
    """Floors and ceilings; of promptable models only, for the others see the whole image and no prompt."""
    plans: list[SubjectPlan] = []
    if settings.references.floors:
        plans += [ReferencePlan(NothingFloor), ReferencePlan(BoxFloor)]
    grids = list(settings.references.grids)
    if settings.references.ceilings:
        grids += [Grid(input=model.spec.input_size, logits=model.spec.logits_size, fit=model.fit) for model in models]
    plans += [ReferencePlan(partial(LogitsCeiling, grid)) for grid in dict.fromkeys(grids)]
    if settings.references.ceilings:
        zooming = [(model, model.zoom) for model in models if model.zoom is not None]
        plans += [
            ReferencePlan(partial(ZoomCeiling, model.label, model.spec, zoom, model.fit)) for model, zoom in zooming
        ]
    return plans
