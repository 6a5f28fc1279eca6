"""What both commands share: ``KEY=VALUE`` options, and library messages with the options' spelling. Light."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from oncoseg_core import OncoSegError, UsageError

_FIELD = re.compile(r"`([a-z_.]+)`")


@contextmanager
def options_in_messages(options: Mapping[str, str]) -> Iterator[None]:
    """Within it, fields that an error names in backticks read as options do on the command line."""
    try:
        yield
    except OncoSegError as error:
        text = with_options(str(error), options)
        if text == str(error):
            raise
        raise type(error)(text) from error


def with_options(message: str, options: Mapping[str, str]) -> str:
    """A message with options in place of the fields in backticks; other words in backticks stay."""
    return _FIELD.sub(lambda match: options.get(match[1], match[0]), message)


def export_settings(texts: Sequence[str]) -> dict[str, Any]:
    """``FORMAT.KEY=VALUE`` by format.

    Raises:
        ConfigError: it cannot be read.
    """
    from oncoseg_core.plugins import apply_overrides

    return apply_overrides({}, texts, "--export-set", "rtstruct.label=Tumours")


def new_names(texts: Sequence[str]) -> dict[str, str]:
    """``1=liver,2=tumour`` as a mapping.

    Raises:
        UsageError: it is something else, or names two alike.
    """
    names: dict[str, str] = {}
    for text in texts:
        for part in text.split(","):
            old, equals, new = (piece.strip() for piece in part.partition("="))
            if not (old and equals and new):
                raise UsageError(f"--names {text}: expected VALUE=NAME, such as 1=liver,2=tumour")
            if old in names or new in names.values():
                raise UsageError(f"--names {text}: {old if old in names else new!r} is given twice")
            names[old] = new
    return names
