"""Which rule a series is for: typed comparisons of header values, the first rule of the file that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from oncoseg_core import Record
from oncoseg_node.config.settings import Condition, RuleSettings
from oncoseg_node.config.tags import compiled
from oncoseg_node.records.series import Refusal, SeriesFacts

LONGEST_VALUE = 1024
"""Characters of a value that an expression is searched in; a longer one does not fit."""

SEARCH_SECONDS = 0.5
"""An expression that takes longer on one value does not fit: it was written so that it never ends."""


_MODALITY = re.compile(r"[A-Z][A-Z0-9]{1,15}", re.ASCII)
"""What is repeated to a person; anything else could be a whole text."""


class ConditionTrial(Record):
    """A condition of a rule and whether a series fulfils it.

    ``present`` is the header's value, which may name the patient; None where it is absent. ``expected`` is the
    condition in words.
    """

    keyword: str
    present: Any
    expected: str
    fits: bool


class RuleTrial(Record):
    """A rule and all its conditions."""

    rule: str
    fits: bool
    conditions: tuple[ConditionTrial, ...]


class Match(Record):
    """The first rule that fits, None where none does; and how each rule fared."""

    rule: RuleSettings | None
    trials: tuple[RuleTrial, ...]


def match(rules: Sequence[RuleSettings], facts: SeriesFacts) -> Match:
    """Try every rule; of several that fit, the first of the file is taken."""
    trials = tuple(_trial(rule, facts) for rule in rules)
    rule = next((rule for rule, trial in zip(rules, trials, strict=True) if trial.fits), None)
    return Match(rule=rule, trials=trials)


def no_rule(found: Match) -> Refusal:
    """Why no rule is for a series: ``wrong-modality`` where every rule is for another one, else ``no-rule``."""
    modalities = [
        condition
        for trial in found.trials
        for condition in trial.conditions
        if condition.keyword == "Modality" and not condition.fits
    ]
    if len(modalities) == len(found.trials):
        modality = str(modalities[0].present)
        known = modality if _MODALITY.fullmatch(modality) else "that the series has, which is no code"
        return Refusal(kind="wrong-modality", message=f"no rule is for the modality {known}")
    return Refusal(kind="no-rule", message=f"none of {len(found.trials)} rules is for this series")


def _trial(rule: RuleSettings, facts: SeriesFacts) -> RuleTrial:
    conditions = tuple(
        ConditionTrial(
            keyword=keyword,
            present=facts.values.get(keyword),
            expected=in_words(condition),
            fits=fulfils(facts.values.get(keyword), condition),
        )
        for keyword, condition in rule.when.items()
    )
    return RuleTrial(rule=rule.name, fits=all(one.fits for one in conditions), conditions=conditions)


def fulfils(value: Any, condition: Condition) -> bool:
    """Whether a header's value is what a condition says; an absent one fulfils ``absent: true`` alone.

    Of several values, one has to be equal or match, and all have to be within bounds. Of text, neither case nor blanks
    at its ends count.
    """
    if condition.absent is not None and condition.absent != (value is None):
        return False
    if value is None:
        return condition.absent is True
    values = value if isinstance(value, list) else [value]
    return (
        (condition.equals is None or any(_same(one, condition.equals) for one in values))
        and (condition.any_of is None or any(_same(one, each) for one in values for each in condition.any_of))
        and (condition.matches is None or any(_matches(one, condition.matches) for one in values))
        and all(_within(one, condition.at_least, condition.at_most) for one in values)
    )


def _same(value: str | float, expected: str | float) -> bool:
    if isinstance(value, str) != isinstance(expected, str):
        return False
    if isinstance(value, str):
        return value.strip().casefold() == str(expected).strip().casefold()
    return abs(value - float(expected)) <= 1e-6 * max(1.0, abs(value))


def _matches(value: str | float, pattern: str) -> bool:
    if not isinstance(value, str) or len(value) > LONGEST_VALUE:
        return False
    try:
        return compiled(pattern).search(value, timeout=SEARCH_SECONDS) is not None
    except TimeoutError:
        return False


def _within(value: str | float, least: float | None, most: float | None) -> bool:
    if least is None and most is None:
        return True
    return not isinstance(value, str) and (least is None or value >= least) and (most is None or value <= most)


def in_words(condition: Condition) -> str:
    """A condition for a person."""
    parts = []
    if condition.absent is not None:
        parts.append("absent" if condition.absent else "present")
    if condition.equals is not None:
        parts.append(f"equal to {_plain(condition.equals)}")
    if condition.any_of is not None:
        parts.append(f"any of {', '.join(map(_plain, condition.any_of))}")
    if condition.matches is not None:
        parts.append(f"matching {condition.matches}")
    if condition.at_least is not None:
        parts.append(f"at least {condition.at_least:g}")
    if condition.at_most is not None:
        parts.append(f"at most {condition.at_most:g}")
    return " and ".join(parts)


def _plain(value: str | float) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}"
