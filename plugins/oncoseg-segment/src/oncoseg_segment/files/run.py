"""Segmenting one image: read, segment, judge, write; what ``oncoseg segment`` does."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import MissingDependencyError, NormalizerSpec, Progress, QualityError, Registry, Segmentation
from oncoseg_core.imaging import format_of, read_image, reader_settings
from oncoseg_core.inference import EmbeddingCache, Predictor, choose_device
from oncoseg_core.lora import adapter_folder
from oncoseg_core.path import Preprocessor, parts_of
from oncoseg_segment.engine.checks import Finding, examine_image, refusal_of
from oncoseg_segment.engine.postprocess import findings_of, judge, nothing_left
from oncoseg_segment.engine.report import examine_model
from oncoseg_segment.engine.request import SegmentRequest
from oncoseg_segment.engine.resolve import (
    build_model,
    modality_of,
    path_settings,
    placed_structures,
    propagation_settings,
    require_served,
    zoom_settings,
)
from oncoseg_segment.engine.structures import segment_structures
from oncoseg_segment.files.manifest import Run, manifest_of, manifest_text, provenance_of
from oncoseg_segment.files.outputs import (
    Output,
    Staging,
    Written,
    export_segmentation,
    parse_export_settings,
    parse_output,
    prepare_exporters,
    require_free,
    require_writable,
    staging,
)
from oncoseg_segment.files.preview import draw_preview

__all__ = ["SegmentRequest", "segment_file"]


@dataclass
class _Clock:
    """Wall time by what was done."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


@dataclass(frozen=True)
class _Places:
    """Where everything is written; ``exporters`` are built, one for each output."""

    outputs: Sequence[Output]
    exporters: Sequence[Any]
    manifest: Path
    preview: Path


def segment_file(registry: Registry, request: SegmentRequest, progress: Progress | None = None) -> dict[str, Any]:
    """Read, segment, judge, write; returns the run manifest (:func:`oncoseg_segment.files.manifest.manifest_of`).

    Beside the first output, ``STEM.json`` is the manifest and ``STEM.png`` a preview.

    Raises:
        QualityError: nothing was exported, since ``strict`` found something, or no structure is left; the manifest is
            written and says why.
        OncoSegError: in one line, whatever else is wrong; no file is left behind.
    """
    clock = _Clock()
    zoom, following = zoom_settings(request), propagation_settings(request)
    spec = require_served(registry, request)
    adapter = None if request.adapter is None else adapter_folder(request.adapter)
    if request.modality is not None:
        for part in parts_of(request.modality):
            registry.get(NormalizerSpec, part)
    device = choose_device(request.device)
    reader = format_of(registry, request.image)
    image_settings = reader_settings(registry, request.image, request.image_settings, "--image-set")
    places = _places(registry, request, image_settings, series=reader is not None)
    with clock.phase("read"):
        stored = read_image(registry, request.image, settings=image_settings)
    # A series' folder may be called as the patient is: messages do not tell it.
    nameless = stored if reader is None else replace(stored, source=None)
    modality, how = modality_of(registry, request, nameless)
    placed = placed_structures(request, nameless)
    require_writable(places.outputs, places.exporters, [structure.name for structure in placed], stored.geometry)
    with clock.phase("model"):
        preprocessor = Preprocessor(registry, modality, spec, path_settings(request, adapter, modality))
        model = build_model(registry, request, adapter).to(device)
    cache = EmbeddingCache() if len(placed) > 1 and any(structure.propagate for structure in placed) else None
    predictor = Predictor(model, {modality: preprocessor}, cache, device, request.precision, zoom)
    with clock.phase("segment"):
        fitted = predictor.fit(replace(nameless, modality=modality))
        results = segment_structures(predictor, fitted, placed, following, progress)
    with clock.phase("judge"):
        judged = judge(
            results, fitted.volume, preprocessor.normalization.specs, request.overlaps, request.minimum_score
        )
        findings = [
            *examine_image(stored, fitted.volume, modality, preprocessor.normalization.specs),
            *examine_model(model),
        ]
        findings += [finding for one in judged for finding in findings_of(one)]
    refusal = refusal_of(findings) if request.strict else None
    may_be_empty = not any(output.needs_source for output in places.outputs)
    refusal = refusal or nothing_left(judged, may_be_empty=may_be_empty)
    run = Run(
        registry,
        request,
        reader,
        stored,
        fitted,
        (modality, how),
        model,
        adapter,
        device,
        zoom,
        following,
        judged,
        placed,
    )
    with staging() as stage:
        written: list[Written] = []
        if refusal is None:
            with clock.phase("export"):
                written = export_segmentation(stage, registry, _jobs(places, run), stored, image_settings)
        with clock.phase("preview"):
            problem = _draw(stage, places.preview, run)
        if problem is not None:
            findings.append(Finding("note", "preview", problem))
        preview = None if problem is not None else places.preview
        manifest = manifest_text(manifest_of(run, findings, written, preview, clock.seconds, refusal))
        stage.write(places.manifest, manifest)
        stage.commit()
    if refusal is not None:
        old = [output.path.name for output in places.outputs if output.path.exists()]
        stale = f"; from an earlier run there is still {', '.join(old)}" if old else ""
        raise QualityError(f"nothing was exported: {refusal}{stale}; {places.manifest} tells all")
    return dict(json.loads(manifest))


