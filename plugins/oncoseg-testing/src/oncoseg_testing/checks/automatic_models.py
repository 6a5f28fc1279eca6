"""The rules of an automatic model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oncoseg_core import (
    AutomaticModel,
    AutomaticModelSpec,
    AutomaticResult,
    BoolArray,
    DataError,
    Geometry,
    GeometryError,
    Volume,
)
from oncoseg_testing.checks.rules import read_only, require, rule, show

DIGEST = re.compile(r"[0-9a-f]{64}|random:\d+")


def check_automatic_model(
    model: AutomaticModel, *, spec: AutomaticModelSpec, image: Volume | None = None, any_grid: bool = False
) -> None:
    """Check an automatic model on an image that it can work on.

    Args:
        model: built, with whatever settings.
        spec: the record it was registered with.
        image: the image; a block of tissue in air, in Hounsfield units, when omitted.
        any_grid: whether the same image stored with turned axes must give the same masks, turned. A model that works
            on the axes as they are stored does not promise that.

    Raises:
        AssertionError: a rule is broken.
    """
    _check_record(model, spec)
    volume = block() if image is None else image
    volume = replace(volume, voxels=read_only(volume.voxels))
    names = model.spec.structures
    example = f"image {show(volume.voxels)}, structures {', '.join(names)}"
    with rule("an image that it cannot work on is refused in one line with DataError or GeometryError", example):
        try:
            whole = _segmented(model, volume, names)
        except (DataError, GeometryError) as error:
            require("\n" not in str(error), repr(str(error)))
            require(image is None, f"it refuses the image that it was given: {error}")
            return
    _check_result(whole, volume, names, example)
    masks = {name: np.array(whole.masks[name]) for name in names}
    with rule("segmenting again gives the same masks and confidences", example):
        _require_same(masks, _segmented(model, volume, names), names)
    part = names[::-1][: max(1, len(names) // 2)]
    with rule("a structure does not depend on which others are asked for, nor in which order", ", ".join(part)):
        some = _segmented(model, volume, part)
        _require_same(masks, some, part)
    _check_result(some, volume, part, ", ".join(part))
    if any_grid:
        for axis in (1, 2, 3):
            with rule(
                "masks lie where they are, however the image's axes are stored", f"{example}, axis {axis} turned"
            ):
                found = _segmented(model, _turned(volume, axis), names)
                turned = {name: np.flip(mask, axis - 1) for name, mask in masks.items()}
                _require_same(turned, found, names)


def block() -> Volume:
    """A block of tissue (40) in air (-1000), 8 slices of 24 by 32 pixels, 5 by 2 by 2 mm: CT in Hounsfield units."""
    voxels = np.full((1, 8, 24, 32), -1000, np.int16)
    voxels[:, 1:7, 4:20, 5:28] = 40
    return Volume(voxels, Geometry.from_parts((8, 24, 32), (5.0, 2.0, 2.0)), "ct")


def _check_record(model: AutomaticModel, registered: AutomaticModelSpec) -> None:
    spec: Any = model.spec
    with rule("spec is the record it was registered with, completed by what its settings say", repr(spec)):
        require(isinstance(spec, AutomaticModelSpec), type(spec).__name__)
        require(spec.name == registered.name, f"name {spec.name!r}, registered as {registered.name!r}")
        require(bool(spec.structures), "no structures")
        require(len(set(spec.structures)) == len(spec.structures), "a structure comes twice")
    with rule("spec says under which licence code and weights are", repr(spec)):
        require(spec.licence is not None, "licence is None")
    with rule("weights_sha256 is a SHA-256, or random:SEED", repr(spec)):
        digest = getattr(model, "weights_sha256", None)
        require(isinstance(digest, str) and DIGEST.fullmatch(digest) is not None, repr(digest))


def _segmented(model: AutomaticModel, volume: Volume, names: Sequence[str]) -> AutomaticResult:
    reports: list[tuple[str, int, int]] = []
    result = model.segment(volume, tuple(names), lambda *report: reports.append(report))
    for what, done, total in reports:
        require(isinstance(what, str) and 0 <= done <= total, f"progress({what!r}, {done!r}, {total!r})")
    return result


def _check_result(result: AutomaticResult, volume: Volume, names: Sequence[str], example: str) -> None:
    shape = volume.geometry.shape
    with rule("segment gives a bool mask (z, y, x) on the image's grid for each structure asked for", example):
        require(isinstance(result, AutomaticResult), type(result).__name__)
        require(set(result.masks) == set(names), f"{sorted(result.masks)}, expected {sorted(names)}")
        for name in names:
            mask = result.masks[name]
            right = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == shape
            require(right, f"{name!r}: {show(mask) if isinstance(mask, np.ndarray) else type(mask).__name__}")
    with rule("confidences are numbers in [0, 1] of these structures, and method says how they come about", example):
        wrong = [
            f"{name!r}: {value!r}"
            for name, value in result.confidences.items()
            if name not in names or not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1)
        ]
        require(not wrong, ", ".join(wrong))
        require(bool(result.method) or not result.confidences, "confidences, and no method")
    with rule("notes are lines of text", example):
        require(all(isinstance(note, str) and "\n" not in note for note in result.notes), repr(result.notes))


def _require_same(masks: dict[str, BoolArray], result: AutomaticResult, names: Sequence[str]) -> None:
    require(set(result.masks) == set(names), f"{sorted(result.masks)}, expected {sorted(names)}")
    for name in names:
        differ = int(np.count_nonzero(np.asarray(result.masks[name]) != masks[name]))
        require(differ == 0, f"{name!r}: {differ} voxels differ")


def _turned(volume: Volume, axis: int) -> Volume:
    """The same image stored with one axis the other way around."""
    affine = volume.geometry.affine.copy()
    column, size = 3 - axis, volume.voxels.shape[axis]
    affine[:3, 3] += affine[:3, column] * (size - 1)
    affine[:3, column] *= -1
    voxels = read_only(np.ascontiguousarray(np.flip(volume.voxels, axis)))
    return replace(volume, voxels=voxels, geometry=Geometry(volume.geometry.shape, affine))
