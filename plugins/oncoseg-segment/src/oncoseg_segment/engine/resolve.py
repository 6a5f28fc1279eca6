"""What settings mean for an image: the model's record and weights, its path, the modality, the prompts' places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from oncoseg_clicks import record_with_clicks, with_clicks
from oncoseg_core import (
    ModelSpec,
    NormalizerSpec,
    PromptableModel,
    PromptError,
    Registry,
    UsageError,
    Volume,
    close_matches,
)
from oncoseg_core.path import PathSettings, parts_of
from oncoseg_lora import read_manifest
from oncoseg_segment.engine.settings import SegmentSettings
from oncoseg_segment.prompts.placement import PlacedStructure, place
from oncoseg_segment.prompts.structure_request import StructureRequest


def require_names(structures: Sequence[StructureRequest]) -> None:
    """Refuse no structure at all, and two of one name.

    Raises:
        PromptError: there is none.
        UsageError: two structures have one name.
    """
    names = [structure.name for structure in structures]
    if not names:
        raise PromptError("no prompt was given: expected at least one structure")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two structures are called {name!r}; give each a name of its own")


def require_served(registry: Registry, settings: SegmentSettings, structures: Sequence[StructureRequest]) -> ModelSpec:
    """The model's record, with clicks where a search can answer them, once it is sure that it takes these prompts.

    Raises:
        PromptError: the model, as it is adapted, does not take a kind of prompt.
    """
    spec = record_with_clicks(registry.get(ModelSpec, settings.model))
    for kind in sorted({kind for structure in structures for kind in structure.kinds}):
        refusal = spec.refusal(kind, adapted=settings.adapter is not None)
        if refusal is not None:
            raise PromptError(refusal)
    return spec


def placed_structures(structures: Sequence[StructureRequest], volume: Volume) -> list[PlacedStructure]:
    """The prompts of each structure on the slices of the image.

    Raises:
        UsageError: as for :func:`oncoseg_segment.prompts.placement.place`; of several structures, the message says
            which.
    """
    placed = []
    for structure in structures:
        try:
            placed.append(place(structure, volume))
        except UsageError as error:
            if len(structures) == 1:
                raise
            raise type(error)(f"structure {structure.name!r}: {error}") from error
    return placed


def build_model(registry: Registry, settings: SegmentSettings, adapter: Path | None) -> PromptableModel:
    """The model, adapted if an adapter is given, and answering clicks; on the fastest engine that it has here."""
    engine = {"engine": "auto"} if registry.get(ModelSpec, settings.model).engines else {}
    return with_clicks(adapted_model(registry, settings.model, engine | settings.model_settings, adapter))


def adapted_model(
    registry: Registry, model: str, model_settings: Mapping[str, Any], adapter: Path | None
) -> PromptableModel:
    """The model, adapted if an adapter is given."""
    built: Any = registry.build(ModelSpec, model, model_settings)
    if adapter is not None:
        from oncoseg_lora import load_adapter  # PEFT and transformers take 110 MB, of use to adapters alone

        built = load_adapter(built, adapter)
    return cast("PromptableModel", built)


def path_settings(settings: SegmentSettings, adapter: Path | None, modality: str) -> PathSettings:
    """The path that the adapter was trained with, if there is one, and the channels of the settings.

    Raises:
        UsageError: the adapter was not trained on that modality, or with another fit than that of the settings.
    """
    path = PathSettings(fit=settings.fit or "letterbox")
    if adapter is not None:
        trained_on = read_manifest(adapter).paths
        if modality not in trained_on:
            raise UsageError(
                f"{adapter}: the adapter was trained on {', '.join(sorted(trained_on))}, not on {modality!r}"
            )
        path = trained_on[modality]
        if settings.fit not in {None, path.fit}:
            raise UsageError(
                f"{adapter}: the adapter was trained with `fit` {path.fit}, not {settings.fit}: leave `fit` out, or "
                "choose another adapter"
            )
    if settings.channels is not None:
        path = path.model_copy(update={"channels": settings.channels})
    return path


def require_known_modality(registry: Registry, modality: str | None) -> None:
    """Refuse a modality that no plugin provides.

    Raises:
        UnknownComponentError: with close matches.
    """
    if modality is not None:
        for part in parts_of(modality):
            registry.get(NormalizerSpec, part)


def modality_of(registry: Registry, settings: SegmentSettings, volume: Volume) -> tuple[str, str]:
    """What the values are taken for, and how that is known.

    Raises:
        UsageError: as for :func:`recognise_modality`.
    """
    if settings.modality is not None:
        return settings.modality, "as given"
    if volume.modality != "unknown":
        return volume.modality, "as the image's file tells"
    return recognise_modality(registry, volume)


def recognise_modality(registry: Registry, volume: Volume) -> tuple[str, str]:
    """The one modality whose normalizer is sure that these values are its own, and how that was decided.

    Raises:
        UsageError: none is sure, or several are.
    """
    names = [spec.modality for spec in registry.specs(NormalizerSpec)]
    sure = [name for name in names if registry.build(NormalizerSpec, name).recognises(volume.voxels)]
    if len(sure) != 1:
        known = close_matches("", names).removeprefix("; ")
        raise UsageError(f"{volume.name}: its modality cannot be told from the values; give `modality`, {known}")
    low, high = volume.voxels.min(), volume.voxels.max()
    return sure[0], f"recognised by its values, {low} to {high}; `modality` overrides"
