"""Prompt policies at work: how a model is asked about a slice, and with which prompt an object is then followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from oncoseg_benchmarks.config.prompt_settings import Clicks, NoPrompt, PromptPolicy
from oncoseg_benchmarks.scoring.clicks import click
from oncoseg_core import BoolArray, Prompt, PromptGenerator, PromptGeneratorSpec, Registry, Target

Ask: TypeAlias = Callable[[Prompt], BoolArray]
"""Answers a prompt on one slice with a mask ``(y, x)``."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A mask ``(y, x)``, the prompt that led to it, and for clicks how many it took to a good mask."""

    mask: BoolArray
    prompt: Prompt
    clicks_needed: int | None = None


class Policy:
    """One kind of prompt, from its settings.

    Args:
        settings: which.
        registry: where the prompt generator is found.

    Raises:
        UnknownComponentError: no plugin makes such prompts.
    """

    def __init__(self, settings: PromptPolicy, registry: Registry) -> None:
        self.settings = settings
        self.provenance: str = settings.provenance
        self.level = settings.level
        self.kinds = settings.kinds
        self.points_at_object = settings.points_at_object
        self._clicks = settings.n if isinstance(settings, Clicks) else 0
        made_by = settings.generator
        self._generator: PromptGenerator | None = made_by and registry.build(PromptGeneratorSpec, *made_by)

    @property
    def asks_every_slice(self) -> bool:
        """Whether nobody says on which slices the object is."""
        return isinstance(self.settings, NoPrompt)

    def answer(self, ask: Ask, reference: BoolArray, rng: np.random.Generator, target: Target) -> Answer:
        """Ask about one slice.

        Args:
            ask: the model on that slice.
            reference: bool ``(y, x)``; only a policy that does not point at the object takes an empty one.
            rng: the only source of randomness.
            target: what the reference shows.
        """
        if self._generator is None:
            found = click(ask, reference, self._clicks)
            return Answer(found.mask, found.prompt, found.clicks_needed)
        prompt = self._generator.generate(reference, rng, target)
        return Answer(ask(prompt), prompt)


def build_policies(settings: Sequence[PromptPolicy], registry: Registry) -> list[Policy]:
    """All policies of a run."""
    return [Policy(each, registry) for each in settings]
