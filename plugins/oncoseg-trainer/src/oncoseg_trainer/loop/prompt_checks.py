"""Whether the prompts of a configuration go with its model and LoRA policy, asked before anything is loaded."""

from __future__ import annotations

from oncoseg_core import ConfigError, ModelSpec, PromptGeneratorSpec, PromptKind, Registry
from oncoseg_trainer.config.settings import TrainSettings


def require_taught(settings: TrainSettings, registry: Registry, model: ModelSpec) -> None:
    """Refuse prompts that the model does not take, or that what is trained does not answer.

    Raises:
        ConfigError: with the kinds it takes, the policy that teaches a kind, or why none does.
    """
    prompts, policy = settings.prompts, settings.lora.policy
    for name in dict.fromkeys([*(choice.name for choice in prompts.train), prompts.score.name]):
        makes = f"prompt generator {name!r} makes prompts of kind"
        for kind in registry.get(PromptGeneratorSpec, name).makes:
            if kind not in model.prompt_kinds:
                raise ConfigError(f"{makes} {kind!r}; model {model.name!r} takes {', '.join(model.prompt_kinds)}")
            if kind in model.lora.untrained:
                reason = model.lora.untrained[kind]
                raise ConfigError(f"{makes} {kind!r}, for which model {model.name!r} cannot be adapted: {reason}")
            untaught = model.lora.untaught(kind, policy)
            if untaught is not None:
                raise ConfigError(f"{makes} {kind!r}, but {untaught}: set `lora.policy`, or take other prompts")
    if prompts.hard_negatives.rate and all(_points(registry, choice.name) for choice in prompts.train):
        raise ConfigError(
            "`prompts.hard_negatives` asks for absent targets by their names; prompt generator "
            f"{' and '.join(repr(choice.name) for choice in prompts.train)} points at the object: add one that makes "
            "texts, or set the rate to 0"
        )
    if prompts.sequences.share and not _follows(settings, registry):
        raise ConfigError(
            "`prompts.sequences` follows single objects, and `prompts.train` points at none: add a box, point or mask, "
            "or set its share to 0"
        )
    follows = model.lora.untaught("mask", policy)
    if prompts.sequences.share and follows is not None:
        raise ConfigError(f"`prompts.sequences` teaches the model's own tracker, but {follows}: set `lora.policy`")


def left_untaught(settings: TrainSettings, registry: Registry, model: ModelSpec) -> list[str]:
    """What the policy trains and no sample teaches: it would answer worse than before, since what is under it moves."""
    policy = settings.lora.policy or next(iter(model.lora.policies))
    kinds: list[PromptKind] = [kind for kind, policies in model.lora.taught_by.items() if policy in policies]
    drawn = {kind for choice in settings.prompts.train for kind in registry.get(PromptGeneratorSpec, choice.name).makes}
    lines = []
    if kinds and not drawn & set(kinds):
        lines.append(
            f"lora.policy {policy!r} trains what answers prompts of kind {' and '.join(kinds)}, and prompts.train "
            "draws none of them: add one, or the adapter will answer them worse than the untouched model"
        )
    if kinds and not settings.prompts.sequences.share:
        lines.append(
            f"lora.policy {policy!r} trains the model's own tracker too, and prompts.sequences.share is 0: the tracker "
            "will be worse than the untouched model's (the neighbour tracker is not concerned)"
        )
    return lines


def _points(registry: Registry, name: str) -> bool:
    return registry.get(PromptGeneratorSpec, name).needs_object


def _follows(settings: TrainSettings, registry: Registry) -> bool:
    specs = (registry.get(PromptGeneratorSpec, choice.name) for choice in settings.prompts.train)
    return any(spec.needs_object and not spec.asks_for_all for spec in specs)
