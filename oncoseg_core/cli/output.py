"""How commands print. Names of cases, targets and files come from data: nothing of them is markup or an order."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from oncoseg_core.system.output import json_text, printable

if TYPE_CHECKING:
    from rich.text import Text


def say(line: object, *, err: bool = False) -> None:
    """Print one line, control characters as escapes; ``err`` to standard error."""
    typer.echo(printable(line), err=err)


def say_json(value: Any) -> None:
    """Print the one JSON document that ``--json`` promises."""
    typer.echo(json_text(value, indent=2))


def cell(value: object) -> Text:
    """A value for a table of rich: its cells, headings and title read markup in plain texts."""
    from rich.text import Text

    return Text(printable(value))


@contextlib.contextmanager
def reserved_stdout() -> Iterator[None]:
    """Keep standard output for the answer: what components, libraries and processes print goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
