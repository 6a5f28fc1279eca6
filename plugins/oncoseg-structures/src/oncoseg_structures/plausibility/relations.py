"""Rules between structures: only those that hold in every patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from oncoseg_structures.plausibility.measure import Measured
from oncoseg_structures.protocol import Doubt, ProtocolStructure

Direction = Literal["above", "behind"]

ALIKE = 3.0
"""How many times the volume of the other one of a pair may have."""
APART_MM = 2.0

POSITIONS: tuple[tuple[str, Direction, str], ...] = (
    ("Brain", "above", "SpinalCord"),
    ("Brain", "above", "Larynx"),
    ("Brain", "above", "Glnd_Thyroid"),
    ("Brain", "above", "Heart"),
    ("Brainstem", "above", "Larynx"),
    ("Bone_Mandible", "above", "Glnd_Thyroid"),
    ("OpticChiasm", "behind", "Eye_L"),
    ("OpticChiasm", "behind", "Eye_R"),
    ("Brainstem", "behind", "Eye_L"),
    ("Brainstem", "behind", "Eye_R"),
    ("Eye_L", "behind", "Lens_L"),
    ("Eye_R", "behind", "Lens_R"),
    ("SpinalCord", "behind", "Heart"),
    ("SpinalCanal", "behind", "Heart"),
    ("Heart", "above", "Bladder"),
    ("Heart", "above", "Kidney_L"),
    ("Heart", "above", "Kidney_R"),
    ("Glnd_Thyroid", "above", "Heart"),
    ("Liver", "above", "Bladder"),
    ("Liver", "above", "Rectum"),
    ("Rectum", "behind", "Bladder"),
    ("Rectum", "behind", "PenileBulb"),
)
"""By the centres: the first lies above (to the head of) or behind (to the back of) the second."""

_AXIS: dict[Direction, tuple[int, str, str]] = {"above": (2, "above", "below"), "behind": (1, "behind", "in front of")}


def doubts_of_pairs(
    there: Mapping[str, Measured], expected: Mapping[str, ProtocolStructure]
) -> Iterator[tuple[str, Doubt]]:
    """Left and right ones: on each other's side, or of very different volumes."""
    for left in (name for name in there if name.endswith("_L")):
        right = f"{left[:-2]}_R"
        if right not in there or expected[left].side != "left" or expected[right].side != "right":
            continue
        one, other = there[left], there[right]
        if _x(one) - _x(other) < APART_MM:
            for name, beside in ((left, right), (right, left)):
                yield (
                    name,
                    Doubt(
                        kind="pair",
                        message=f"it does not lie on its side of {beside}: left and right are swapped, or one is both",
                        plausibility=0.0,
                    ),
                )
        small, large = sorted((one, other), key=lambda each: each.volume_ml)
        if not small.cut_off and large.volume_ml > ALIKE * small.volume_ml:
            times = large.volume_ml / small.volume_ml
            for name, beside in ((left, right), (right, left)):
                yield (
                    name,
                    Doubt(
                        kind="pair",
                        message=f"the volumes of it and of {beside} differ {times:.1f} times",
                        plausibility=0.9 * ALIKE / times,
                    ),
                )


def doubts_of_position(there: Mapping[str, Measured]) -> Iterator[tuple[str, Doubt]]:
    """Structures that lie where they cannot, by the centres of two; both are doubted."""
    for one, direction, other in POSITIONS:
        if one not in there or other not in there:
            continue
        axis, rightly, wrongly = _AXIS[direction]
        if _centre(there[one])[axis] < _centre(there[other])[axis]:
            yield one, _misplaced(wrongly, other)
            yield other, _misplaced(rightly, one)
    lungs = [there.get("Lung_L"), there.get("Lung_R")]
    heart = there.get("Heart")
    if heart is not None and lungs[0] is not None and lungs[1] is not None:
        sides = sorted(_x(lung) for lung in lungs if lung is not None)
        if not sides[0] < _x(heart) < sides[1]:
            yield "Heart", Doubt(kind="position", message="it does not lie between the lungs", plausibility=0.2)


def _misplaced(where: str, other: str) -> Doubt:
    return Doubt(kind="position", message=f"its centre lies {where} that of {other}", plausibility=0.2)


def _centre(one: Measured) -> tuple[float, float, float]:
    assert one.centre is not None  # noqa: S101 - only structures that are there come here
    return one.centre


def _x(one: Measured) -> float:
    return _centre(one)[0]
