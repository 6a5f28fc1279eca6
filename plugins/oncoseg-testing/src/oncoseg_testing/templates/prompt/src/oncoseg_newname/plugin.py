"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import PromptGeneratorSpec, hookimpl

SPEC = PromptGeneratorSpec(
    name="newname",
    makes=("box",),
    factory="oncoseg_newname.generator:NewnameGenerator",
    summary="The box of the largest connected part, each side moved outward by a random margin",
)


@hookimpl
def oncoseg_prompt_generators() -> Iterator[PromptGeneratorSpec]:
    """The prompt generator."""
    yield SPEC
