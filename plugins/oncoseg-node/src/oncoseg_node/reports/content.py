"""All that a report says, as plain data: the JSON file, and what the page is made of.

Nothing in it names the patient: what the headers say is taken by a short list of keywords, UIDs stay in the queue and
in the DICOM objects, and a case is called by its folder, whose name tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from oncoseg_core.plugins import library_versions
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.examination.requirements import has_contrast
from oncoseg_node.records.job import ENDS, Job, State
from oncoseg_node.records.results import CheckedStructure, Delivery, Made, UsedModel, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts

SCHEMA = "oncoseg-node-report/1"
"""Of the JSON file; another number when a key changes its meaning or goes."""

NOTICE = (
    "Made by a program: a person has to review every contour before it is used. "
    "OncoSeg is research software, no medical device."
)

_DECISIONS = ("written", "marked", "left out")

_DISTRIBUTIONS = ("oncoseg-node", "oncoseg-dicom", "oncoseg-structures", "oncoseg-segment", "pynetdicom")
"""Besides those that results depend on anyway."""


def report_content(
    job: Job,
    settings: NodeSettings,
    facts: SeriesFacts | None,
    made: Made | None,
    checked: Sequence[CheckedStructure],
    objects: Sequence[WrittenObject],
    deliveries: Sequence[Delivery],
    refusals: Sequence[Refusal],
) -> dict[str, Any]:
    """The report of a job in the state that it is in, ready for JSON. The same job gives the same content."""
    rule = next((one for one in settings.rules if one.name == job.rule), None)
    return {
        "schema": SCHEMA,
        "notice": NOTICE,
        "approval": "UNAPPROVED",
        "case": job.folder.name,
        "state": str(job.state),
        "outcome": _outcome(job, checked),
        "reason": job.reason,
        "rule": job.rule,
        "protocol": "" if rule is None else rule.protocol,
        "received": datetime.fromtimestamp(job.created, UTC).isoformat(timespec="seconds"),
        "counts": {decision: sum(one.decision == decision for one in checked) for decision in _DECISIONS},
        "structures": [one.model_dump(mode="json") for one in checked],
        "deliveries": [
            *_done(deliveries),
            *_not_done(job, objects, deliveries, () if rule is None else rule.destinations, settings),
        ],
        "objects": [
            {"format": one.format, "file": one.path.name, "sha256": one.sha256, "notes": list(one.notes)}
            for one in objects
        ],
        "series": None if facts is None else _series(facts),
        "findings": [*(() if facts is None else facts.doubts), *(() if made is None else made.findings)],
        "refusals": [one.model_dump(mode="json") for one in refusals],
        "models": [] if made is None else [_model(one) for one in made.models],
        "seconds": {} if made is None else dict(made.seconds),
        "software": _software(),
        "notes": list(_about_earlier(job)),
    }


def _about_earlier(job: Job) -> Iterator[str]:
    if (earlier := job.earlier) is not None:
        yield (
            f"This series came before, as case {earlier.case}, with other images. A structure set of that may be at "
            "the destinations and stays there: delete it if this one is to be used."
        )


def _outcome(job: Job, checked: Sequence[CheckedStructure]) -> str:
    if job.state in {State.REFUSED, State.FAILED}:
        return str(job.state)
    if any(one.decision != "left out" for one in checked):
        return "contoured"
    return "nothing contoured" if checked else "under way"


def _series(facts: SeriesFacts) -> dict[str, Any]:
    """What the image is, without a word that a person typed in about the patient."""
    values = facts.values
    return {
        "modality": facts.modality,
        "slices": facts.slices,
        "slice_distance_mm": facts.spacing_mm,
        "slice_thickness_mm": _number(values.get("SliceThickness")),
        "pixel_spacing_mm": [_number(one) for one in _list(values.get("PixelSpacing"))],
        "rows": _number(values.get("Rows")),
        "columns": _number(values.get("Columns")),
        "kernel": " ".join(str(one) for one in _list(values.get("ConvolutionKernel"))),
        "contrast": "stated" if has_contrast(facts) else "none stated",
        "kvp": _number(values.get("KVP")),
        "body_part": str(values.get("BodyPartExamined") or ""),
        "patient_position": str(values.get("PatientPosition") or ""),
    }


def _list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _done(deliveries: Sequence[Delivery]) -> Iterator[dict[str, str]]:
    """One row for each object and destination of which something is known; without its UID."""
    for one in deliveries:
        yield {key: getattr(one, key) for key in ("destination", "format", "status", "how", "message")}


def _not_done(
    job: Job,
    objects: Sequence[WrittenObject],
    deliveries: Sequence[Delivery],
    names: Sequence[str],
    settings: NodeSettings,
) -> Iterator[dict[str, str]]:
    """One row for each object that a destination of the rule takes and of which nothing is known."""
    known = {(one.destination, one.format) for one in deliveries}
    made = {one.format for one in objects}
    for name in names if objects else ():
        destination = settings.destinations.get(name)
        for form in () if destination is None else destination.formats:
            row = {"destination": name, "format": form, "how": "", "message": ""}
            if (name, form) in known:
                continue
            if form in made:
                yield row | {"status": "not sent yet"}
            elif job.state in ENDS:
                yield row | {"status": "not made", "message": "nothing of that kind was made, and nothing was sent"}


def _model(model: UsedModel) -> dict[str, Any]:
    content = model.model_dump(mode="json")
    content["licence"] = model.licence or "none stated"
    return content


def _software() -> Mapping[str, str]:
    versions = library_versions()
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover - run from sources that are not installed
            continue
    return versions
