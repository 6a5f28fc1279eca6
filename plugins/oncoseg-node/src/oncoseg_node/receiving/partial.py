"""An instance on its way to the disk: bounded, and hashed while it is written."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from oncoseg_core.system import write_failure
from oncoseg_node.receiving.refused import RefusedInstanceError
from oncoseg_node.receiving.uids import KEPT_BYTES

Bytes: TypeAlias = bytes | memoryview

SUFFIX = ".partial"
_HEAD = 144
"""Bytes of a file up to the end of its first element, which says how long its meta information is."""

_PREAMBLE, _GROUP_LENGTH = b"DICM", b"\x02\x00\x00\x00UL\x04\x00"
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Partial(NamedTuple):
    """A file that lies complete under a temporary name, not yet synced: its size, its beginning, a digest.

    ``sha256`` is of what follows the file's meta information, which differs by who wrote it: the same image is the same
    by whatever door it comes.
    """

    path: Path
    size: int
    sha256: str
    head: bytes


@contextmanager
def partial_file(folder: Path, chunks: Iterable[Bytes], most: int) -> Iterator[Partial]:
    """Write what arrives to a new file in ``folder``; it is deleted at the end, unless it was renamed.

    Raises:
        RefusedInstanceError: it has more than ``most`` bytes, or the disk is full.
    """
    path = folder / f"{uuid.uuid4().hex}{SUFFIX}"
    try:
        try:
            yield _written(path, chunks, most)
        except OSError as error:
            if error.errno in _FULL:
                raise RefusedInstanceError("full", "the disk of the node is full") from error
            raise RefusedInstanceError("full", write_failure(error, folder)) from error
    finally:
        with suppress(OSError):
            path.unlink()


def _written(path: Path, chunks: Iterable[Bytes], most: int) -> Partial:
    digest, size, head = hashlib.sha256(), 0, b""
    source = _with_whole_head(chunks)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(handle, "wb", buffering=0) as stream:
        start = None
        for chunk in source:
            if start is None:
                start = _dataset_start(bytes(chunk[:_HEAD]))
            if size + len(chunk) > most:
                raise RefusedInstanceError(
                    "too large", f"the object has more than {most} bytes, the most that is taken"
                )
            _write_all(stream.fileno(), chunk)
            if len(head) < KEPT_BYTES:
                head += bytes(chunk[: KEPT_BYTES - len(head)])
            digest.update(chunk[max(0, start - size) :])
            size += len(chunk)
    return Partial(path, size, digest.hexdigest(), head)


def _write_all(handle: int, chunk: Bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _with_whole_head(chunks: Iterable[Bytes]) -> Iterator[Bytes]:
    """The same bytes, in pieces of which the first holds what :func:`_dataset_start` needs."""
    source = iter(chunks)
    head: Bytes = b""
    for chunk in source:
        head = chunk if not head else bytes(head) + bytes(chunk)
        if len(head) >= _HEAD:
            break
    if len(head):
        yield head
    yield from source


def _dataset_start(head: bytes) -> int:
    """Where the dataset begins, after preamble and meta information; 0 in a file without them."""
    if head[128:132] != _PREAMBLE or head[132:140] != _GROUP_LENGTH:
        return 0
    return _HEAD + int.from_bytes(head[140:144], "little")


def clear_partial(folder: Path) -> int:
    """When a node starts: delete what was half received when it ended; returns how many files."""
    stray = list(folder.glob(f"*{SUFFIX}"))
    for path in stray:
        path.unlink(missing_ok=True)
    return len(stray)


def sync(path: Path) -> None:
    """Make a file durable, or renames within a folder.

    Raises:
        OSError: the disk is full, or failed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
