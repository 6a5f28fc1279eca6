"""The prompts of a configuration, built: what makes them, what each points at, and which comes how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from oncoseg_core import ConfigError, PromptGenerator, PromptGeneratorSpec, Registry
from oncoseg_prompts.api import Per, Prompting
from oncoseg_trainer.config.prompt_settings import ComponentChoice, TrainPrompts


class PromptKindShare(NamedTuple):
    """One kind of prompt: what makes it, its part of the samples, and how many clicks there are at most."""

    prompting: Prompting
    share: float = 1.0
    clicks: int = 1


@dataclass(frozen=True, eq=False)
class PromptMixture:
    """The kinds of prompt that training draws from."""

    kinds: tuple[PromptKindShare, ...]

    @classmethod
    def of(cls, prompting: Prompting) -> PromptMixture:
        """Of one kind alone."""
        return cls((PromptKindShare(prompting),))

    @property
    def points_at_object(self) -> bool:
        """Whether any of them has to be made from the object, so that cases without it are of no use."""
        return any(kind.prompting.points_at_object for kind in self.kinds)

    def draw(self, rng: np.random.Generator) -> tuple[Prompting, int]:
        """One of them, in proportion to the shares, and how many clicks it corrects; one number is drawn for each."""
        which, many = rng.random(2)
        ends = np.cumsum([kind.share for kind in self.kinds])
        kind = self.kinds[min(int(np.searchsorted(ends, which * ends[-1], side="right")), len(self.kinds) - 1)]
        return kind.prompting, int(many * kind.clicks)


def build_mixture(registry: Registry, choices: Sequence[TrainPrompts], per: Per | None) -> PromptMixture:
    """From ``prompts.train`` and ``prompts.per``.

    Raises:
        UnknownComponentError, ConfigError: as for :func:`build_prompting`, or what makes no points is to be corrected
            by clicks.
    """
    kinds = []
    for choice in choices:
        makes = registry.get(PromptGeneratorSpec, choice.name).makes
        if choice.clicks > 1 and set(makes) != {"point"}:
            raise ConfigError(
                f"`prompts.train`: {choice.name!r} has {choice.clicks} clicks, but makes a {' or '.join(makes)}: only "
                "points are corrected by clicks; leave it out"
            )
        asks_for_all = registry.get(PromptGeneratorSpec, choice.name).asks_for_all
        for_each = None if asks_for_all and len(choices) > 1 else per
        kinds.append(PromptKindShare(build_prompting(registry, choice, for_each), choice.share, choice.clicks))
    return PromptMixture(tuple(kinds))


def build_prompting(registry: Registry, choice: ComponentChoice, per: Per | None) -> Prompting:
    """From the generator's choice and ``prompts.per``.

    Raises:
        UnknownComponentError, ConfigError: no plugin makes such prompts, a setting is wrong, or lesions are to be asked
            for one by one by a prompt that does not point at any.
    """
    spec = registry.get(PromptGeneratorSpec, choice.name)
    generator: PromptGenerator = registry.build(PromptGeneratorSpec, choice.name, choice.settings)
    if per == "lesion" and spec.asks_for_all:
        raise ConfigError(
            f"`prompts.per` is lesion, but prompt generator {choice.name!r} points at no single object: a "
            f"{' or '.join(spec.makes)} asks for all of a target; leave it out"
        )
    return Prompting(generator, spec.needs_object, per, spec.asks_for_all)
