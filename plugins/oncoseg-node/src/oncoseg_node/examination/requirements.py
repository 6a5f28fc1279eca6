"""What a rule requires of a series that it matched; what lacks it is refused by name."""

from __future__ import annotations

from collections.abc import Iterator

from oncoseg_node.config.settings import Condition, RuleSettings
from oncoseg_node.examination.matching import fulfils, in_words
from oncoseg_node.records.series import Refusal, SeriesFacts

_LONGEST = 40
_NO_CONTRAST = {"", "NO", "NONE", "N", "WITHOUT", "W/O", "NO CONTRAST", "NATIVE", "0"}
"""What scanners write as ContrastBolusAgent where there was none."""


def refusals(rule: RuleSettings, facts: SeriesFacts) -> list[Refusal]:
    """Why a series that a rule matched is not contoured; none where it is fit."""
    require = rule.require
    return [
        *_slices(require.slices, facts),
        *_spacing(require.spacing_mm, facts),
        *_coded("wrong-body-part", "BodyPartExamined", require.body_part, facts),
        *_coded("wrong-kernel", "ConvolutionKernel", require.kernel, facts),
        *_contrast(require.contrast, facts),
        *_derived(require.derived, facts),
    ]


def _slices(bounds: tuple[int, int], facts: SeriesFacts) -> Iterator[Refusal]:
    fewest, most = bounds
    if facts.slices < fewest:
        yield Refusal(kind="too-few-slices", message=f"the series has {facts.slices} slices; expected {fewest} or more")
    if facts.slices > most:
        yield Refusal(kind="too-many-slices", message=f"the series has {facts.slices} slices; expected {most} or fewer")


def _spacing(bounds: tuple[float, float], facts: SeriesFacts) -> Iterator[Refusal]:
    least, most = bounds
    if facts.spacing_mm is not None and not least <= facts.spacing_mm <= most:
        yield Refusal(
            kind="slice-spacing",
            message=f"the slices lie {facts.spacing_mm:g} mm apart; expected {least:g} to {most:g} mm",
        )


def _coded(kind: str, keyword: str, condition: Condition | None, facts: SeriesFacts) -> Iterator[Refusal]:
    value = facts.values.get(keyword)
    if condition is not None and not fulfils(value, condition):
        text = "absent" if value is None else str(value)[:_LONGEST]
        yield Refusal(kind=kind, message=f"{keyword} is {text}; expected: {in_words(condition)}")


def _contrast(required: str, facts: SeriesFacts) -> Iterator[Refusal]:
    given = has_contrast(facts)
    if required == "without" and given:
        yield Refusal(kind="contrast-given", message="the images show contrast agent; expected none")
    if required == "with" and not given:
        yield Refusal(kind="no-contrast", message="the images show no contrast agent; expected some")


def has_contrast(facts: SeriesFacts) -> bool:
    """Whether the header says that contrast agent was given: its name, its volume, or how."""
    agent = str(facts.values.get("ContrastBolusAgent", "")).strip().upper()
    volume = facts.values.get("ContrastBolusVolume")
    return agent not in _NO_CONTRAST or (isinstance(volume, float) and volume > 0)


def _derived(allowed: bool, facts: SeriesFacts) -> Iterator[Refusal]:
    kinds = facts.values.get("ImageType")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not allowed and "DERIVED" in kinds:
        yield Refusal(kind="derived", message="the images are DERIVED from others; expected ORIGINAL ones")
