"""Libraries that are there only when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oncoseg_core import MissingDependencyError


@contextmanager
def extra(name: str, library: str) -> Iterator[None]:
    """Around the import of what the extra ``name`` installs.

    Raises:
        MissingDependencyError: it is not installed; the message has the command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {library, "torch"}:
            raise
        raise MissingDependencyError(
            f"tracker {name!r} needs the library {error.name!r}, which is not installed: "
            f"pip install 'oncoseg-trackers[{name}]'"
        ) from error
