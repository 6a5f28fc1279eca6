"""Opening files that others made: regular ones only, since a pipe or a device of that name would be waited for."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_SPECIAL = "is a pipe, socket or device; expected a regular file"


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file, or a link to one, for reading bytes; the caller closes it.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, socket or device; ``strerror`` says which.
    """
    # A pipe that nobody writes to is opened at once with this flag, which regular files take no notice of.
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:  # which a socket answers
            raise
        raise OSError(errno.EINVAL, _SPECIAL, str(path)) from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is a folder; expected a file" if stat.S_ISDIR(mode) else _SPECIAL, str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path) -> bytes:
    """The content of a regular file, or of a link to one.

    Raises:
        OSError: as for :func:`open_regular`.
    """
    with open_regular(path) as stream:
        return stream.read()
