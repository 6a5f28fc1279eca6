"""What this distribution provides. Light: the hub's library is loaded when it is used."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg adapters``."""
    yield CommandSpec(
        name="adapters",
        factory="oncoseg_hub.command:app",
        summary="List LoRA adapters, pull them from the Hugging Face hub, push them there",
    )
