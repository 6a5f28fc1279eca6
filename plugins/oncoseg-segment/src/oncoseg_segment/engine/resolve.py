"""What a request to segment means: its settings checked, its structures placed, its model built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oncoseg_core import ModelSpec, NormalizerSpec, PromptError, Registry, UsageError, Volume, close_matches
from oncoseg_core.inference import PropagationSettings
from oncoseg_core.lora import read_manifest
from oncoseg_core.path import PathSettings, ZoomSettings, parse_channels
from oncoseg_core.plugins import apply_overrides, validate
from oncoseg_segment.engine.request import SegmentRequest
from oncoseg_segment.prompts.placement import PlacedStructure, place


def require_served(registry: Registry, request: SegmentRequest) -> ModelSpec:
    """The model's record, once it is sure that it takes what is asked for.

    Raises:
        PromptError: nothing is asked for, or the model, as it is adapted, does not take a kind of prompt.
        UsageError: two structures have one name.
    """
    names = [structure.name for structure in request.structures]
    if not names:
        raise PromptError("no prompt was given: expected at least one structure")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two structures are called {name!r}; give each a name of its own")
    spec = registry.get(ModelSpec, request.model)
    for kind in sorted({kind for structure in request.structures for kind in structure.kinds}):
        refusal = spec.refusal(kind, adapted=request.adapter is not None)
        if refusal is not None:
            raise PromptError(refusal)
    return spec


def placed_structures(request: SegmentRequest, volume: Volume) -> list[PlacedStructure]:
    """The prompts of each structure on the slices of the image.

    Raises:
        UsageError: as for :func:`oncoseg_segment.prompts.placement.place`; of several structures, the message says
        which.
    """
    placed = []
    for structure in request.structures:
        try:
            placed.append(place(structure, volume))
        except UsageError as error:
            if len(request.structures) == 1:
                raise
            raise type(error)(f"structure {structure.name!r}: {error}") from error
    return placed


def zoom_settings(request: SegmentRequest) -> ZoomSettings | None:
    """How to zoom; None for not at all.

    Raises:
        UsageError: a setting is wrong, or nothing would read it.
    """
    if request.zoom == "off":
        if request.zoom_settings:
            raise UsageError("--zoom-set does nothing without --zoom auto or --zoom always")
        return None
    values = apply_overrides({}, request.zoom_settings, "--zoom-set", "expected_mm=12")
    return validate(ZoomSettings, {**values, "when": request.zoom}, "--zoom-set")


def propagation_settings(request: SegmentRequest) -> PropagationSettings | None:
    """How to follow structures; None where none is followed.

    Raises:
        UsageError: a setting is wrong, or nothing would read it.
    """
    if not any(structure.propagate for structure in request.structures):
        if request.propagate_settings:
            raise UsageError("--propagate-set does nothing without --propagate")
        return None
    values = apply_overrides({}, request.propagate_settings, "--propagate-set", "minimum_score=0.7")
    return validate(PropagationSettings, values, "--propagate-set")


def build_model(registry: Registry, request: SegmentRequest, adapter: Path | None) -> Any:
    """The model, adapted if an adapter is given."""
    settings = apply_overrides({}, request.model_settings, "--model-set", "weights=FILE")
    model = registry.build(ModelSpec, request.model, settings)
    if adapter is None:
        return model
    from oncoseg_core.lora import load_adapter

    return load_adapter(model, adapter)


def path_settings(request: SegmentRequest, adapter: Path | None, modality: str) -> PathSettings:
    """The path that the adapter was trained with, if there is one, and the channels asked for.

    Raises:
        UsageError: the adapter was not trained on that modality.
    """
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


def modality_of(registry: Registry, request: SegmentRequest, volume: Volume) -> tuple[str, str]:
    """What the values are taken for, and how that is known.

    Raises:
        UsageError: as for :func:`recognise_modality`.
    """
    if request.modality is not None:
        return request.modality, "as given"
    if volume.modality != "unknown":
        return volume.modality, "as the image's file tells"
    return recognise_modality(registry, volume)


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
