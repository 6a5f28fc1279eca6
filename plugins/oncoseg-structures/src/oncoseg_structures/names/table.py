"""The primary names, as the data file beside this module has them."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Literal

from oncoseg_core import Record


class PrimaryName(Record):
    """A primary name of TG-263: ``reverse`` is its reverse-order name, ``term`` what it stands for without the side.

    ``side`` is None for a structure of the midline, for one that has no side in its name, and for a pair.
    """

    name: str
    reverse: str
    type: Literal["anatomic", "non-anatomic", "derived", "surgical", "target"]
    group: str
    side: Literal["left", "right"] | None = None
    term: str = ""


@cache
def primary_names() -> tuple[PrimaryName, ...]:
    """All primary names, in alphabetic order. No two differ by capital letters alone."""
    text = resources.files("oncoseg_structures.names").joinpath("tg263.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(PrimaryName.model_validate({**row, "side": row["side"] or None}) for row in rows)


@cache
def by_name() -> dict[str, PrimaryName]:
    """The primary names by themselves in small letters."""
    return {one.name.casefold(): one for one in primary_names()}


@cache
def by_reverse() -> dict[str, PrimaryName]:
    """The primary names by their reverse-order names in small letters, where the two differ."""
    return {one.reverse.casefold(): one for one in primary_names() if one.reverse.casefold() != one.name.casefold()}
