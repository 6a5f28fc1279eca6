"""Which primary names a misspelt or freely written name may stand for."""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache, lru_cache
from typing import NamedTuple

from oncoseg_structures.names.grammar import LONGEST, TARGETS, read_name
from oncoseg_structures.names.table import PrimaryName, primary_names
from oncoseg_structures.names.vocabulary import ABBREVIATIONS, ALSO, PHRASES, SYNONYMS

SIDES = dict.fromkeys(("l", "lt", "lft", "left"), "left") | dict.fromkeys(("r", "rt", "rgt", "right", "rigth"), "right")
PAIR = frozenset({"both", "bilat", "bilateral", "bil", "total"})
LEAST_SCORE = 0.5
"""Below it a name is not like the text at all, and none is better than a wrong one."""


class Words(NamedTuple):
    """A text as compared: its words in the vocabulary's spelling, the side that it names, whether it means a pair."""

    words: tuple[str, ...]
    side: str | None
    pair: bool


class Candidate(NamedTuple):
    """A primary name with the ways of saying it."""

    primary: PrimaryName
    phrases: tuple[tuple[str, ...], ...]
    squeezed: str
    pair: bool


def nearest_names(text: str, most: int = 3) -> tuple[str, ...]:
    """The names that a text is likeliest to stand for, at most ``most``, the likeliest first; none where none is near.

    A text that names a side gets no name of the other side.
    """
    if not text.strip():
        return ()
    if (target := _loose_target(text)) is not None:
        return (target,)
    readings = _readings(text)
    scored: list[tuple[float, str | None, PrimaryName]] = []
    for candidate in _candidates():
        score, side = max(
            ((_score(one, squeezed, candidate) - cost, one.side) for one, squeezed, cost in readings),
            key=lambda each: each[0],
        )
        if score >= LEAST_SCORE:
            scored.append((score, side, candidate.primary))
    scored.sort(key=lambda each: (-round(each[0], 6), len(each[2].name), each[2].name))
    side = scored[0][1] if scored else None  # of the reading that is likeliest
    return tuple(one.name for _, _, one in scored if side is None or one.side in (None, side))[:most]


# ---- the text ---------------------------------------------------------------------------------------------------


def _split(text: str) -> list[str]:
    """Words of a text: by anything but letters and digits, by capitals, and between letters and digits."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return re.findall(r"[a-z]+|\d+", spaced.casefold())


def _readings(text: str) -> list[tuple[Words, str, float]]:
    """Ways to read a text, each with its letters without the side and what it costs to read it so.

    A side may be glued to the word (``ParotidL``, ``ltparotid``): read so only at a cost.
    """
    tokens = _split(text)
    first = _words(tokens)
    readings = [(first, _squeezed(tokens), 0.0)]
    if first.side is None and tokens:
        for letters, side in SIDES.items():
            for glued, rest in (
                (tokens[0].startswith(letters), [tokens[0][len(letters) :], *tokens[1:]]),
                (tokens[-1].endswith(letters), [*tokens[:-1], tokens[-1][: -len(letters)]]),
            ):
                if glued and _is_known(rest):
                    readings.append((_words([*rest, side]), _squeezed(rest), 0.02))
    return readings


def _is_known(tokens: list[str]) -> bool:
    """Whether a word that is left without its first or last letters is one that names have."""
    weights = _weights()
    words = _vocabulary(tuple(token for token in tokens if token))
    return bool(words) and all(word in weights for word in words)


def _squeezed(tokens: list[str]) -> str:
    """The letters of a text without words for the side."""
    return "".join(token for token in tokens if token not in SIDES and token not in PAIR)


def _words(tokens: list[str]) -> Words:
    sides = [at for at, token in enumerate(tokens) if token in SIDES and not _is_numbered(tokens, at)]
    rest = [token for at, token in enumerate(tokens) if at not in sides and token not in PAIR]
    words = _vocabulary(tuple(_spelt_right(token) for token in rest))
    return Words(words, SIDES[tokens[sides[0]]] if sides else None, not PAIR.isdisjoint(tokens))


def _is_numbered(tokens: list[str], at: int) -> bool:
    """The L of L3 (a vertebra, a level) is no side."""
    return len(tokens[at]) == 1 and at + 1 < len(tokens) and tokens[at + 1].isdigit()


@lru_cache(maxsize=4096)
def _spelt_right(word: str) -> str:
    """The known word that a long unknown one is nearly, so that phrases are seen in it; else itself."""
    known = _known_words()
    glued = any(word.removeprefix(side) in known or word.removesuffix(side) in known for side in SIDES)
    if len(word) < 6 or word in known or glued:
        return word
    best = max(known, key=lambda other: (_alike(word, other) if abs(len(word) - len(other)) < 3 else 0.0, other))
    return best if _alike(word, best) >= 0.8 and abs(len(word) - len(best)) < 3 else word


@cache
def _known_words() -> frozenset[str]:
    """All words, as they are written, of names, of terms and of the vocabulary."""
    texts = [text for one in primary_names() for text in (one.name, one.term)]
    return (
        frozenset(word for text in texts for word in _split(text))
        | ABBREVIATIONS.keys()
        | SYNONYMS.keys()
        | {"constrictor", "constrictors", "pharyngeal", "femoral"}
    )


@lru_cache(maxsize=4096)
def _vocabulary(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Words in one spelling: abbreviations written out, synonyms by one of them, a plural as its singular."""
    text = " ".join(_ROMAN.get(token, token) for token in tokens)
    for phrase, meaning in PHRASES:
        text = re.sub(rf"\b{phrase}\b", meaning, text)
    words = [word for token in text.split() for word in ABBREVIATIONS.get(token, token).split()]
    singles = [SYNONYMS.get(word, SYNONYMS.get(_single(word), _single(word))) for word in words]
    return tuple(word.lstrip("0") or word for single in singles for word in single.split() if word not in _EMPTY_WORDS)


