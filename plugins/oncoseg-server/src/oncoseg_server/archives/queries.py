"""Searches of the embedded store: QIDO-RS (PS3.18, 10.6) over what a folder holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from pydicom.datadict import tag_for_keyword

from oncoseg_dicomweb import INSTANCE_KEYWORDS, SERIES_KEYWORDS, STUDY_KEYWORDS, JsonObject, StoredInstance, is_uid

_MOST, _DEFAULT = 1000, 200
"""Most results of one answer, and how many there are without a limit."""

_CONTROLS = {"limit", "offset", "includefield", "fuzzymatching", "orderby"}
_RANGED = {"DA", "TM", "DT"}
_MODALITIES_IN_STUDY = "00080061"
_STUDY_TAGS, _SERIES_TAGS, _INSTANCE_TAGS = (
    [f"{tag_for_keyword(keyword):08X}" for keyword in level]
    for level in (STUDY_KEYWORDS, SERIES_KEYWORDS, INSTANCE_KEYWORDS)
)


class QueryError(ValueError):
    """A search that cannot be answered; the message says why."""


class Query(NamedTuple):
    """What is searched for: values by tag (all must fit), and which of the results."""

    keys: dict[str, str]
    limit: int
    offset: int


def parsed(parameters: Iterable[tuple[str, str]], limit: int = _DEFAULT) -> Query:
    """Read the parameters of a search; ``includefield`` is taken and changes nothing, since all that is known is given.

    Raises:
        QueryError: a parameter is unknown or is no number where one is expected.
    """
    keys: dict[str, str] = {}
    numbers = {"limit": limit, "offset": 0}
    for name, value in parameters:
        if name in numbers:
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise QueryError(f"{name} is not a number: expected {name}=0 or more")
            numbers[name] = int(value)
        elif name in _CONTROLS or not value:
            continue
        else:
            keys[_tag(name)] = value
    return Query(keys, min(numbers["limit"], _MOST), numbers["offset"])


def _tag(name: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return name.upper()
    tag = tag_for_keyword(name) if re.fullmatch(r"[A-Za-z]{1,64}", name) else None
    if tag is None:
        raise QueryError("a search parameter is neither an attribute's keyword nor its tag")
    return f"{tag:08X}"


Studies = Mapping[str, Mapping[str, Sequence[StoredInstance]]]


def studies(found: Studies, query: Query) -> list[JsonObject]:
    """The studies that fit."""
    return _page((_study(by_series) for by_series in found.values()), query)


def series(found: Studies, query: Query, study_uid: str | None = None) -> list[JsonObject]:
    """The series that fit, of one study or of all."""
    chosen = found.values() if study_uid is None else [found.get(study_uid, {})]
    return _page(
        (
            _study(by_series) | _series(instances) if study_uid is None else _series(instances)
            for by_series in chosen
            for instances in by_series.values()
        ),
        query,
    )


def instances(
    found: Studies, query: Query, study_uid: str | None = None, series_uid: str | None = None
) -> list[JsonObject]:
    """The instances that fit, of one series, one study or all; a UID that two files have is listed once."""
    once: dict[str, StoredInstance] = {}
    for study, by_series in found.items():
        for uid, stored in by_series.items():
            if study_uid in {None, study} and series_uid in {None, uid}:
                for one in stored:
                    once.setdefault(one.sop_uid, one)
    return _page((_chosen(one.attributes, _INSTANCE_TAGS) for one in once.values()), query)


def _page(results: Iterable[JsonObject], query: Query) -> list[JsonObject]:
    fitting = [one for one in results if all(_fits(one, tag, value) for tag, value in query.keys.items())]
    return fitting[query.offset : query.offset + query.limit]


def _chosen(attributes: JsonObject, tags: Iterable[str]) -> JsonObject:
    return {tag: attributes[tag] for tag in sorted(tags) if tag in attributes}


def _study(by_series: Mapping[str, Sequence[StoredInstance]]) -> JsonObject:
    first = next(iter(by_series.values()))[0]
    return _chosen(first.attributes, _STUDY_TAGS) | {
        _MODALITIES_IN_STUDY: {"vr": "CS", "Value": sorted({stored[0].modality for stored in by_series.values()})},
        "00201206": {"vr": "IS", "Value": [len(by_series)]},
        "00201208": {"vr": "IS", "Value": [sum(_count(stored) for stored in by_series.values())]},
    }


def _series(stored: Sequence[StoredInstance]) -> JsonObject:
    return _chosen(stored[0].attributes, _SERIES_TAGS) | {"00201209": {"vr": "IS", "Value": [_count(stored)]}}


def _count(stored: Sequence[StoredInstance]) -> int:
    return len({one.sop_uid for one in stored})


def _fits(result: JsonObject, tag: str, key: str) -> bool:
    """Whether a result fits one key (PS3.4, C.2.2.2): UIDs, a range of dates, or a text with ``*`` and ``?``."""
    element = result.get(tag, {})
    values = [_text(value) for value in element.get("Value", [])]
    vr = element.get("vr", "")
    choices = re.split(r"[,\\]", key)
    if len(choices) > 1 or all(is_uid(one) and "." in one for one in choices):
        return any(_like(value, choice) for value in values for choice in choices)
    if vr in _RANGED and "-" in key:
        first, _, last = key.partition("-")
        return any((not first or value >= first) and (not last or value[: len(last)] <= last) for value in values)
    return any(_like(value, key) for value in values or [""])


def _text(value: object) -> str:
    return str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value)


def _like(value: str, pattern: str) -> bool:
    return _expression(pattern).fullmatch(value.casefold()) is not None


@lru_cache(256)
def _expression(pattern: str) -> re.Pattern[str]:
    # Brackets mean nothing in DICOM's wild cards.
    return re.compile(translate(re.sub(r"([\[\]])", r"[\1]", pattern[:256].casefold())))
