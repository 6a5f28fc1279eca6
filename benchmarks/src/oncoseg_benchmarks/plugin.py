"""What the harness adds: the ``bench`` command, and two targets more on a sample scan."""

from collections.abc import Iterator

from oncoseg_benchmarks.cases.neighbours import NEIGHBOURS
from oncoseg_core import CommandSpec, DatasetSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """The same as the program ``oncoseg-bench``."""
    yield CommandSpec(
        name="bench",
        factory="oncoseg_benchmarks.cli:app",
        summary="Score models on registered datasets: oncoseg bench samples",
    )


@hookimpl
def oncoseg_datasets() -> Iterator[DatasetSpec]:
    """Of the sample scans."""
    yield NEIGHBOURS
