"""One node on a folder: a second one would take the same jobs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oncoseg_core import ConfigError, StorageError
from oncoseg_core.system import write_failure

LOCK_FILE = "lock"


@contextmanager
def sole_node(data: Path) -> Iterator[None]:
    """Hold the folder while the node runs; the system lets go of it when the node is killed.

    Raises:
        ConfigError: another node holds it.
        StorageError: the folder cannot be written.
    """
    path = data / LOCK_FILE
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        data.chmod(0o700)  # one that was there: images of patients come into it
        stream = path.open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(write_failure(error, path)) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read(20).strip() or "unknown"
            raise ConfigError(
                f"`data`: another node (process {holder}) works in {data}; end it, or give this one another folder"
            ) from error
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def is_running(data: Path) -> bool:
    """Whether a node works in the folder now."""
    try:
        with (data / LOCK_FILE).open("r", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
