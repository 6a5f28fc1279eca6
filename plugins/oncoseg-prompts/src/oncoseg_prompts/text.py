"""The target's name, or another word for it."""

from typing import Annotated

import numpy as np
from pydantic import Field

from oncoseg_core import Prompt, PromptGenerator, Settings, Target, Text


class TextSettings(Settings):
    """``synonyms``: how often one of the target's other names is said instead, each alike; 0 for its name always."""

    synonyms: Annotated[float, Field(ge=0, le=1)] = 0.0


class TextGenerator(PromptGenerator):
    """One text prompt, whether the target is on the slice or not."""

    Settings = TextSettings

    def generate(self, mask: np.ndarray, rng: np.random.Generator, target: Target) -> Prompt:  # noqa: ARG002
        """Say the target's name; draws two numbers from ``rng`` whatever the settings."""
        other, which = rng.random(2)
        if target.synonyms and other < self.settings.synonyms:
            return (Text(target.synonyms[int(which * len(target.synonyms))]),)
        return (Text(target.name),)
