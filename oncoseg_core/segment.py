"""Segmenting one file from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core.adapter_manifest import read_manifest
from oncoseg_core.adapter_store import adapter_folder
from oncoseg_core.channels import parse_channels
from oncoseg_core.errors import PromptError, UsageError, close_matches
from oncoseg_core.image_io import read_volume, write_segmentation
from oncoseg_core.path_settings import PathSettings, parts_of
from oncoseg_core.predictor import Predictor
from oncoseg_core.preprocess import Preprocessor
from oncoseg_core.prompts import Box
from oncoseg_core.records import ModelSpec, NormalizerSpec
from oncoseg_core.registry import Registry
from oncoseg_core.volume import Volume


@dataclass(frozen=True)
class SegmentRequest:
    """What the command line asked for; see ``oncoseg segment --help``."""

    image: Path
    model: str
    box: str
    slice_index: int | None
    modality: str | None
    channels: str | None
    adapter: str | None
    output: Path | None
    overwrite: bool


def segment_file(registry: Registry, request: SegmentRequest) -> dict[str, Any]:
    """Read, segment, write; returns what was done, as plain values.

    Raises:
        OncoSegError: in one line, whatever is wrong; no file is left behind.
    """
    box = parse_box(request.box)
    spec = registry.get(ModelSpec, request.model)
    adapter = None if request.adapter is None else adapter_folder(request.adapter)
    if request.modality is not None:
        for part in parts_of(request.modality):
            registry.get(NormalizerSpec, part)
    output = request.output or Path(f"{_stem(request.image)}_mask.nii.gz")
    if output.resolve() == request.image.resolve():
        raise UsageError(f"--output {output} is the image itself; give the mask another name")
    if output.exists() and not request.overwrite:
        raise UsageError(f"{output} exists; give another --output, or --overwrite to replace it")
    volume = read_volume(request.image, request.modality or "unknown")
    modality, how = (request.modality, "as given") if request.modality else recognise_modality(registry, volume)
    volume = replace(volume, modality=modality)
    depth = volume.geometry.shape[0]
    if request.slice_index is None and depth > 1:
        raise UsageError(f"{request.image}: has {depth} slices; say on which one the box is: --slice 0 to {depth - 1}")
    index = request.slice_index or 0
    preprocessor = Preprocessor(registry, modality, spec, _path_settings(request, adapter, modality))
    model = registry.build(ModelSpec, request.model)
    if adapter is not None:
        from oncoseg_core.adapters import load_adapter

        model = load_adapter(model, adapter)
    predictor = Predictor(model, {modality: preprocessor})
    segmentation = predictor.segment(volume, {index: (box,)})
    write_segmentation(segmentation, output)
    (mask,) = segmentation.masks.values()
    voxels = int(np.count_nonzero(mask))
    (score,) = segmentation.scores.values()
    size = f"{voxels} voxels"
    if volume.physical:
        size += f", {voxels * float(np.prod(volume.geometry.spacing)) / 1000:.3g} mL on this slice"
    return {
        "mask": str(output),
        "size": size,
        "model's own score": round(score, 3),
        "modality": f"{modality} ({how})",
        "slice": index,
    }


def _path_settings(request: SegmentRequest, adapter: Path | None, modality: str) -> PathSettings:
    """The path that the adapter was trained with, if there is one, and the channels asked for."""
    settings = PathSettings()
    if adapter is not None:
        trained_on = read_manifest(adapter).paths
        if modality not in trained_on:
            raise UsageError(
                f"{adapter}: the adapter was trained on {', '.join(sorted(trained_on))}, not on {modality!r}"
            )
        settings = trained_on[modality]
    if request.channels is not None:
        settings = settings.model_copy(update={"channels": parse_channels(request.channels)})
    return settings


def recognise_modality(registry: Registry, volume: Volume) -> tuple[str, str]:
    """The one modality whose normalizer is sure that these values are its own, and how that was found.

    Raises:
        UsageError: none is sure, or several are.
    """
    names = [spec.modality for spec in registry.specs(NormalizerSpec)]
    sure = [name for name in names if registry.build(NormalizerSpec, name).recognises(volume.voxels)]
    if len(sure) != 1:
        raise UsageError(
            f"{volume.name}: its modality cannot be told from the values; give --modality, {_one_of(names)}"
        )
    low, high = volume.voxels.min(), volume.voxels.max()
    return sure[0], f"recognised by its values, {low} to {high}; --modality overrides"


def parse_box(text: str) -> Box:
    """``x0,y0,x1,y1`` as a box.

    Raises:
        PromptError: it is not four numbers, or has no area.
    """
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        raise PromptError(
            f"--box {text}: expected four numbers x0,y0,x1,y1 in pixels, such as 120,200,180,260"
        ) from None
    return Box(x0, y0, x1, y1)


def _one_of(names: list[str]) -> str:
    return close_matches("", names).removeprefix("; ")


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
