"""What leaves the program: text that no terminal obeys, JSON that any reader takes, prints of plugins kept apart."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def printable(text: object) -> str:
    """On one line, with what a terminal would obey as escapes: control characters, line ends, changes of direction."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON without a line end; null for NaN and infinities, which JSON lacks; what is not printable as escapes."""
    text = json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)
    return "\n".join("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line) for line in text.split("\n"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def prints_aside(who: object) -> Iterator[None]:
    """Standard output belongs to the command: what ``who`` prints meanwhile goes to standard error, under its name."""
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            yield
    finally:
        for line in printed.getvalue().splitlines():
            sys.stderr.write(f"{who} prints: {printable(line)}\n")
