"""The rules by which a structure is doubted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from oncoseg_core import BoolArray, Geometry
from oncoseg_structures.plausibility.measure import Measured, Shared, measure_mask
from oncoseg_structures.plausibility.midline import TISSUE_HU, Midline, find_midline
from oncoseg_structures.plausibility.relations import doubts_of_pairs, doubts_of_position
from oncoseg_structures.protocol import Doubt, Protocol, ProtocolStructure

FAR_ACROSS_MM = 30.0
"""So far beyond a structure of the midline it is beyond doubt on the wrong side; a crooked spine is less far off."""
SAME = 0.5
"""Two structures whose intersection is at least that part of their union may be one."""
ENCLOSED = frozenset(
    frozenset(pair)
    for pair in (
        ("Heart", "Pericardium"),
        ("SpinalCord", "SpinalCanal"),
        ("Lungs", "Lung_L"),
        ("Lungs", "Lung_R"),
        ("Bowel_Small", "Bag_Bowel"),
        ("Bowel_Large", "Bag_Bowel"),
        ("Bowel_Large", "Colon"),
        ("Larynx", "Glottis"),
        ("Larynx", "Larynx_SG"),
        ("Rectum", "Canal_Anal"),
    )
)
"""Pairs of which one encloses the other and may have much of its volume."""
OUTSIDE = 0.05
"""The share of a structure that may lie outside the outer contour."""


def examine_structures(
    masks: Mapping[str, BoolArray],
    geometry: Geometry,
    protocol: Protocol,
    voxels: npt.NDArray[Any] | None = None,
) -> dict[str, tuple[Doubt, ...]]:
    """Doubts about the structures of a protocol that have a mask, by name; none for a plausible one.

    Args:
        masks: bool ``(z, y, x)`` by name; taken one at a time (beside that of the outer contour).
        geometry: their grid. All that is judged is judged in the patient's axes, however the image is stored.
        protocol: what is expected.
        voxels: the image in Hounsfield units ``(z, y, x)``, for the middle of the patient where no structure shows it.
    """
    return judge_structures(measure_structures(masks, geometry, protocol), geometry, protocol, voxels)


def measure_structures(masks: Mapping[str, BoolArray], geometry: Geometry, protocol: Protocol) -> dict[str, Measured]:
    """Measures of the structures of a protocol that have a mask, each mask taken once, one at a time."""
    external = next((one.name for one in protocol.structures if one.interpreted_type == "EXTERNAL"), None)
    there = set(masks)  # to ask a lazy mapping for a name may make its mask
    body = masks[external] if external is not None and external in there else None
    if body is not None and not body.any():
        body = None
    shared = Shared(geometry.shape)
    measured: dict[str, Measured] = {}
    for one in (one for one in protocol.structures if one.name in there):
        mask, outer = masks[one.name], one.interpreted_type in ("EXTERNAL", "SUPPORT")
        values = measure_mask(mask, geometry, None if outer else body, count_parts=one.most_parts is not None)
        measured[one.name] = values
        for other, share in () if outer else shared.add(one.name, mask, SAME):
            measured[one.name] = _same(measured[one.name], other, share)
            measured[other] = _same(measured[other], one.name, share)
    return measured


def _same(one: Measured, other: str, share: float) -> Measured:
    return one._replace(same=(*one.same, (other, share)))


def judge_structures(
    measured: Mapping[str, Measured],
    geometry: Geometry,
    protocol: Protocol,
    voxels: npt.NDArray[Any] | None = None,
    tissue: float = TISSUE_HU,
) -> dict[str, tuple[Doubt, ...]]:
    """Doubts by name about structures that were measured.

    ``voxels`` ``(z, y, x)`` may be in any unit; above ``tissue`` one is of the body.
    """
    expected = {one.name: one for one in protocol.structures if one.name in measured}
    middle = find_midline(measured, geometry, voxels, tissue) if any(one.side for one in expected.values()) else None
    doubts = {name: list(_doubts_of_one(one, measured[name], middle)) for name, one in expected.items()}
    there = {name: one for name, one in measured.items() if name in expected and one.centre is not None}
    for name, doubt in (*doubts_of_pairs(there, expected), *doubts_of_position(there)):
        doubts[name].append(doubt)
    return {name: tuple(each) for name, each in doubts.items()}


def _doubts_of_one(expected: ProtocolStructure, one: Measured, middle: Midline | None) -> list[Doubt]:
    if one.centre is None:
        return [Doubt(kind="empty", message="it is empty", plausibility=0.0)]
    checks = (
        _volume(expected, one),
        _parts(expected, one),
        _side(expected, one.centre[0], middle),
        _outside(one),
        *(_overlap(expected.name, *each) for each in one.same),
    )
    return [doubt for doubt in checks if doubt is not None]


def _volume(expected: ProtocolStructure, one: Measured) -> Doubt | None:
    if expected.volume_ml is None:
        return None
    least, most = expected.volume_ml
    if one.volume_ml > most:  # a part of an organ that is larger than all of it is doubtful as well
        return Doubt(
            kind="volume",
            message=f"its volume of {one.volume_ml:.3g} mL is more than the {most:g} mL of the largest expected",
            plausibility=0.5 * most / one.volume_ml,
        )
    if one.cut_off:
        where = "the first or last slice" if any(face[0] == "z" for face in one.faces) else "the side of the image"
        return Doubt(
            kind="cut off",
            message=f"it reaches {where}: only a part may be imaged, so its volume is not judged",
            plausibility=1.0,
        )
    if one.volume_ml < least:
        return Doubt(
            kind="volume",
            message=f"its volume of {one.volume_ml:.3g} mL is less than the {least:g} mL of the smallest expected",
            plausibility=0.5 * one.volume_ml / least,
        )
    return None


def _parts(expected: ProtocolStructure, one: Measured) -> Doubt | None:
    if expected.most_parts is None or one.parts is None or one.parts <= expected.most_parts:
        return None
    return Doubt(
        kind="parts",
        message=f"it has {one.parts} separate parts, at most {expected.most_parts} are expected",
        plausibility=0.9 * expected.most_parts / one.parts,
    )


def _side(expected: ProtocolStructure, x: float, middle: Midline | None) -> Doubt | None:
    if expected.side is None or middle is None:
        return None
    to_its_side = (x - middle.x) * (1 if expected.side == "left" else -1)
    if to_its_side >= -middle.off_mm:
        return None
    beyond = f"its centre lies {-to_its_side:.0f} mm beyond the middle of the patient"
    return Doubt(
        kind="side",
        message=f"{beyond}, on the wrong side (the middle by {middle.of})",
        plausibility=0.0 if middle.sure and to_its_side < -FAR_ACROSS_MM else 0.1,
    )


def _outside(one: Measured) -> Doubt | None:
    if one.outside is None or one.outside <= OUTSIDE:
        return None
    return Doubt(
        kind="outside",
        message=f"{one.outside:.0%} of it lies outside the outer contour of the patient",
        plausibility=0.5 * (1 - one.outside),
    )


def _overlap(name: str, other: str, share: float) -> Doubt | None:
    if frozenset((name, other)) in ENCLOSED:
        return None
    return Doubt(
        kind="overlap",
        message=f"it and {other} share {share:.0%} of their voxels",
        plausibility=max(0.05, 0.9 * (1 - share)),
    )
