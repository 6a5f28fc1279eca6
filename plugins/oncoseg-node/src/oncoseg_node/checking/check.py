"""From what the models made to what is written: each structure of the protocol, its confidence, and why."""

from __future__ import annotations

from collections.abc import Mapping

from oncoseg_core import BoolArray, ConfigError, Volume
from oncoseg_node.config.settings import ModelSettings, NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Made, MadeStructure
from oncoseg_structures import (
    TISSUE_HU,
    Doubt,
    Measured,
    Protocol,
    ProtocolStructure,
    check_name,
    judge_structures,
    measure_structures,
    read_protocol,
)

PLAUSIBILITY = "plausibility"
"""The method of the confidence that the checks give."""
NO_MODEL = "none"


def check(
    job: Job, settings: NodeSettings, made: Made, masks: Mapping[str, BoolArray], volume: Volume
) -> list[CheckedStructure]:
    """Judge every structure that the job's rule wants, in the order of its protocol.

    A structure is left out that was not made, is empty, is less sure than its model's ``minimum_confidence``, or cannot
    be what its name says (on the wrong side, left and right swapped). It is marked where a doubt remains or it is less
    sure than ``marked_below``.

    Args:
        job: whose ``rule`` says what is wanted.
        settings: the node's.
        made: what the models say of each structure.
        masks: bool ``(z, y, x)`` on the volume's grid, by the protocol's names; taken one at a time.
        volume: the image, for the middle of the patient; stored values are taken with their header.

    Raises:
        ConfigError: the rule or its protocol is not there, or wrong.
    """
    rule = _rule(job, settings)
    protocol = _wanted(rule, read_protocol(rule.protocol))
    measured = measure_structures(masks, volume.geometry, protocol)
    voxels, tissue = _tissue(volume)
    doubts = judge_structures(measured, volume.geometry, protocol, voxels, tissue)
    by_name = {one.name: one for one in made.structures}
    return [
        _judged(one, by_name.get(one.name), measured.get(one.name), doubts.get(one.name, ()), settings)
        for one in protocol.structures
    ]


def _rule(job: Job, settings: NodeSettings) -> RuleSettings:
    for rule in settings.rules:
        if rule.name == job.rule:
            return rule
    known = ", ".join(rule.name for rule in settings.rules)
    raise ConfigError(f"job {job.id}: its rule {job.rule!r} is not in the settings any more; they have {known}")


def _wanted(rule: RuleSettings, protocol: Protocol) -> Protocol:
    """The protocol with the rule's structures only."""
    if rule.structures is None:
        return protocol
    names = {one.name for one in protocol.structures}
    if unknown := [name for name in rule.structures if name not in names]:
        raise ConfigError(
            f"rule {rule.name}: protocol {protocol.name} has no structure {', '.join(unknown)}; "
            f"it has {', '.join(sorted(names))}"
        )
    kept = tuple(one for one in protocol.structures if one.name in rule.structures)
    return protocol.model_copy(update={"structures": kept})


def _tissue(volume: Volume) -> tuple[BoolArray | None, float]:
    """Voxels of a CT ``(z, y, x)`` as they are stored, and the stored value above which one is of the body."""
    if volume.modality.casefold() != "ct" or volume.voxels.shape[0] != 1:
        return None, TISSUE_HU
    header = volume.headers[0] if volume.headers else {}
    slope, intercept = float(header.get("RescaleSlope") or 1.0), float(header.get("RescaleIntercept") or 0.0)
    if slope <= 0:
        return None, TISSUE_HU
    return volume.voxels[0], (TISSUE_HU - intercept) / slope


def _judged(
    expected: ProtocolStructure,
    made: MadeStructure | None,
    measured: Measured | None,
    doubts: tuple[Doubt, ...],
    settings: NodeSettings,
) -> CheckedStructure:
    base = CheckedStructure(
        name=expected.name,
        decision="left out",
        model=made.model if made is not None else NO_MODEL,
        source=made.source if made is not None else "",
        colour=expected.colour,
        interpreted_type=expected.interpreted_type,
    )
    if made is None or measured is None or made.left_out is not None:
        return base.model_copy(update={"reasons": (_why_not_made(made),)})
    confidences = _confidences(made, doubts)
    lowest = min(confidences, key=lambda method: confidences[method], default=None)
    model = settings.models.get(made.model, ModelSettings(model=made.model))
    impossible = any(doubt.plausibility == 0 for doubt in doubts)
    too_unsure = lowest is not None and confidences[lowest] < model.minimum_confidence
    unsure = lowest is not None and confidences[lowest] < model.marked_below
    doubtful = any(doubt.plausibility < 1 for doubt in doubts)
    reasons = [doubt.message for doubt in doubts]
    if lowest is not None and lowest != PLAUSIBILITY and (too_unsure or unsure):
        least = model.minimum_confidence if too_unsure else model.marked_below
        reasons.insert(0, f"its confidence of {confidences[lowest]:.2f} by {lowest} is below {least:g}")
    elif too_unsure and not impossible:
        reasons.insert(0, f"it is less plausible ({confidences[PLAUSIBILITY]:.2f}) than {model.minimum_confidence:g}")
    return base.model_copy(
        update={
            "decision": "left out" if impossible or too_unsure else "marked" if unsure or doubtful else "written",
            "reasons": (*reasons, *_name_findings(expected.name)),
            "confidence": confidences[lowest] if lowest is not None else None,
            "confidences": confidences,
            "volume_ml": measured.volume_ml if measured.slices is not None else None,
            "slices": measured.slices,
        }
    )


def _why_not_made(made: MadeStructure | None) -> str:
    if made is None:
        return "no model of the rule makes it"
    return made.left_out or "its mask was not kept"


def _confidences(made: MadeStructure, doubts: tuple[Doubt, ...]) -> dict[str, float]:
    """By method. Where nothing is doubted plausibility says nothing: that no rule is broken is no confidence."""
    confidences = {made.method or made.model: made.confidence} if made.confidence is not None else {}
    least = min((doubt.plausibility for doubt in doubts), default=1.0)
    return confidences | ({PLAUSIBILITY: least} if least < 1 else {})


def _name_findings(name: str) -> tuple[str, ...]:
    """A clinic may have names of its own: said, and no reason to mark a structure."""
    found = check_name(name)
    return () if found.ok else (f"its name is not by TG-263 ({found.problem})",)