def _places(registry: Registry, request: SegmentRequest, image_settings: dict[str, Any], *, series: bool) -> _Places:
    """Where everything goes, once it is sure that nothing is in the way."""
    default = "series_mask.nii.gz" if series else f"{_stem(request.image)}_mask.nii.gz"
    outputs = [parse_output(registry, text) for text in request.outputs or [default]]
    first = outputs[0].path
    manifest, preview = (first.with_name(f"{_stem(first)}{suffix}") for suffix in (".json", ".png"))
    paths = [*(output.path for output in outputs), manifest, preview]
    require_free(paths, [request.image, *request.inputs], overwrite=request.overwrite)
    settings = parse_export_settings(request.export_settings, outputs)
    exporters = prepare_exporters(registry, outputs, request.image, image_settings, settings)
    return _Places(outputs, exporters, manifest, preview)


def _jobs(places: _Places, run: Run) -> list[tuple[Output, Any, Segmentation]]:
    """What each exporter is to write.

    A label image holds all structures, those left out being empty, so that the values of the others stay what they are.
    """
    scores = {one.name: one.result.score for one in run.judged}
    geometry, provenance = run.fitted.volume.geometry, provenance_of(run)
    exported = {one.name: one.mask for one in run.judged if one.left_out is None}
    whole = {one.name: exported.get(one.name, np.zeros_like(one.mask)) for one in run.judged}
    belonging = Segmentation(exported, geometry, {name: scores[name] for name in exported}, provenance)
    labels = Segmentation(whole, geometry, scores, provenance)
    return [
        (output, exporter, belonging if output.needs_source else labels)
        for output, exporter in zip(places.outputs, places.exporters, strict=True)
    ]


def _draw(stage: Staging, path: Path, run: Run) -> str | None:
    """Draw the preview; what to tell where it cannot be."""
    preprocessor, volume = run.fitted.preprocessor, run.fitted.volume
    channels = list(preprocessor.channels(volume))

    def shown(index: int) -> Any:
        return preprocessor.normalizer.apply(volume.voxels[:, index], run.fitted.stats)[channels]

    masks = {one.name: one.mask for one in run.judged if one.left_out is None}
    try:
        png = draw_preview(masks, volume.geometry, shown, physical=volume.physical)
    except MissingDependencyError as error:
        return f"no preview was drawn: {error}"
    stage.write(path, png)
    return None


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name
