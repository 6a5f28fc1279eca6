"""What ``oncoseg segment`` tells of its mask: how much, how sure, how small a lesion it can see, what to doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oncoseg_core.interfaces import PromptableModel
from oncoseg_core.volume import BoolArray, Segmentation, Volume
from oncoseg_core.zoom import Window, ZoomSettings, smallest_resolvable_mm

RANDOM_WEIGHTS = "random:"


@dataclass(frozen=True)
class OnSlice:
    """What was found on one slice: numbers only. ``cut_off``: the mask reaches the border of the zoomed window."""

    index: int
    voxels: int
    score: float
    presence: float | None
    instances: int | None
    window: Window | None
    cut_off: bool


def report_of(
    segmentation: Segmentation,
    found: Sequence[OnSlice],
    ended: tuple[str, str] | None,
    volume: Volume,
    model: PromptableModel,
    zoom: ZoomSettings | None,
) -> dict[str, Any]:
    """Plain values, in the order in which a person reads them.

    ``warnings`` and ``per slice`` are lists; ``presence`` and ``instances`` are there where the model tells them.

    Args:
        segmentation: the mask, of one target.
        found: every slice that was looked at and is not left out.
        ended: why propagation ended in both directions, if it was asked for.
        volume: the image.
        model: for its record and what its weights are.
        zoom: the settings it ran under.
    """
    ((target, mask),) = segmentation.masks.items()
    holding = [one.index for one in found if one.voxels]
    presences = [one.presence for one in found if one.presence is not None]
    instances = [one.instances for one in found if one.instances is not None]
    report: dict[str, Any] = {
        "target": target,
        "size": _size(mask, holding, volume),
        "slices": _ranges([one.index for one in found]),
        "model's own score": round(segmentation.scores[target], 3),
    }
    if presences:
        report["presence"] = round(max(presences), 3)
    if instances:
        report["instances"] = max(instances)
    report["smallest resolvable lesion"] = _resolvable(found, volume, model)
    report["zoom"] = _zoomed(found, zoom)
    if ended is not None:
        report["propagation"] = f"towards the first slice: {ended[0]}; towards the last: {ended[1]}"
    report["weights"] = model.weights_sha256
    report["warnings"] = _warnings(found, holding, target, model)
    report["per slice"] = [
        {
            "slice": one.index,
            "voxels": one.voxels,
            "score": round(one.score, 4),
            "presence": None if one.presence is None else round(one.presence, 4),
            "instances": one.instances,
            "zoomed to": None if one.window is None else [one.window.height, one.window.width],
        }
        for one in found
    ]
    return report


def _warnings(found: Sequence[OnSlice], holding: list[int], target: str, model: PromptableModel) -> list[str]:
    warnings = []
    if model.weights_sha256.startswith(RANDOM_WEIGHTS):
        warnings.append(
            f"MODEL {model.spec.name!r} HAS RANDOM WEIGHTS ({model.weights_sha256}): THIS MASK MEANS NOTHING"
        )
    if not holding:
        presences = [one.presence for one in found if one.presence is not None]
        sure = f" (presence {max(presences):.3f})" if presences else ""
        warnings.append(f"no {target!r} was found{sure}: the mask is empty")
    cut_off = [one.index for one in found if one.cut_off]
    if cut_off:
        warnings.append(
            f"on slice {_ranges(cut_off)} the mask reaches the border of the zoomed window and may be cut off; "
            "try a larger --zoom-set context=…, or --zoom off"
        )
    return warnings


def _size(mask: BoolArray, holding: list[int], volume: Volume) -> str:
    voxels = np.count_nonzero(mask, axis=(1, 2))
    if not voxels.any():
        return "empty"
    size = f"{int(voxels.sum())} voxels"
    if volume.physical:
        size += f", {float(voxels @ volume.geometry.voxel_mm3) / 1000:.3g} mL"
    where = f"slice {holding[0]}" if len(holding) == 1 else f"{len(holding)} slices, {_ranges(holding)}"
    return f"{size} on {where}"


def _resolvable(found: Sequence[OnSlice], volume: Volume, model: PromptableModel) -> str:
    windows = {one.window for one in found}
    smallest = max(smallest_resolvable_mm(volume.geometry, model.spec, window) for window in windows)
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


def _ranges(indices: list[int]) -> str:
    """``3``, ``3 to 7``, ``3 to 7, 9``."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