_EMPTY_WORDS = frozenset({"of", "the", "and", "set", "any", "part", "structure", "region", "organ", "roi", "contour"})
_ROMAN = {"ii": "2", "iii": "3", "iv": "4", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "xi": "11", "xii": "12"}
_ROMAN |= {roman + part: f"{number} {part}" for roman, number in (("i", 1), ("ii", 2), ("v", 5)) for part in "abc"}


def _single(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "us", "is", "as")) else word


# ---- the names --------------------------------------------------------------------------------------------------


@cache
def _candidates() -> tuple[Candidate, ...]:
    said: dict[str, set[tuple[str, ...]]] = {}
    for one in primary_names():  # left, right and neither are said alike
        said.setdefault(_without_side(one), set()).update(_phrases(one))
    return tuple(_candidate(one, said[_without_side(one)]) for one in primary_names())


def _without_side(one: PrimaryName) -> str:
    return one.name[:-2] if one.side is not None and one.name.endswith(("_L", "_R")) else one.name


def _phrases(one: PrimaryName) -> set[tuple[str, ...]]:
    """The ways of saying a name, as words of the vocabulary without the side."""
    texts = [_without_side(one), *ALSO.get(one.name, ())]
    texts += [re.sub(r"\(.*?\)", "", one.term), one.term]
    return {phrase for text in texts if (phrase := _vocabulary(tuple(_split(text))))}


def _candidate(one: PrimaryName, phrases: set[tuple[str, ...]]) -> Candidate:
    pair = one.side is None and f"{one.name}_L" not in _names() and _singular_of(one.name) is not None
    return Candidate(one, tuple(sorted(phrases)), "".join(_split(_without_side(one))), pair)


@cache
def _names() -> frozenset[str]:
    return frozenset(one.name for one in primary_names())


def _singular_of(name: str) -> str | None:
    """The name with a side that a plural stands for both of."""
    for single in (name.removesuffix("s"), f"{name.removesuffix('ies')}y", f"{name.removesuffix('i')}us"):
        if single != name and f"{single}_L" in _names():
            return single
    return None


@cache
def _weights() -> dict[str, float]:
    """How much a word tells: those of many names tell little."""
    counts = Counter(word for one in _candidates() for word in {word for phrase in one.phrases for word in phrase})
    return {word: 1 / (1 + math.log(count)) for word, count in counts.items()}


