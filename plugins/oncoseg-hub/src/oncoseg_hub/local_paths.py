"""Paths of this machine in texts that are about to be published: they tell of people, hospitals and servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAME = r"[\w.@+-]+"
_IN_TEXT = re.compile(
    rf"""
      (?<![\w:/.\\>])/{_NAME}(?:/{_NAME})+   # /home/anna, but not https://a/b and not CT/MRI
    | (?<![\w~])~\w*/{_NAME}                 # ~/runs
    | (?<!\w)[A-Za-z]:[\\/]{_NAME}           # C:\Users
    | (?<![\w\\])\\\\{_NAME}\\               # \\server\share
    | \bfile:/+{_NAME}
    """,
    re.VERBOSE,
)
_WHOLE = re.compile(r"[/~].*|\.\.?[/\\].*|[A-Za-z]:[\\/].*|\\\\.*", re.DOTALL)


def paths_in_text(text: str) -> list[str]:
    """What looks like a path of some machine in prose, and any mention of this user's home folder."""
    found = [match.group() for match in _IN_TEXT.finditer(text)]
    home = str(Path.home())
    if len(Path(home).parts) > 1 and home in text and not any(home in path for path in found):
        found.append(home)
    return found


def paths_in_json(content: bytes) -> list[str]:
    """The same in every key and string of a JSON document; there, a string that begins like a path is one."""
    found: list[str] = []
    for text in _strings(json.loads(content)):
        found += [text] if _WHOLE.fullmatch(text) else paths_in_text(text)
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)
