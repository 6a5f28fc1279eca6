"""What the objects say of themselves: that a program made them, which, how sure it is, and what is doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Made

_SHORT, _LONG = 16, 64
"""Characters of a label (SH) and of a description (LO)."""

DOUBTFUL = "DOUBTFUL"
_BY_PROGRAM, _AND_DOUBTFUL = " AUTO", "?"
_MOST_NAMES = 12
"""Of doubtful structures that a description has room for."""


def label_of(settings: NodeSettings, checked: Sequence[CheckedStructure]) -> str:
    """The structure set's label: ``OncoSeg AUTO`` says that a program made it, ``OncoSeg AUTO?`` that some is doubtful.

    A planning system shows the label and the names of structures; few show what is said beside each of them.
    """
    end = _BY_PROGRAM + _AND_DOUBTFUL * bool(_doubtful(checked))
    return _plain(settings.report.label)[: _SHORT - len(end)].rstrip() + end


def series_description_of(settings: NodeSettings, checked: Sequence[CheckedStructure]) -> str:
    """The new series as archives show it."""
    count = len(_doubtful(checked))
    said = " contours made by a program" + f", {count} {DOUBTFUL}" * bool(count)
    return _plain(settings.report.label)[: _LONG - len(said)].rstrip() + said


def _doubtful(checked: Sequence[CheckedStructure]) -> list[str]:
    return [one.name for one in checked if one.decision == "marked"]


def provenance_of(job: Job, made: Made, protocol: str, checked: Sequence[CheckedStructure]) -> dict[str, str]:
    """What made the structures and which are doubtful, in the order in which it is cut where a file has no room for
    all of it.
    """
    doubtful = _doubtful(checked)
    more = f" and {len(doubtful) - _MOST_NAMES} more" * (len(doubtful) > _MOST_NAMES)
    models = {(one.component, one.version, one.weights_sha256) for one in made.models}
    return {
        "made by": f"a program, OncoSeg node {version('oncoseg-node')}, and reviewed by nobody",
        **({DOUBTFUL: ", ".join(doubtful[:_MOST_NAMES]) + more} if doubtful else {}),
        **({"not the first": "another set of this series may exist, of other images"} if job.earlier else {}),
        "model": _plain(" + ".join(sorted({component for component, _, _ in models}))),
        "version": _plain(" + ".join(sorted({f"{component} {number}" for component, number, _ in models}))),
        "weights": _plain(", ".join(sorted({f"{component} sha256 {digest}" for component, _, digest in models}))),
        "rule": _plain(job.rule),
        "protocol": _plain(protocol),
    }


def details_of(checked: Sequence[CheckedStructure], made: Made) -> dict[str, dict[str, str]]:
    """What is written beside each structure, in the words of the exporters of oncoseg-dicom."""
    makers = {one.key: f"{one.component} {one.version}" for one in made.models}
    return {
        one.name: {
            "ROIGenerationAlgorithm": "AUTOMATIC",
            "ROIGenerationDescription": _plain(makers.get(one.model, one.model))[:_LONG],
            "RTROIInterpretedType": one.interpreted_type,
            "ROIDisplayColor": ",".join(map(str, one.colour)),
            "ROIDescription": _description(one),
            **({"ROIObservationLabel": DOUBTFUL} if one.decision == "marked" else {}),
        }
        for one in checked
    }


def _description(one: CheckedStructure) -> str:
    said = [f"{DOUBTFUL}: {_plain('; '.join(one.reasons)) or 'no reason was given'}"] * (one.decision == "marked")
    said.append("made by a program and reviewed by nobody")
    if one.confidence is not None:
        methods = ", ".join(sorted(method for method, value in one.confidences.items() if value == one.confidence))
        said.append(f"confidence {one.confidence:.2f}" + (f" ({_plain(methods)})" if methods else ""))
    return "; ".join(said)


def _plain(text: str) -> str:
    """A text as DICOM keeps it: without backslashes, control characters and blanks around it."""
    kept = "".join(character if character.isprintable() and character != "\\" else " " for character in text)
    return " ".join(kept.split()) or "OncoSeg"
