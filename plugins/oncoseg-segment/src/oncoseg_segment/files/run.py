"""Segmenting one image file: read, segment, check, write; what ``oncoseg segment`` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from oncoseg_core import Progress, QualityError, Registry
from oncoseg_core.imaging import recognise
from oncoseg_core.inference import choose_device
from oncoseg_lora import adapter_folder
from oncoseg_segment.engine.checks import Finding, refusal_of
from oncoseg_segment.engine.postprocess import nothing_left
from oncoseg_segment.engine.resolve import placed_structures, require_known_modality, require_names, require_served
from oncoseg_segment.engine.result import SegmentationResult
from oncoseg_segment.engine.session import Session, ShouldStop, encodes_slices_again
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.files.export import stage_outputs
from oncoseg_segment.files.manifest import SegmentRun, manifest_of, manifest_text
from oncoseg_segment.files.outputs import Staging, Written, require_writable, staging
from oncoseg_segment.files.places import FileRequest, places_of
from oncoseg_segment.files.preview import stage_preview
from oncoseg_segment.prompts.structure_request import StructureRequest

Done = TypeVar("Done")


@dataclass(frozen=True, kw_only=True)
class SegmentRequest(FileRequest):
    """What to segment on an image, with which settings."""

    structures: Sequence[StructureRequest]
    settings: SegmentSettings


def segment_file(
    registry: Registry,
    request: SegmentRequest,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> dict[str, Any]:
    """Read, segment, check, write; returns the run manifest (:func:`oncoseg_segment.files.manifest.manifest_of`).

    Beside the first output, ``STEM.json`` is the manifest and ``STEM.png`` a preview.

    Raises:
        QualityError: nothing was exported, since ``strict`` has a warning, or no structure is left; the manifest is
            written and says why.
        SegmentationCancelledError: ``should_stop`` said so between two slices; nothing is written.
        OncoSegError: in one line, whatever else is wrong; no file is left behind.
    """
    settings, structures = request.settings, request.structures
    require_names(structures)
    require_served(registry, settings, structures)
    require_known_modality(registry, settings.modality)
    choose_device(settings.device)
    if settings.adapter is not None:
        adapter_folder(settings.adapter)
    image_file = recognise(registry, request.image)
    places = places_of(registry, request, image_file)
    start = time.perf_counter()
    stored = image_file.read_image(settings=request.image_settings)
    seconds = {"read": time.perf_counter() - start}
    # A series' folder may be called as the patient is: messages do not name it.
    nameless = stored if image_file.spec is None else replace(stored, source=None)
    placed_structures(structures, nameless)
    outputs = places.structures
    require_writable(outputs.outputs, outputs.exporters, [one.name for one in structures], stored.geometry)
    session = Session(nameless, settings, registry=registry, keep_embeddings=encodes_slices_again(structures))
    result = replace(session.prompt(*structures, progress=progress, should_stop=should_stop), image=stored)
    seconds |= result.seconds
    findings = list(result.findings)
    refusal = refusal_of(findings) if request.strict else None
    refusal = refusal or nothing_left(result.structures, may_be_empty=outputs.may_be_empty)
    run = SegmentRun(request.image, request.image_settings, image_file.spec, request.identify, result)
    with staging(places.planned, places.inputs, overwrite=request.overwrite) as stage:
        written: list[Written] = []
        if refusal is None:
            written = _timed(seconds, "export", lambda: stage_outputs(stage, result, outputs))
        problem = _timed(seconds, "preview", lambda: _draw(stage, places.preview, result))
        if problem is not None:
            findings.append(Finding("note", "preview", problem))
        preview = None if problem is not None else places.preview
        manifest = manifest_text(manifest_of(run, findings, written, preview, seconds, refusal))
        stage.write(places.manifest, manifest)
        stage.commit()
    if refusal is not None:
        raise QualityError(f"nothing was exported: {refusal}{places.stale()}; {places.manifest} tells all")
    return dict(json.loads(manifest))


def _draw(stage: Staging, path: Path, result: SegmentationResult) -> str | None:
    """Draw the preview; why not, where it cannot be."""
    preprocessor, volume = result.fitted.preprocessor, result.fitted.volume
    channels = list(preprocessor.channels(volume))

    def normalised(index: int) -> npt.NDArray[np.float32]:
        slice_ = preprocessor.normalizer.apply(volume.voxels[:, index], result.fitted.stats)[channels]
        return np.asarray(slice_, np.float32)

    return stage_preview(stage, path, result.masks, volume, normalised)


def _timed(seconds: dict[str, float], phase: str, work: Callable[[], Done]) -> Done:
    start = time.perf_counter()
    done = work()
    seconds[phase] = time.perf_counter() - start
    return done
