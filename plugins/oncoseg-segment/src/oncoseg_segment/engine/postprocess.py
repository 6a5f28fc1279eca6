"""What becomes of each structure before anything is written: overlaps, scores too low, measurements, findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from oncoseg_core import BoolArray, NormalizerSpec, Volume
from oncoseg_segment.engine.checks import Finding, examine_structure
from oncoseg_segment.engine.measurements import Measurements, measure
from oncoseg_segment.engine.overlaps import Overlaps, resolve_overlaps
from oncoseg_segment.engine.report import examine_result
from oncoseg_segment.engine.structures import StructureResult


@dataclass(frozen=True, eq=False)
class KeptStructure:
    """A structure and what becomes of it.

    ``number`` counts from 1 and is its value in a label image. ``mask`` is what remains after overlaps were resolved,
    ``lost`` the voxels that others got. ``left_out`` says why it is in no export, None where it is.
    """

    number: int
    result: StructureResult
    mask: BoolArray
    left_out: str | None
    lost: int
    measurements: Measurements

    @property
    def name(self) -> str:
        """The structure's name."""
        return self.result.name

    @property
    def detected(self) -> bool:
        """Whether the model found anything."""
        return any(one.voxels for one in self.result.found)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be said of it."""
        findings = examine_result(self.result)
        if self.detected:
            if self.measurements.voxels:
                findings += examine_structure(self.name, self.mask, self.result.span)
            if self.left_out is not None:
                findings.append(Finding("warning", self.name, f"{self.name!r} is left out: {self.left_out}"))
        return tuple(findings)

    @property
    def drawn(self) -> Literal["all", "parts"] | None:
        """Whether a hand drew every slice that holds it, or some slices; None where the model made them all."""
        by_hand = [math.isnan(one.score) for one in self.result.found]
        if not any(by_hand):
            return None
        holding = [one for one, hand in zip(self.result.found, by_hand, strict=True) if one.voxels and not hand]
        return "parts" if holding else "all"


def keep_structures(
    results: Sequence[StructureResult],
    volume: Volume,
    specs: Sequence[NormalizerSpec],
    overlaps: Overlaps,
    minimum_score: float | None,
    earlier: Sequence[KeptStructure] = (),
) -> list[KeptStructure]:
    """Decide which structures are exported, resolve the overlaps of these, and measure all.

    Args:
        results: in the order asked for.
        volume: the image, calibrated.
        specs: the records of its modality.
        overlaps: what becomes of voxels that several claim.
        minimum_score: below it a structure is left out, and claims nothing; no limit when None.
        earlier: what was kept before; those whose result and mask are the same arrays are not measured again.
    """
    left_out = [
        None
        if minimum_score is None or not result.score < minimum_score  # a hand's mask has none: NaN
        else f"the model's own score {result.score:.3f} is below the minimum of {minimum_score:g}"
        for result in results
    ]
    kept = [number for number, reason in enumerate(left_out) if reason is None]
    masks = [result.mask for result in results]
    resolved = resolve_overlaps(
        [masks[number] for number in kept], [results[number].slice_scores for number in kept], overlaps
    )
    for number, mask in zip(kept, resolved, strict=True):
        masks[number] = mask
    known = {one.result: one for one in earlier}
    kept_structures = []
    for number, (result, mask, reason) in enumerate(zip(results, masks, left_out, strict=True), start=1):
        before = known.get(result)
        same = before is not None and before.mask is mask
        measured = before.measurements if before and same else measure(mask, volume, specs, result.span)
        lost = 0 if mask is result.mask else sum(one.voxels for one in result.found) - measured.voxels
        why = reason
        if why is None and not measured.voxels:
            why = "all of it was given to other structures" if lost else "nothing was found: the mask is empty"
        if before and same and (before.number, before.left_out, before.lost) == (number, why, lost):
            kept_structures.append(before)  # with its findings
        else:
            kept_structures.append(KeptStructure(number, result, mask, why, lost, measured))
    return kept_structures


def nothing_left(kept_structures: Sequence[KeptStructure], *, may_be_empty: bool) -> str | None:
    """Why there is nothing to write; None where there is.

    ``may_be_empty``: the formats hold an empty structure, and that nothing was found is an answer.
    """
    if any(one.left_out is None for one in kept_structures):
        return None
    if may_be_empty and not any(one.detected for one in kept_structures):
        return None
    return "no structure is left (" + "; ".join(f"{one.name!r}: {one.left_out}" for one in kept_structures) + ")"
