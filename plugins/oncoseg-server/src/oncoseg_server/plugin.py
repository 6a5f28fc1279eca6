"""What this distribution provides. Light: no torch, no FastAPI."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg serve``."""
    yield CommandSpec(
        name="serve",
        factory="oncoseg_server.cli.serve_command:app",
        summary="Answer prompts over HTTP beside a PACS: for OHIF, napari, Slicer and scripts",
    )
