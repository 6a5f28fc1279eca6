"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import Licence, LoraSpec, ModelSpec, hookimpl

SPEC = ModelSpec(
    name="newname",
    factory="oncoseg_newname.model:NewnameModel",
    summary="A tiny network with random weights: patches, one linear layer, a decoder that is shown the prompt",
    prompt_kinds=("box", "point"),
    input_size=64,
    lora=LoraSpec(targets=("mix",), policies={"lora+decoder": ("decoder",), "lora": ()}),
    weights="random",
    licence=Licence(code="Apache-2.0", weights="none: they are random"),
)


@hookimpl
def oncoseg_models() -> Iterator[ModelSpec]:
    """The model."""
    yield SPEC
