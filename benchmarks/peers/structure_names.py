"""How often the nearest primary name of a misspelt one is the intended one: ``oncoseg_structures.nearest_names``.

Two hundred names and more: those of ``structure_names.csv``, as clinics and data sets write them in public
repositories, and as many again that rules make of primary names drawn at random (a letter lost, doubled or swapped, the
side first or spelt out, spaces for underscores, no separators, small letters). A name of the wrong side is counted by
itself: it would be worse than none. Beside it, the nearest by ``difflib`` alone.

    python benchmarks/peers/structure_names.py
"""

from __future__ import annotations

import argparse
import csv
import difflib
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from oncoseg_benchmarks.record import record
from oncoseg_structures import nearest_names, primary_names

WRITTEN = Path(__file__).with_suffix(".csv")
SPELT = {"_L": ("Left", "Lt"), "_R": ("Right", "Rt")}


def written_names() -> list[tuple[str, str, str]]:
    """``(written, intended, source)`` of the file."""
    lines = [line for line in WRITTEN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [(row["written"], row["intended"], row["source"]) for row in csv.DictReader(lines)]


def _letter(change: Callable[[str, random.Random], str]) -> Callable[[str, random.Random], str]:
    """A rule on the longest word of a name."""

    def apply(name: str, draw: random.Random) -> str:
        word = max(re.findall(r"[A-Za-z]+", name), key=len)
        return name.replace(word, change(word, draw), 1)

    return apply


def _lost(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word))
    return word[:at] + word[at + 1 :]


def _doubled(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word))
    return word[:at] + word[at] + word[at:]


def _swapped(word: str, draw: random.Random) -> str:
    at = draw.choice([at for at in range(1, len(word) - 1) if word[at] != word[at + 1]])
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _side_first(name: str, draw: random.Random) -> str:
    return f"{draw.choice(SPELT[name[-2:]])} {name[:-2].replace('_', ' ')}" if name[-2:] in SPELT else name.lower()


def _side_spelt(name: str, draw: random.Random) -> str:
    return f"{name[:-2]}_{draw.choice(SPELT[name[-2:]])}" if name[-2:] in SPELT else name.upper()


RULES: dict[str, Callable[[str, random.Random], str]] = {
    "a letter lost": _letter(_lost),
    "a letter doubled": _letter(_doubled),
    "two letters swapped": _letter(_swapped),
    "side first, spaces": _side_first,
    "side spelt out": _side_spelt,
    "no separators": lambda name, _: name.replace("_", ""),
    "spaces, small letters": lambda name, _: name.replace("_", " ").lower(),
}


def made_names(count: int, seed: int) -> list[tuple[str, str, str]]:
    """``(written, intended, rule)``: each rule in turn on anatomic primary names with a word of five letters."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    names = [one.name for one in primary_names() if one.type == "anatomic" and re.search(r"[A-Za-z]{5}", one.name)]
    rules = list(RULES.items())
    cases: list[tuple[str, str, str]] = []
    while len(cases) < count:
        rule, change = rules[len(cases) % len(rules)]
        name = draw.choice(names)
        written = change(name, draw)
        if written != name:
            cases.append((written, name, rule))
    return cases


def _is_other_side(name: str, intended: str) -> bool:
    return name[-2:] != intended[-2:] and {name[-2:], intended[-2:]} == {"_L", "_R"}


def measure(cases: list[tuple[str, str, str]], nearest: Callable[[str], tuple[str, ...]]) -> dict[str, object]:
    """Shares of first and of three nearest, wrong sides, and the names that failed."""
    first = among = wrong_side = 0
    failed: list[str] = []
    groups: dict[str, list[bool]] = defaultdict(list)
    for written, intended, group in cases:
        names = nearest(written)
        right = names[:1] == (intended,)
        first += right
        among += intended in names
        wrong_side += any(_is_other_side(name, intended) for name in names[:1])
        groups[group].append(right)
        if not right:
            failed.append(f"{written} -> {names[0] if names else 'none'} (intended {intended})")
    return {
        "names": len(cases),
        "first is the intended one": round(first / len(cases), 4),
        "among three": round(among / len(cases), 4),
        "first of the wrong side": wrong_side,
        "by group": {group: f"{sum(values)} of {len(values)}" for group, values in groups.items()},
        "failed": failed,
    }


def by_difflib(text: str) -> tuple[str, ...]:
    """The nearest by the standard library, which is what other checkers use."""
    return tuple(difflib.get_close_matches(text, [one.name for one in primary_names()], n=3, cutoff=0.0))


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--made", type=int, default=112, help="how many names rules make")
    parser.add_argument("--seed", type=int, default=263)
    parser.add_argument("--print", action="store_true", help="print, and record nothing")
    options = parser.parse_args()
    written, made = written_names(), made_names(options.made, options.seed)
    nearest_names("warm up")
    began = time.perf_counter()
    ours = {"written by people": measure(written, nearest_names), "made by rules": measure(made, nearest_names)}
    seconds = time.perf_counter() - began
    found = {
        "primary names": len(primary_names()),
        "nearest_names": ours,
        "milliseconds a name": round(1000 * seconds / (len(written) + len(made)), 1),
        "difflib alone": {
            "written by people": measure(written, by_difflib) | {"failed": "not listed"},
            "made by rules": measure(made, by_difflib) | {"failed": "not listed"},
        },
    }
    if options.print:
        print(found)
    else:
        print(record("structure_names", "python benchmarks/peers/structure_names.py", found))


if __name__ == "__main__":
    main()