# ---- how alike --------------------------------------------------------------------------------------------------


def _score(reading: Words, squeezed: str, candidate: Candidate) -> float:
    side = candidate.primary.side
    by_words = max((_alike_phrases(reading.words, phrase) for phrase in candidate.phrases), default=0.0)
    score = max(by_words, 0.97 * _alike(squeezed, candidate.squeezed))
    if reading.side != side:
        score -= 0.12 if reading.side is not None else 0.06
    if reading.pair != candidate.pair:
        score -= 0.03
    return score - (0.02 if candidate.primary.type not in ("anatomic", "target") else 0.0)


@lru_cache(maxsize=16384)
def _alike_phrases(words: tuple[str, ...], phrase: tuple[str, ...]) -> float:
    """How much of the text's words the phrase has, and of the phrase's the text, by the weight of each."""
    if not words:
        return 0.0
    return 0.6 * _covered(words, phrase) + 0.4 * _covered(phrase, words)


def _covered(words: tuple[str, ...], others: tuple[str, ...]) -> float:
    weights = _weights()
    total = covered = 0.0
    for word in words:
        weight = weights.get(word, 1.0)
        total += weight
        covered += weight * max(_alike(word, other) for other in others)
    return covered / total


@lru_cache(maxsize=65536)
def _alike(one: str, other: str) -> float:
    """How alike two words are, in [0, 1]: their common pairs of letters; the beginning of a word is nearly the word."""
    if one == other:
        return 1.0
    if one.isdigit() or other.isdigit() or not one or not other:
        return 0.0
    short, long = sorted((one, other), key=len)
    if len(short) >= 3 and long.startswith(short):
        return (0.8 if len(short) > 3 else 0.6) + 0.2 * len(short) / len(long)
    pairs, others = _pairs(one), _pairs(other)
    common = 2 * (pairs & others).total() / (len(one) + len(other) + 2)
    if common < 0.25:
        return 0.0
    edits = 1 - _edits(one, other) / len(long)
    return max(common, edits) if max(common, edits) >= 0.4 else 0.0


@lru_cache(maxsize=16384)
def _pairs(word: str) -> Counter[str]:
    edged = f"^{word}$"
    return Counter(edged[at : at + 2] for at in range(len(edged) - 1))


def _edits(one: str, other: str) -> int:
    """Letters lost, added, exchanged or swapped with the next (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        row = [at]
        for to, counterpart in enumerate(other, 1):
            best = min(last[to] + 1, row[-1] + 1, last[to - 1] + (letter != counterpart))
            if at > 1 and to > 1 and letter == other[to - 2] and one[at - 2] == counterpart:
                best = min(best, before[to - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]


# ---- targets ----------------------------------------------------------------------------------------------------


def _loose_target(text: str) -> str | None:
    """A target freely written: ``ptv 70`` is PTV_7000, ``GTV-n 1`` is GTVn1; None for one that cannot be read."""
    squeezed = re.sub(r"[\s_.:-]+", "_", text.strip()).strip("_")
    kinds = "|".join(re.escape(kind) for kind in TARGETS)
    match = re.fullmatch(
        rf"(?P<type>{kinds})_?(?:(?P<classifier>par|vas|sb|n|p|v)(?![A-Za-z]))?_?(?P<rest>\w*)", squeezed, re.IGNORECASE
    )
    if match is None:
        return None
    head, rest = match["type"].upper() + (match["classifier"] or "").casefold(), match["rest"]
    dose = re.fullmatch(r"(\d\d)(?:_?gy)?|(\d{4})(?:_?cgy)?", rest, re.IGNORECASE)
    options = [f"{head}_{dose[2] or f'{dose[1]}00'}"] if dose and not rest.startswith("0") else []
    options += [f"{head}{rest}", f"{head}_{rest}", head]
    for option in options:
        reading = read_name(option)
        if reading is not None and reading.category == "target" and len(reading.name) <= LONGEST:
            return reading.name
    return None
