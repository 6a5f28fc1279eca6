"""Automatic models in a benchmark: asked by the target's name alone, they answer with the structure that it is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from oncoseg_benchmarks.config.settings import BenchSettings, ModelChoice
from oncoseg_benchmarks.scoring.plans import ModelPlan, SubjectPlan, reference_plans
from oncoseg_benchmarks.scoring.policies import Policy
from oncoseg_core import (
    AutomaticModel,
    AutomaticModelSpec,
    BoolArray,
    ConfigError,
    PluginError,
    Prompt,
    Registry,
    Text,
    Volume,
    close_matches,
)
from oncoseg_segment.api import is_automatic, segment_automatically


class AutomaticPlan(SubjectPlan):
    """An automatic model of the configuration, built once to see what it makes.

    Raises:
        ConfigError: a setting is wrong, or one of a promptable model.
        OncoSegError: the model cannot be built.
    """

    is_reference = False

    def __init__(self, choice: ModelChoice, settings: BenchSettings, registry: Registry) -> None:
        self.label = choice.display_name
        for key in ("adapter", "zoom", "fit"):
            if getattr(choice, key) is not None:
                raise ConfigError(f"models: {self.label}: is an automatic model, which has no {key}; leave it out")
        if settings.normalizers or settings.channels:
            raise ConfigError(
                f"models: {self.label}: is an automatic model, which gets calibrated values; leave normalizers and "
                "channels out, or score it in a benchmark of its own"
            )
        self._registry, self._structures = registry, dict(choice.structures)
        self._asked: dict[str, str] = {}
        self._prepared = registry.prepare(AutomaticModelSpec, choice.name, choice.settings)
        model = self._prepared()
        self.spec = model.spec
        self._version = {
            **self.identity(),
            "weights_sha256": model.weights_sha256,
            "version": str(registry.component(AutomaticModelSpec, choice.name).plugin),
            "weights": self.spec.weights,
        }

    def refusal(self, policy: Policy) -> str | None:
        """It takes no prompts: only the policy by which nobody points at anything."""
        return None if policy.asks_every_slice else "it is an automatic model, which takes no prompts: choose `none`"

    def refuses_modality(self, modality: str) -> str | None:
        """By its record."""
        if not self.spec.modalities or modality in self.spec.modalities:
            return None
        return f"the model was made for {', '.join(self.spec.modalities)}, not for {modality!r}"

    def require_targets(self, targets: Iterable[str]) -> None:
        """Refuse a run in which it would be scored on what it does not make.

        Raises:
            ConfigError: a target is none of its structures, or ``structures`` names what is not there.
        """
        scored = sorted(set(targets))
        for target, structure in self._structures.items():
            if target not in scored:
                raise ConfigError(
                    f"models: {self.label}: structures: no target {target!r}{close_matches(target, scored)}"
                )
            if structure not in self.spec.structures:
                near = close_matches(structure, self.spec.structures)
                raise ConfigError(f"models: {self.label}: structures: the model makes no {structure!r}{near}")
        self._asked = {target: self._structures.get(target, target) for target in scored}
        missing = [target for target, structure in self._asked.items() if structure not in self.spec.structures]
        if missing:
            raise ConfigError(
                f"models: {self.label}: has no structure for the targets {', '.join(missing)}: say which by "
                f"structures: {{{missing[0]}: NAME}}, or choose others; it makes {', '.join(self.spec.structures)}"
            )

    def identity(self) -> dict[str, Any]:
        """What is known of it before it is built again."""
        return {"name": self.spec.name, "adapter_sha256": None, "structures": self._structures}

    def licence(self) -> dict[str, Any] | None:
        """Of the model's code and weights; None where its record states none."""
        licence = self.spec.licence
        return None if licence is None else {**licence.model_dump(), "notice": licence.notice}

    def build(self, modalities: list[str]) -> AutomaticSubject:
        """Load it."""
        del modalities
        return AutomaticSubject(self.label, self._prepared(), self._asked, self._registry, self._version)


class AutomaticSubject:
    """An automatic model; ``version`` says whose weights these are."""

    engine: str | None = None

    def __init__(
        self,
        label: str,
        model: AutomaticModel,
        structures: Mapping[str, str],
        registry: Registry,
        version: dict[str, Any],
    ) -> None:
        self.label, self.version = label, version
        self._model, self._structures, self._registry = model, structures, registry

    def refusal(self, policy: Policy) -> str | None:
        """As its plan does."""
        return None if policy.asks_every_slice else "it takes no prompts"

    def open(self, volume: Volume) -> AutomaticSession:
        """For one volume; it is segmented when the first target is asked for."""
        return AutomaticSession(self._model, self._structures, self._registry, volume)


class AutomaticSession:
    """An automatic model on one volume: all its structures at once, one mask in memory at a time."""

    def __init__(
        self, model: AutomaticModel, structures: Mapping[str, str], registry: Registry, volume: Volume
    ) -> None:
        self._model, self._structures, self._registry, self._volume = model, structures, registry, volume
        self._masks: Mapping[str, BoolArray] | None = None
        self._current: tuple[str, BoolArray] | None = None
        self._seconds: float | None = None

    def ask(self, index: int, prompts: Sequence[Prompt], references: Sequence[BoolArray]) -> list[BoolArray]:
        """The slice of the structure that each prompt's word is."""
        del references
        return [self._mask(prompt)[index] for prompt in prompts]

    def follow(self, index: int, prompt: Prompt, answer: BoolArray, reference: BoolArray) -> BoolArray:
        """The whole structure."""
        del index, answer, reference
        return self._mask(prompt)

    def latency(self) -> dict[str, float | None]:
        """The whole image takes the ``first``; nothing is left for a ``next``."""
        return {"first": self._seconds, "next": None}

    def _mask(self, prompt: Prompt) -> BoolArray:
        (word,) = prompt
        if not isinstance(word, Text):
            raise PluginError(f"an automatic model is asked by a target's name, not by a {word.kind}")
        name = self._structures[word.text]
        if self._masks is None:
            started = time.perf_counter()
            names = sorted(set(self._structures.values()))
            self._masks = segment_automatically(self._model, self._volume, names, registry=self._registry).result.masks
            self._seconds = time.perf_counter() - started
        if self._current is None or self._current[0] != name:
            self._current = (name, np.asarray(self._masks[name]))
        return self._current[1]


def plan_subjects(settings: BenchSettings, registry: Registry) -> list[SubjectPlan]:
    """The models in the order of the configuration, promptable and automatic ones, then floors and ceilings."""
    models = [
        (AutomaticPlan if is_automatic(registry, choice.name) else ModelPlan)(choice, settings, registry)
        for choice in settings.models
    ]
    return [*models, *reference_plans(settings, [model for model in models if isinstance(model, ModelPlan)])]
