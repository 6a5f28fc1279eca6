"""The record of what the node did, that shows when it was changed afterwards. It holds no patient data."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oncoseg_core import StorageError
from oncoseg_core.system import atomic_write, json_text, open_regular, write_failure
from oncoseg_node.audit.chain import FIRST, HEAD, REPAIRED, Head, Walk, digest, files_of, next_file, read_head
from oncoseg_node.config.salt import pseudonym

FOLDER = "audit"
FILE_BYTES = 16 * 2**20
MOST_FILES = 64
_LONGEST = 500
_TAIL_BYTES = 262_144
_UID = re.compile(r"\d+(?:\.\d+){4,}")


class Audit:
    """Appends lines to the audit in ``folder``; safe for several threads and processes.

    Facts whose names end in ``_uid`` are written as salted hashes under the name without it, and UIDs within texts are
    replaced too. A new file begins after ``file_bytes``; of more than ``most_files`` the oldest is deleted.
    """

    def __init__(
        self,
        folder: Path,
        salt: bytes,
        *,
        clock: Callable[[], float] = time.time,
        file_bytes: int = FILE_BYTES,
        most_files: int = MOST_FILES,
    ) -> None:
        self._folder, self._salt, self._clock = folder, salt, clock
        self._file_bytes, self._most_files = file_bytes, most_files
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone():
            if not (folder / HEAD).exists() and not files_of(folder):
                self._write_head(Head(0, FIRST))

    def write(self, event: str, **facts: Any) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            StorageError: it cannot be written.
            DataError: the audit was changed or cut, so that nothing can follow it; ``oncoseg node verify`` says where.
        """
        with self._alone():
            head, path, torn = self._end()
            try:
                if torn is not None:
                    head = self._append(path, head, REPAIRED, {"torn_bytes": len(torn), "torn_sha256": digest(torn)})
                head = self._append(path, head, event, self._plain(facts))
            except OSError as error:
                raise StorageError(write_failure(error, path)) from error
            self._write_head(head)

    def _end(self) -> tuple[Head, Path, bytes | None]:
        """The last line, where the next one goes, and what a crash left there of a line that is none.

        Lines after the head are of a process that was killed before it could move the head on.
        """
        head, files = read_head(self._folder), files_of(self._folder)
        walk = Walk(head.n, head.sha256)
        path = files[-1] if files else next_file(self._folder)
        for line in _lines_after(files, head):
            if walk.step(line) is not None:
                break  # left as it is: verify says where
        head = head._replace(n=walk.n, sha256=walk.sha256)
        if walk.torn is None and path.exists() and path.stat().st_size >= self._file_bytes:
            path = next_file(self._folder)
            head = self._without_oldest(files, head)
        return head, path, walk.torn

    def _without_oldest(self, files: list[Path], head: Head) -> Head:
        """The head when the oldest file is deleted of too many: it says so before the file is gone."""
        if len(files) < self._most_files:
            return head
        last = b""
        with open_regular(files[0]) as stream:
            for line in stream:
                last = line.removesuffix(b"\n")
        head = head._replace(gone_n=json.loads(last)["n"], gone_sha256=digest(last))
        self._write_head(head)
        files[0].unlink()
        return head

    def _append(self, path: Path, head: Head, event: str, facts: dict[str, Any]) -> Head:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        entry = {"n": head.n + 1, "at": at, "event": event, **facts, "before": head.sha256}
        line = json_text(entry).encode()
        start = b"\n" if _ends_within_a_line(path) else b""
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            _write_all(handle, start + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        return head._replace(n=head.n + 1, sha256=digest(line))

    def _write_head(self, head: Head) -> None:
        atomic_write(self._folder / HEAD, json_text(head._asdict()))

    def _plain(self, facts: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in facts.items():
            if key in {"n", "at", "event", "before"}:
                raise ValueError(f"{key!r} is a name of the audit's own; call the fact otherwise")
            if key.endswith("_uid"):
                plain[key.removesuffix("_uid")] = pseudonym(self._salt, str(value))
            else:
                plain[key] = self._without_uids(value)
        return plain

    def _without_uids(self, value: Any) -> Any:
        if isinstance(value, bool | int | float) or value is None:
            return value
        if isinstance(value, dict):
            return {str(key): self._without_uids(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._without_uids(one) for one in value[:100]]
        return _UID.sub(lambda uid: pseudonym(self._salt, uid.group()), str(value))[:_LONGEST]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all threads and processes."""
        with self._lock, (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _lines_after(files: list[Path], head: Head) -> list[bytes]:
    """The lines behind the one that the head names: nearly always none, in the newest file or the one before it."""
    lines: list[bytes] = []
    for path in reversed(files):
        for most in (_TAIL_BYTES, None):
            content = _last_lines(path, most)
            for index in range(len(content) - 1, -1, -1):
                if digest(content[index]) == head.sha256:
                    return content[index + 1 :] + lines
        lines = content + lines
    return lines if head.n == head.gone_n else []


def _last_lines(path: Path, most: int | None) -> list[bytes]:
    with open_regular(path) as stream:
        if most is not None:
            stream.seek(max(0, path.stat().st_size - most))
        lines = stream.read().split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def _ends_within_a_line(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with open_regular(path) as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() != b"\n"


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
