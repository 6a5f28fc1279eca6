"""Autosave: what is asked for in a window, line by line, so that a killed window loses nothing of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from oncoseg_client.queued import Op, Step, fold
from oncoseg_client.voxels import Voxels

KEPT_DAYS = 30
"""How long the journal of a killed window is offered."""
SUFFIX = ".jsonl"


def fingerprint(voxels: Voxels) -> str:
    """What tells one image from another: its voxels and where they are."""
    digest = hashlib.sha256(_line({**voxels.header, "modality": ""}).encode())
    for plane in voxels.array:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Unfinished:
    """A session that did not end by itself. ``image`` says how to open its image again, and what it was."""

    path: Path
    image: Mapping[str, Any]
    steps: list[Step]
    undone: list[Step]
    unsent: list[Any]
    saved_at: float

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)


class Journal:
    """The file of one session. It is locked as long as its window lives; a clean end deletes it.

    Args:
        folder: where journals are, of this user alone; made where it is not there.
        image: how to open the image again: ``path``, ``name``, ``settings``, ``slice_axis``, ``model``, ``server``.
    """

    def __init__(self, folder: Path, image: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{secrets.token_hex(8)}{SUFFIX}"
        begun = self.path.with_suffix(".new")  # no other window takes an empty file for one that nobody needs
        descriptor = os.open(begun, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b", buffering=0)
        self._lock = threading.Lock()
        _lock(self._file)
        self.write({"op": "image", **image})
        begun.rename(self.path)

    def write(self, op: Op) -> None:
        """Add a line: the operating system has it when this returns, so only a power cut can lose it.

        Raises:
            OSError: the disk is full; lines that come later are not lost with this one.
        """
        line = _line(op).encode() + b"\n"
        with self._lock:
            if self._file.closed:  # the window ends
                return
            end = self._file.seek(0, os.SEEK_END)
            if self._file.write(line) != len(line):
                self._file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end(self, *, keep: bool = False) -> None:
        """The session ends: delete the file, unless it is kept for another time."""
        with self._lock:
            self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)


def unfinished(folder: Path) -> list[Unfinished]:
    """Sessions of windows that were killed, the newest first; those of living windows are locked."""
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            _lock(file)
            too_old = path.stat().st_mtime < time.time() - KEPT_DAYS * 86_400
            session = None if too_old else _read(path, file.read())
            if session is None:
                path.unlink(missing_ok=True)
            else:
                found.append(session)
    return sorted(found, key=lambda one: one.saved_at, reverse=True)


def _read(path: Path, content: bytes) -> Unfinished | None:
    """None where nothing was asked for; a torn last line, and what is no line of ours, counts as never written."""
    ops = list(_lines(content))
    if not ops or ops[0].get("op") != "image":
        return None
    image: dict[str, Any] = {}
    for op in ops:
        if op["op"] == "image":
            image.update(op)
    at = max((number for number, op in enumerate(ops) if op["op"] == "begin"), default=None)
    begin: dict[str, Any] = {"steps": [], "undone": []} if at is None else ops[at]
    later = ops if at is None else ops[at + 1 :]
    asked = [*begin.get("asked", ()), *(op for op in later if op["op"] not in {"image", "unsent"})]
    steps, undone = fold(asked, begin["steps"], begin["undone"])
    unsent: list[Any] = next((op["prompts"] for op in reversed(ops) if op["op"] == "unsent"), [])
    if not steps and not undone and not unsent:
        return None
    return Unfinished(path, image, steps, undone, unsent, path.stat().st_mtime)


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)


def _lines(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n")[:-1]:
        try:
            op = json.loads(line)
        except ValueError:
            return
        if not isinstance(op, dict) or "op" not in op:
            return
        yield op


def _lock(file: IO[bytes]) -> None:
    """Hold a file for this process, which its end releases.

    Raises:
        OSError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open for writing cannot be deleted there, which is enough
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
