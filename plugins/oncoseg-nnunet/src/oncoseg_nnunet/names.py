"""Names of a model's labels: its own, or those that the user or a built-in mapping gives them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

from oncoseg_core import UsageError, WeightsError, close_matches

BUILTIN = {"totalsegmentator": "totalsegmentator.csv"}
NOT_STRUCTURES = ("background", "ignore")


@cache
def builtin_names(name: str) -> Mapping[str, str]:
    """The names that a built-in mapping gives to a model's labels; a label without a primary name keeps its own.

    Raises:
        UsageError: there is no such mapping.
    """
    if name not in BUILTIN:
        raise UsageError(f"`names` = {name}: no such mapping{close_matches(name, BUILTIN)}")
    text = resources.files("oncoseg_nnunet").joinpath(BUILTIN[name]).read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["label"]: row["name"] for row in rows if row["name"]}


def structures_of(dataset: Mapping[str, Any], names: str | Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The structures that a model makes, with the values that each has in its label image (several of a region).

    Args:
        dataset: of its ``dataset.json``.
        names: a built-in mapping, or names by label; labels that are not in it keep their own.

    Raises:
        UsageError: a mapping names a label that the model does not have, or two labels alike.
        WeightsError: the labels are not as nnU-Net v2 writes them.
    """
    labels = dict(_labels(dataset))
    given = builtin_names(names) if isinstance(names, str) else names
    if not isinstance(names, str):
        for label in given:
            if label not in labels:
                raise UsageError(f"`names`: the model has no label {label!r}{close_matches(label, labels)}")
    elif not given.keys() & labels:
        raise UsageError(f"`names` = {names}: the model has none of its labels, but {', '.join(sorted(labels)[:5])}")
    named = [given.get(label, label) for label in labels]
    twice = sorted(name for name, count in Counter(named).items() if count > 1)
    if twice:
        raise UsageError(f"`names`: {', '.join(twice)} would name two labels")
    return dict(zip(named, labels.values(), strict=True))


def _labels(dataset: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for label, value in dataset["labels"].items():
        try:
            values = tuple(int(each) for each in (value if isinstance(value, list | tuple) else [value]))
        except (TypeError, ValueError) as error:
            raise WeightsError(f"dataset.json: label {label!r} = {value!r}; expected a number, or a list") from error
        if label not in NOT_STRUCTURES and values != (0,):
            yield str(label), values
