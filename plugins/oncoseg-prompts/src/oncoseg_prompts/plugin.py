"""What this distribution provides: one record per prompt generator."""

from collections.abc import Iterator

from oncoseg_core import PromptGeneratorSpec, hookimpl


@hookimpl
def oncoseg_prompt_generators() -> Iterator[PromptGeneratorSpec]:
    """The prompt generators."""
    yield PromptGeneratorSpec(
        name="box",
        makes=("box",),
        factory="oncoseg_prompts.box:BoxGenerator",
        summary="The mask's box, each side moved by a random margin",
    )
    yield PromptGeneratorSpec(
        name="point",
        makes=("point",),
        factory="oncoseg_prompts.point:PointGenerator",
        summary="One click inside the mask, in its middle or anywhere",
    )
    yield PromptGeneratorSpec(
        name="mask",
        makes=("mask",),
        factory="oncoseg_prompts.mask:MaskGenerator",
        summary="A rough mask: the reference moved, and grown or shrunk",
    )
    yield PromptGeneratorSpec(
        name="exemplar",
        makes=("exemplar",),
        factory="oncoseg_prompts.exemplar:ExemplarGenerator",
        summary="The box of one part of the target, which asks for all of them",
    )
    yield PromptGeneratorSpec(
        name="text",
        makes=("text",),
        factory="oncoseg_prompts.text:TextGenerator",
        summary="The target's name, or at a set rate another word for it",
    )
