"""What this distribution provides. Light: no torch, no FastAPI, no pynetdicom."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg node``."""
    yield CommandSpec(
        name="node",
        factory="oncoseg_node.cli.commands:app",
        summary="Receive series, contour them by protocol, send structure sets, prove what was done",
    )
