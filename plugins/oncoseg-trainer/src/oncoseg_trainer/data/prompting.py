"""The prompts of a configuration, built: what makes them, and what each points at."""

from __future__ import annotations

from oncoseg_core import ConfigError, PromptGenerator, PromptGeneratorSpec, Registry
from oncoseg_prompts.api import Per, Prompting
from oncoseg_trainer.config.settings import ComponentChoice


def build_prompting(registry: Registry, choice: ComponentChoice, per: Per | None) -> Prompting:
    """From the generator's choice and ``prompts.per``.

    Raises:
        UnknownComponentError, ConfigError: no plugin makes such prompts, a setting is wrong, or lesions are to be asked
            for one by one by a prompt that does not point at any.
    """
    spec = registry.get(PromptGeneratorSpec, choice.name)
    generator: PromptGenerator = registry.build(PromptGeneratorSpec, choice.name, choice.settings)
    if per == "lesion" and not spec.needs_object:
        raise ConfigError(
            f"`prompts.per` is lesion, but prompt generator {choice.name!r} points at no object: a "
            f"{' or '.join(spec.makes)} asks for all of a target; leave it out"
        )
    return Prompting(generator, spec.needs_object, per)
