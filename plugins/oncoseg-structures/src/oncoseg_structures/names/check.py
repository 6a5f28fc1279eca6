"""Is a name one of TG-263's, and if not, what is wrong with it."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from oncoseg_core import Record
from oncoseg_structures.names.grammar import LONGEST, Category, read_name
from oncoseg_structures.names.nearest import SIDES, nearest_names
from oncoseg_structures.names.table import by_name, by_reverse

Problem = Literal[
    "empty",
    "characters",
    "too long",
    "case",
    "reverse order",
    "laterality first",
    "laterality spelt out",
    "laterality missing",
    "plural",
    "form",
    "unknown",
]

_Found: TypeAlias = tuple[Problem, str, tuple[str, ...]]
"""The problem, a line on it, and names that are sure to be meant."""


class NameCheck(Record):
    """What :func:`check_name` finds: ``category`` where the name is right, else ``problem`` and a line on it.

    ``nearest`` are primary names, or names by the rules, that it may stand for, the likeliest first.
    """

    name: str
    ok: bool
    category: Category | None = None
    problem: Problem | None = None
    message: str = ""
    nearest: tuple[str, ...] = ()


def check_name(text: str) -> NameCheck:
    """Check a structure's name by TG-263: the primary names and what its rules make of them.

    The first problem of those in :data:`Problem` is told. Upper and lower case count.
    """
    reading = read_name(text)
    if reading is not None and reading.name == text and len(text) <= LONGEST and not _bad_characters(text):
        return NameCheck(name=text, ok=True, category=reading.category)
    problem, message, first = _problem(text, None if reading is None else reading.name)
    nearest = tuple(dict.fromkeys(first + nearest_names(text)))[:3]
    return NameCheck(name=text, ok=False, problem=problem, message=message, nearest=nearest)


def _bad_characters(text: str) -> list[str]:
    return sorted(set(re.findall(r"[^A-Za-z0-9_~!^.+-]", text)))


def _problem(text: str, canonical: str | None) -> _Found:
    sure = (canonical,) if canonical is not None and len(canonical) <= LONGEST else ()
    if not text.strip():
        return "empty", "the name is empty", ()
    if bad := _bad_characters(text):
        spelt = ", ".join("a space" if letter == " " else repr(letter) for letter in bad)
        return "characters", f"it has {spelt}; names have letters, digits and _ ~ ! ^ - + . only", sure
    if len(text) > LONGEST:
        return "too long", f"it has {len(text)} characters, {LONGEST} are allowed", sure
    return _problem_of_form(text, canonical, sure) or _problem_of_side(text)


def _problem_of_form(text: str, canonical: str | None, sure: tuple[str, ...]) -> _Found | None:
    if canonical is not None and canonical.casefold() == text.casefold():
        return "case", "capital and small letters differ from the primary name", sure
    if (primary := by_reverse().get(text.casefold())) is not None:
        return "reverse order", "it is the reverse-order name of a primary name", (primary.name,)
    if canonical is not None:
        return "form", "its parts are in another order or form than the rules write them", sure
    return None


def _problem_of_side(text: str) -> _Found:
    words = text.casefold().split("_")
    if len(words) > 1 and words[0] in SIDES:
        return "laterality first", "the side comes last, as _L or _R", ()
    if len(words) > 1 and words[-1] in SIDES and words[-1] not in ("l", "r"):
        return "laterality spelt out", "the side is _L or _R", ()
    names = by_name()
    sided = tuple(names[key].name for key in (f"{text.casefold()}_l", f"{text.casefold()}_r") if key in names)
    if sided:
        pair = names.get(f"{text.casefold()}s")
        return (
            "laterality missing",
            "it has no side; both sides together are the plural",
            sided + ((pair.name,) if pair is not None else ()),
        )
    single, side = (text[:-2], text[-2:].upper()) if text.casefold().endswith(("_l", "_r")) else (text, "")
    other = single[:-1] if single.endswith("s") else f"{single}s"
    likely = [key for key in (f"{other}{side}", other, f"{single}") if key.casefold() in names]
    if likely:
        return (
            "plural",
            "it has the plural s where the list has none, or the other way round",
            tuple(names[key.casefold()].name for key in likely),
        )
    return "unknown", "no primary name of TG-263, and no rule makes it", ()
