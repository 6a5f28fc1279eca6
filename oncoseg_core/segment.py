"""Segmenting one file from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core.adapter_manifest import read_manifest
from oncoseg_core.adapter_store import adapter_folder
from oncoseg_core.channels import parse_channels
from oncoseg_core.config import apply_overrides, validate
from oncoseg_core.device import choose_device
from oncoseg_core.errors import UsageError, close_matches
from oncoseg_core.image_io import read_volume, write_segmentation
from oncoseg_core.interfaces import Progress
from oncoseg_core.path_settings import PathSettings, parts_of
from oncoseg_core.precision import Precision
from oncoseg_core.predictor import FittedVolume, Predictor, SliceResult
from oncoseg_core.preprocess import Preprocessor
from oncoseg_core.prompt_options import PromptOptions, parse_slices
from oncoseg_core.prompts import Prompt, Text, check_on_slice
from oncoseg_core.propagate import PropagationSettings, propagate
from oncoseg_core.records import ModelSpec, NormalizerSpec
from oncoseg_core.registry import Registry
from oncoseg_core.segment_report import OnSlice, report_of
from oncoseg_core.volume import BoolArray, Segmentation, Volume
from oncoseg_core.zoom import ZoomSettings


@dataclass(frozen=True)
class SegmentRequest:
    """What the command line asked for; see ``oncoseg segment --help``.

    ``zoom`` is ``off``, ``auto`` or ``always``. The ``…_settings`` are ``KEY=VALUE``.
    """

    image: Path
    model: str
    prompt: PromptOptions
    slice_index: int | None = None
    slices: str | None = None
    propagate: bool = False
    propagate_settings: Sequence[str] = ()
    zoom: str = "auto"
    zoom_settings: Sequence[str] = ()
    model_settings: Sequence[str] = ()
    device: str = "auto"
    precision: Precision = "fp32"
    modality: str | None = None
    channels: str | None = None
    adapter: str | None = None
    target: str | None = None
    output: Path | None = None
    overwrite: bool = False


def segment_file(registry: Registry, request: SegmentRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Read, segment, write; returns what was done, as plain values (:func:`oncoseg_core.segment_report.report_of`).

    Raises:
        OncoSegError: in one line, whatever is wrong; no file is left behind.
    """
    prompt = request.prompt.prompt()
    zoom = _zoom(request)
    following = _propagation(request)
    spec = registry.get(ModelSpec, request.model)
    spec.require_served(prompt, adapted=request.adapter is not None)
    adapter = None if request.adapter is None else adapter_folder(request.adapter)
    if request.modality is not None:
        for part in parts_of(request.modality):
            registry.get(NormalizerSpec, part)
    device = choose_device(request.device)
    output = request.output or Path(f"{_stem(request.image)}_mask.nii.gz")
    if output.resolve() == request.image.resolve():
        raise UsageError(f"--output {output} is the image itself; give the mask another name")
    if output.exists() and not request.overwrite:
        raise UsageError(f"{output} exists; give another --output, or --overwrite to replace it")
    volume = read_volume(request.image, request.modality or "unknown")
    modality, how = (request.modality, "as given") if request.modality else recognise_modality(registry, volume)
    volume = replace(volume, modality=modality)
    depth, height, width = volume.geometry.shape
    chosen = parse_slices(request.slice_index, request.slices, depth, volume.name)
    if following is not None and len(chosen) > 1:
        raise UsageError("--propagate starts from one slice; give --slice K, not --slices")
    check_on_slice(prompt, height, width)
    preprocessor = Preprocessor(registry, modality, spec, _path_settings(request, adapter, modality))
    model = _model(registry, request, adapter).to(device)
    predictor = Predictor(model, {modality: preprocessor}, device=device, precision=request.precision, zoom=zoom)
    fitted = predictor.fit(volume)
    if following is None:
        mask, found = _slice_by_slice(predictor, fitted, chosen, prompt, progress)
        ended = None
    else:
        mask, found, ended = _followed(predictor, fitted, chosen[0], prompt, following, progress)
    target = request.target or next((hint.text for hint in prompt if isinstance(hint, Text)), "object")
    holding = [one.score for one in found if one.voxels] or [one.score for one in found]
    segmentation = Segmentation({target: mask}, volume.geometry, {target: float(np.mean(holding))})
    write_segmentation(segmentation, output)
    return {
        "mask": str(output),
        **report_of(segmentation, found, ended, volume, model, zoom),
        "modality": f"{modality} ({how})",
        "device": f"{device.type}, {request.precision}",
    }


def _slice_by_slice(
    predictor: Predictor, fitted: FittedVolume, chosen: range, prompt: Prompt, progress: Progress | None
) -> tuple[BoolArray, list[OnSlice]]:
    """The same prompt on every chosen slice, each on its own."""
    mask = np.zeros(fitted.volume.geometry.shape, dtype=bool)
    found = []
    for done, index in enumerate(chosen, start=1):
        (result,) = predictor.predict_slice(fitted, index, [prompt])
        mask[index] = result.mask
        found.append(_on_slice(index, result))
        if progress is not None:
            progress("slices", done, len(chosen))
    return mask, found


def _followed(
    predictor: Predictor,
    fitted: FittedVolume,
    index: int,
    prompt: Prompt,
    settings: PropagationSettings,
    progress: Progress | None,
) -> tuple[BoolArray, list[OnSlice], tuple[str, str]]:
    """One object through the volume, from the prompted slice."""
    done = propagate(predictor, fitted, index, prompt, settings, progress)
    found = []
    for at, score in done.scores.items():
        start = at == index
        result = replace(done.start, mask=done.mask[at], score=score, window=done.windows[at])
        found.append(_on_slice(at, result if start else replace(result, presence=None, instances=None)))
    return done.mask, found, done.ended


def _on_slice(index: int, result: SliceResult) -> OnSlice:
    return OnSlice(
        index=index,
        voxels=int(np.count_nonzero(result.mask)),
        score=result.score,
        presence=result.presence,
        instances=None if result.instances is None else len(result.instances),
        window=result.window,
        cut_off=result.window is not None and result.window.cuts(result.mask),
    )


def _zoom(request: SegmentRequest) -> ZoomSettings | None:
    if request.zoom == "off":
        if request.zoom_settings:
            raise UsageError("--zoom-set does nothing without --zoom auto or --zoom always")
        return None
    values = apply_overrides({}, request.zoom_settings, "--zoom-set", "expected_mm=12")
    return validate(ZoomSettings, {**values, "when": request.zoom}, "--zoom-set")


def _propagation(request: SegmentRequest) -> PropagationSettings | None:
    if not request.propagate:
        if request.propagate_settings:
            raise UsageError("--propagate-set does nothing without --propagate")
        return None
    values = apply_overrides({}, request.propagate_settings, "--propagate-set", "minimum_score=0.7")
    return validate(PropagationSettings, values, "--propagate-set")


def _model(registry: Registry, request: SegmentRequest, adapter: Path | None) -> Any:
    settings = apply_overrides({}, request.model_settings, "--model-set", "weights=FILE")
    model = registry.build(ModelSpec, request.model, settings)
    if adapter is None:
        return model
    from oncoseg_core.adapters import load_adapter

    return load_adapter(model, adapter)


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


def _one_of(names: list[str]) -> str:
    return close_matches("", names).removeprefix("; ")


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
