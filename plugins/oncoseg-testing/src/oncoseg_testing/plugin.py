"""What this distribution provides. Light: no hypothesis, no pytest."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg new-plugin``."""
    yield CommandSpec(
        name="new-plugin",
        factory="oncoseg_testing.new_plugin_command:app",
        summary="Write a plugin package that builds, installs and passes its own tests, for you to change",
    )
