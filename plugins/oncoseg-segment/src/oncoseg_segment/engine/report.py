"""What ``oncoseg segment`` tells of a structure: how much, how sure, how small a lesion it can see, what to doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from oncoseg_core import BoolArray, LoraSpec, PromptableModel, PromptKind, Volume
from oncoseg_core.inference import FittedVolume
from oncoseg_core.path import ZoomSettings
from oncoseg_lora import SEQUENCES, has_random_weights
from oncoseg_segment.engine.checks import Finding
from oncoseg_segment.engine.resolvable import smallest_resolvable_mm
from oncoseg_segment.engine.structures import OnSlice, StructureResult


def report_of(
    result: StructureResult, mask: BoolArray, fitted: FittedVolume, model: PromptableModel, zoom: ZoomSettings | None
) -> dict[str, Any]:
    """Plain values, in the order in which a person reads them.

    ``per slice`` is a list; ``presence`` and ``instances`` are there where the model tells them.

    Args:
        result: what the model found.
        mask: what remains of it, after overlaps were resolved.
        fitted: the image, and its way into the model.
        model: for its record.
        zoom: the settings it ran under.
    """
    found = result.found
    presences = [one.presence for one in found if one.presence is not None]
    instances = [one.instances for one in found if one.instances is not None]
    report: dict[str, Any] = {
        "size": _size(mask, fitted.volume),
        "slices": ranges([one.index for one in found]),
        "model's own score": None if math.isnan(result.score) else round(result.score, 3),
    }
    if presences:
        report["presence"] = round(max(presences), 3)
    if instances:
        report["instances"] = max(instances)
    report["smallest resolvable lesion"] = _resolvable(found, fitted, model)
    report["zoom"] = _zoomed(found, zoom)
    if result.ended is not None:
        report["propagation"] = f"towards the first slice: {result.ended[0]}; towards the last: {result.ended[1]}"
    report["per slice"] = [
        {
            "slice": one.index,
            "voxels": one.voxels,
            "score": None if math.isnan(one.score) else round(one.score, 4),
            "presence": None if one.presence is None else round(one.presence, 4),
            "instances": one.instances,
            "zoomed to": None if one.window is None else [one.window.height, one.window.width],
        }
        for one in found
    ]
    return report


def examine_model(model: PromptableModel) -> list[Finding]:
    """What is to be said of the model, whatever it finds."""
    licence, trained = model.spec.licence, getattr(model, "trained_parts", None)
    found = []
    if licence is not None and licence.notice:
        found.append(Finding("warning", "model", f"model {model.spec.name!r}: {licence.notice}"))
    if not has_random_weights(model.weights_sha256, trained):
        return found
    told = f"MODEL {model.spec.name!r} HAS RANDOM WEIGHTS ({model.weights_sha256}): THIS MASK MEANS NOTHING"
    return [*found, Finding("warning", "model", told)]


def examine_answerer(model: PromptableModel, kinds: Sequence[PromptKind], name: str, *, tracked: bool) -> list[Finding]:
    """Whether a structure is what the adapter finds, or what the model finds without it.

    Args:
        model: adapted or not.
        kinds: of the structure's prompts.
        name: the structure's.
        tracked: whether the model's own tracker follows it, which is prompted by masks.
    """
    settings, drawn = getattr(model, "lora_settings", None), set(getattr(model, "trained_prompts", ()))
    if settings is None:
        return []
    lora = model.spec.lora
    messages = []
    for kind in dict.fromkeys([*kinds, "mask"] if tracked else kinds):
        reason, together = lora.untaught(kind, settings.policy), _taught_together(lora, kind)
        if reason is not None:
            messages.append(f"{reason}: of {name!r}, that part is the model's answer without its adapter")
        elif together and drawn and not together & drawn:
            messages.append(
                f"the adapter was trained with prompts of kind {', '.join(sorted(drawn))}, and none of those that "
                f"teach what answers {kind!r}: {name!r} may be worse than without the adapter"
            )
        elif together and drawn and tracked and SEQUENCES not in drawn:
            messages.append(
                f"the adapter was trained without sequences of slices, so its own tracker was not taught: {name!r} may "
                "be worse than without the adapter"
            )
    return [Finding("warning", name, message) for message in dict.fromkeys(messages)]


def _taught_together(lora: LoraSpec, kind: PromptKind) -> set[PromptKind]:
    """The kinds that are taught by the same policies, where not all policies teach this one."""
    policies = lora.taught_by.get(kind)
    return set() if policies is None else {one for one, several in lora.taught_by.items() if several == policies}


def examine_result(result: StructureResult) -> list[Finding]:
    """What is to be said of how a structure was found."""
    told = []
    if not any(one.voxels for one in result.found):
        presences = [one.presence for one in result.found if one.presence is not None]
        sure = f" (presence {max(presences):.3f})" if presences else ""
        told.append(f"no {result.name!r} was found{sure}: the mask is empty")
    cut_off = [one.index for one in result.found if one.cut_off]
    if cut_off:
        told.append(
            f"on slice {ranges(cut_off)} the mask reaches the border of the zoomed window and may be cut off; "
            "try a larger `zoom.context`, or no `zoom`"
        )
    return [Finding("warning", result.name, message) for message in told]


def _size(mask: BoolArray, volume: Volume) -> str:
    voxels = np.count_nonzero(mask, axis=(1, 2))
    if not voxels.any():
        return "empty"
    size = f"{int(voxels.sum())} voxels"
    if volume.physical:
        size += f", {float(voxels @ volume.geometry.voxel_mm3) / 1000:.3g} mL"
    holding = [int(index) for index in np.flatnonzero(voxels)]
    where = f"slice {holding[0]}" if len(holding) == 1 else f"{len(holding)} slices, {ranges(holding)}"
    return f"{size} on {where}"


def _resolvable(found: Sequence[OnSlice], fitted: FittedVolume, model: PromptableModel) -> str:
    volume, windows = fitted.volume, {one.window for one in found}
    smallest = max(smallest_resolvable_mm(volume.geometry, model.spec, window, fitted.grid.fit) for window in windows)
    if not volume.physical:
        return f"{smallest:.3g} pixels"
    told = f"{smallest:.3g} mm in the slice"
    return told if len(volume.voxels[0]) == 1 else f"{told}; slices are {volume.geometry.spacing[0]:.3g} mm apart"


def _zoomed(found: Sequence[OnSlice], zoom: ZoomSettings | None) -> str:
    if zoom is None:
        return "off"
    windows = [one.window for one in found if one.window is not None]
    if not windows:
        return f"{zoom.when}: on no slice"
    sides = sorted({(window.height, window.width) for window in windows})
    told = " to ".join(f"{rows} x {columns}" for rows, columns in (sides if len(sides) < 3 else (sides[0], sides[-1])))
    return f"{zoom.when}: on {len(windows)} of {len(found)} slices, to {told} pixels"


def ranges(indices: Sequence[int]) -> str:
    """``3``, ``3 to 7``, ``3 to 7, 9``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
