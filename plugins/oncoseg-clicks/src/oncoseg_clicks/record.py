"""What a model's record says once a search answers clicks for it. Light: no torch."""

from __future__ import annotations

from oncoseg_core import ModelSpec

CLICKS_READ_AS = "a box that a search finds: the model answers for candidate boxes around the clicks, and one is chosen"
"""What becomes of clicks, for manifests, results and tables."""


def needs_search(spec: ModelSpec) -> bool:
    """Whether a model takes boxes and no clicks, so that only a search makes clicks of use to it."""
    return "box" in spec.prompt_kinds and "point" not in spec.prompt_kinds


def record_with_clicks(spec: ModelSpec) -> ModelSpec:
    """The record with clicks among its prompts, read as a box; of a model that takes clicks itself, the same record.

    An adapter that cannot serve boxes cannot serve clicks.
    """
    if not needs_search(spec):
        return spec
    kinds, read = (*spec.prompt_kinds, "point"), {**spec.reads_as, "point": CLICKS_READ_AS}
    untrained = dict(spec.lora.untrained)
    if "box" in untrained:
        untrained["point"] = untrained["box"]
    lora = spec.lora.model_copy(update={"untrained": untrained})
    return spec.model_copy(update={"prompt_kinds": kinds, "reads_as": read, "lora": lora})
