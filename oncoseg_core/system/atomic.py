"""Writing files whole or not at all: a temporary name beside the target, fsync, then rename."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from oncoseg_core.contract.errors import StorageError


@contextlib.contextmanager
def atomic_path(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` with its suffixes; on success it replaces ``target``, else it goes.

    ``private``: only the owner may read it (mode 0600), as suits what names a patient; else as any new file here.

    Raises:
        StorageError: the folder cannot be written, or the disk is full. ``target`` is then as it was before.
    """
    temporary = target.with_name(f".partial-{uuid.uuid4().hex}{''.join(target.suffixes[-2:])}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(mode=0o600 if private else 0o666, exist_ok=False)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise StorageError(write_failure(error, target)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _sync_folder(target.parent)


def atomic_write(target: Path, content: bytes | str) -> None:
    """Write ``content`` (text as UTF-8) to ``target``, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_failure(error: OSError, target: Path) -> str:
    """Say in one line why ``target`` could not be written and what to do."""
    advice = {
        errno.ENOSPC: "the disk is full; free space or choose another place",
        errno.EDQUOT: "the disk quota is used up; free space or choose another place",
        errno.EFBIG: "the file would be larger than allowed here; choose another place",
        errno.EACCES: "no permission to write there; choose another place",
        errno.EPERM: "no permission to write there; choose another place",
        errno.EROFS: "that disk is read-only; choose another place",
        errno.ENOTDIR: "a part of that path is a file, not a folder",
        errno.EEXIST: "a part of that path is a file, not a folder",
        errno.EISDIR: "that is a folder; give a file name",
    }.get(error.errno or 0, error.strerror or str(error))
    return f"cannot write {target}: {advice}"


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can do it: not on Windows, nor on every network disk."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
