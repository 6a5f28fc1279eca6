"""What the harness adds: the ``bench`` command."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """The same as the program ``oncoseg-bench``."""
    yield CommandSpec(
        name="bench",
        factory="oncoseg_benchmarks.cli:app",
        summary="Score models on registered datasets: oncoseg bench samples",
    )
