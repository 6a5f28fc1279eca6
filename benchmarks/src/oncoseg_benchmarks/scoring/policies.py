"""Prompt policies at work: how a model is asked about a slice, and with which prompt an object is then followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from oncoseg_benchmarks.config.prompt_settings import Clicks, Generated, NoPrompt, PromptPolicy
from oncoseg_benchmarks.scoring.clicks import click
from oncoseg_core import BoolArray, ConfigError, Prompt, PromptGeneratorSpec, PromptKind, Registry, Target
from oncoseg_prompts.api import Prompting

Ask: TypeAlias = Callable[[Sequence[Prompt], Sequence[BoolArray]], list[BoolArray]]
"""Answers the prompts on one slice, each for one object ``(y, x)``, with as many masks ``(y, x)``."""


@dataclass(frozen=True, eq=False)
class Answer:
    """Of each object of a slice: a mask ``(y, x)``, the prompt that led to it, and how many clicks a good mask took.

    ``clicks_needed`` is empty for other prompts.
    """

    masks: list[BoolArray]
    prompts: list[Prompt]
    clicks_needed: list[int]


class Policy:
    """One kind of prompt, from its settings.

    Args:
        settings: which.
        registry: where the prompt generator is found.

    Raises:
        UnknownComponentError, ConfigError: no plugin makes such prompts, a setting of the generator is wrong, or
            lesions are to be asked for one by one by a prompt that points at none.
    """

    def __init__(self, settings: PromptPolicy, registry: Registry) -> None:
        self.settings = settings
        self.provenance: str = settings.provenance
        self.level = settings.level
        self.kinds: tuple[PromptKind, ...] = settings.kinds
        self.points_at_object = settings.points_at_object
        self._clicks = settings.n if isinstance(settings, Clicks) else 0
        self._prompting: Prompting | None = None
        if settings.generator is not None:
            name, values = settings.generator
            spec = registry.get(PromptGeneratorSpec, name)
            if isinstance(settings, Generated):
                self.kinds, self.points_at_object = spec.makes, spec.needs_object
            made = registry.build(PromptGeneratorSpec, name, values)
            self._prompting = Prompting(made, self.points_at_object, settings.per, spec.asks_for_all)
        if settings.per == "lesion" and not self.points_at_object:
            raise ConfigError(
                f"prompts: {self.provenance} has `per: lesion`, but points at no object: it asks for all of a target; "
                "leave it out"
            )

    @property
    def asks_every_slice(self) -> bool:
        """Whether nobody says on which slices the object is."""
        return isinstance(self.settings, NoPrompt)

    def each_lesion(self, target: Target) -> bool:
        """Whether each lesion of a target is asked for by itself."""
        if self._prompting is not None:
            return self._prompting.each_lesion(target)
        return (self.settings.per or ("lesion" if target.kind == "lesion" else "target")) == "lesion"

    def provenance_of(self, target: Target) -> str:
        """Where the prompts for a target come from, and what each points at, as every row says it."""
        return self.settings.provenance_for(each_lesion=self.each_lesion(target))

    def answer(self, ask: Ask, objects: Sequence[BoolArray], rng: np.random.Generator, target: Target) -> Answer:
        """Ask about one slice.

        Args:
            ask: the model on that slice.
            objects: bool ``(y, x)``; only a policy that does not point at the object takes an empty one.
            rng: the only source of randomness.
            target: what the objects are.
        """
        if self._prompting is None:
            return _clicked(ask, objects, self._clicks)
        prompts = self._prompting.prompts(objects, rng, target)
        return Answer(ask(prompts, objects), prompts, [])


def _clicked(ask: Ask, objects: Sequence[BoolArray], n: int) -> Answer:
    """Each object is clicked on by itself: what else is there counts as wrong for it."""
    found = []
    for each in objects:

        def ask_one(prompt: Prompt, own: BoolArray = each) -> BoolArray:
            (mask,) = ask([prompt], [own])
            return mask

        found.append(click(ask_one, each, n))
    masks, prompts = [one.mask for one in found], [one.prompt for one in found]
    return Answer(masks, prompts, [one.clicks_needed for one in found])


def build_policies(settings: Sequence[PromptPolicy], registry: Registry) -> list[Policy]:
    """All policies of a run."""
    return [Policy(each, registry) for each in settings]
