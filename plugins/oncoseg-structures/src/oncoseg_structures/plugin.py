"""What this distribution provides."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg structures``."""
    yield CommandSpec(
        name="structures",
        factory="oncoseg_structures.cli.structures_command:app",
        summary="Check names of structures by TG-263; list the protocols of the node",
    )
