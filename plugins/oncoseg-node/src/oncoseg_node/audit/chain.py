"""The lines of the audit and how they hang together.

A line is a JSON object with its number ``n``, the time ``at``, the ``event``, its facts, and ``before``: the SHA-256 of
the line before it. The head, a file of its own, says which line is the last, so that a cut end is seen too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_core import DataError
from oncoseg_core.system import open_regular, read_regular

HEAD = "head.json"
FIRST = "0" * 64
REPAIRED = "repaired"
MOST_LINE_BYTES = 65_536
_NAME = re.compile(r"^audit-(\d{6})\.jsonl$")


class Head(NamedTuple):
    """The last line: its number and digest, and those of the last one that is no longer kept."""

    n: int
    sha256: str
    gone_n: int = 0
    gone_sha256: str = FIRST


class Verified(NamedTuple):
    """Whether an audit is as it was written: its lines, and in a sentence what is wrong, where first.

    ``last`` is the number of the last sound line and ``sha256`` its digest: kept elsewhere, they show later whether the
    whole audit was replaced.
    """

    intact: bool
    lines: int
    message: str
    last: int = 0
    sha256: str = FIRST


def files_of(folder: Path) -> list[Path]:
    """The audit's files, oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.match(path.name))


def next_file(folder: Path) -> Path:
    """The file after the newest one."""
    files = files_of(folder)
    number = int(files[-1].name[6:12]) + 1 if files else 1
    return folder / f"audit-{number:06d}.jsonl"


def digest(line: bytes) -> str:
    """The SHA-256 of a line without its end."""
    return hashlib.sha256(line).hexdigest()


def read_head(folder: Path) -> Head:
    """The head.

    Raises:
        DataError: it is missing, or is none.
    """
    try:
        return Head(**json.loads(read_regular(folder / HEAD)))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder / HEAD}: the audit's head cannot be read, so that a cut end would not be seen"
        ) from error


class Walk:
    """Goes through lines in order, and remembers the last sound one."""

    def __init__(self, n: int, sha256: str) -> None:
        self.n, self.sha256 = n, sha256
        self.torn: bytes | None = None
        """What a crash left of lines; the next one has to say so."""

    def step(self, line: bytes) -> str | None:
        """Take the next line, without its end; what is wrong with it, or None."""
        entry = _entry(line)
        if entry is None:
            self.torn = line if self.torn is None else self.torn + b"\n" + line
            return None
        if entry.get("n") != self.n + 1:
            return f"has the number {entry.get('n')}, expected {self.n + 1}: lines are missing, or one was put in"
        if entry.get("before") != self.sha256:
            return f"does not follow from line {self.n}: one of the two was changed"
        if self.torn is not None and not _repairs(entry, self.torn):
            return "comes after one that is no line of an audit, and does not say so"
        self.n, self.sha256, self.torn = self.n + 1, digest(line), None
        return None


def verify(folder: Path) -> Verified:
    """Whether every line of the audit in ``folder`` is as it was written, and none is missing."""
    try:
        head, files = read_head(folder), files_of(folder)
    except (DataError, OSError) as error:
        return Verified(intact=False, lines=0, message=str(error))
    walk = Walk(head.gone_n, head.gone_sha256)
    reached = walk.n == head.n and walk.sha256 == head.sha256
    gone = bool(files) and _first_number(files[0]) <= head.gone_n
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            if gone:  # a crash came before its file was deleted
                gone = digest(line) != head.gone_sha256
                continue
            if problem := walk.step(line):
                return _broken(walk, head, f"{path.name}, line {number}, {problem}")
            reached |= walk.n == head.n and walk.sha256 == head.sha256
    lines = walk.n - head.gone_n
    if not reached:
        return _broken(
            walk, head, f"the head names line {head.n}, and the last one here is {walk.n}: the end was cut off"
        )
    end = "" if walk.torn is None else "; a crash cut off the last line, the next one will say so"
    message = f"{lines} lines, none changed or missing{end}"
    return Verified(intact=True, lines=lines, message=message, last=walk.n, sha256=walk.sha256)


def _first_number(path: Path) -> int:
    entry = _entry(next(_lines(path), b"")) or {}
    return int(entry.get("n", 1))


def _broken(walk: Walk, head: Head, message: str) -> Verified:
    return Verified(intact=False, lines=walk.n - head.gone_n, message=message, last=walk.n, sha256=walk.sha256)


def _lines(path: Path) -> Iterator[bytes]:
    with open_regular(path) as stream:
        while line := stream.readline(MOST_LINE_BYTES):
            yield line.removesuffix(b"\n")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "before" in entry else None


def _repairs(entry: dict[str, Any], torn: bytes) -> bool:
    return entry.get("event") == REPAIRED and entry.get("torn_sha256") == digest(torn)
