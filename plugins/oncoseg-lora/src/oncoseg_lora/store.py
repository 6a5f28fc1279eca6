"""Storing LoRA adapters: safetensors that PEFT reads too, a manifest, and a card for people.

Imports torch and peft; what only reads the manifest is in :mod:`oncoseg_lora.manifest`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from oncoseg_core import PromptableModel, UsageError, WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_core.path import PathSettings
from oncoseg_core.system import atomic_path
from oncoseg_lora.card import Evidence, render_card
from oncoseg_lora.inject import adapt, trained_parts
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.manifest import (
    CARD_FILE,
    CONFIG_FILE,
    MANIFEST_FILE,
    TRAINED_ON_FILE,
    WEIGHTS_FILE,
    AdapterManifest,
    HashedFile,
    read_checked,
    read_manifest,
)
from oncoseg_lora.peft_config import check_agreement, parse_config
from oncoseg_lora.settings import LoraSettings

ensure_torchvision_imports()  # peft imports transformers, which imports torchvision
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402


def save_adapter(
    model: nn.Module,
    directory: Path,
    *,
    versions: Mapping[str, str],
    paths: Mapping[str, PathSettings],
    trained_on: TrainedOn | None = None,
    parents: Sequence[str] = (),
    evidence: Evidence | None = None,
) -> None:
    """Write what was trained to a folder that PEFT can read too.

    ``adapter_model.safetensors`` and ``adapter_config.json`` are PEFT's; ``oncoseg.json`` says which model and base
    weights they belong to and what their hashes are, so that of an interrupted save there remains the old adapter, or
    one that :func:`load_adapter` refuses. ``trained_on.txt`` has the content hash of each case trained on.
    ``README.md`` is the card for people, who edit it, so no hash covers it.

    Args:
        model: a model from :func:`~oncoseg_lora.inject.adapt`.
        directory: made when missing; an adapter in it is replaced, its card too.
        versions: names and versions of the software that trained it.
        paths: by modality, the settings of the path that the images took.
        trained_on: the cases that it has seen, so that nobody scores it on them; not recorded when omitted.
        parents: SHA-256 of the manifests of the adapters that its training started from, the last one first.
        evidence: splits, scores and data, for whoever has to trust it.

    Raises:
        UsageError: the model is not adapted.
        StorageError: the folder cannot be written.
    """
    if not isinstance(model, PeftModel):
        raise UsageError("the model has no adapter to save: adapt it first")
    base = cast("PromptableModel", model)  # PEFT forwards the attributes of the model that it wraps
    evidence = evidence if evidence is not None else Evidence()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(adapter_state(model).items())}
    config = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in model.peft_config["default"].to_dict().items()
    }
    hashed: dict[HashedFile, bytes] = {
        WEIGHTS_FILE: safetensors.torch.save(tensors, metadata={"format": "pt"}),
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode(),
    }
    if trained_on is not None:
        hashed[TRAINED_ON_FILE] = trained_on.encode()
    manifest = AdapterManifest(
        model=base.spec.name,
        base_weights_sha256=base.weights_sha256,
        lora=cast("LoraSettings", model.lora_settings),
        paths=dict(paths),
        datasets=None if trained_on is None else trained_on.datasets,
        parents=tuple(parents),
        splits=evidence.splits,
        metrics=evidence.metrics,
        leakage=evidence.leakage,
        trained=trained_parts(model),
        prompts=evidence.prompts,
        versions=dict(versions),
        files={name: hashlib.sha256(content).hexdigest() for name, content in hashed.items()},
    )
    contents: dict[str, bytes] = dict(hashed.items())
    contents[CARD_FILE] = render_card(manifest, base.spec, evidence).encode()
    contents[MANIFEST_FILE] = manifest.model_dump_json(indent=2).encode()
    # All are written before the first is renamed: a full disk leaves the old adapter as it was. The manifest, entered
    # first, is renamed last.
    with ExitStack() as stack:
        written = {name: stack.enter_context(atomic_path(directory / name)) for name in reversed(contents)}
        for name, content in contents.items():
            written[name].write_bytes(content)


def load_adapter(model: nn.Module, directory: Path) -> nn.Module:
    """Adapt a model with an adapter that :func:`save_adapter` wrote; only safetensors are read, never pickle.

    Args:
        model: as for :func:`~oncoseg_lora.inject.adapt`, which it goes through; its base weights must be those the
            adapter was trained on.
        directory: the adapter's folder.

    Raises:
        WeightsError: the folder or a file is missing or altered, the adapter belongs to another model or other base
            weights, PEFT's record in it contradicts the manifest, or its tensors are not those of the model's LoRA
            layers.
    """
    base = cast("PromptableModel", model)
    manifest = read_manifest(directory)
    if manifest.model != base.spec.name:
        raise WeightsError(
            f"{directory}: the adapter was trained for model {manifest.model!r}, this is {base.spec.name!r}; "
            "choose that model or another adapter"
        )
    if manifest.base_weights_sha256 != base.weights_sha256:
        raise WeightsError(
            f"{directory}: the adapter was trained on base weights {manifest.base_weights_sha256}, the model has "
            f"{base.weights_sha256}; use the weights it was trained on"
        )
    weights = read_checked(directory, WEIGHTS_FILE, manifest)
    config = parse_config(read_checked(directory, CONFIG_FILE, manifest), directory / CONFIG_FILE)
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise WeightsError(f"{directory / WEIGHTS_FILE}: not a readable safetensors file: {error}") from error
    adapted = adapt(model, manifest.lora)
    check_agreement(adapted, config, directory / CONFIG_FILE, base.spec.hub_id)
    _check_tensors(tensors, adapter_state(adapted), directory / WEIGHTS_FILE)
    set_adapter_state(adapted, tensors)
    adapted.trained_parts = manifest.trained  # type: ignore[assignment]
    adapted.trained_prompts = manifest.prompts  # type: ignore[assignment]
    return adapted


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What of an adapted model is stored, by PEFT's names."""
    return cast("dict[str, torch.Tensor]", get_peft_model_state_dict(model, save_embedding_layers=False))


def set_adapter_state(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an adapted model the tensors of an adapter, by PEFT's names."""
    set_peft_model_state_dict(model, dict(tensors))


def _check_tensors(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], path: Path) -> None:
    problems = {"lacks": expected.keys() - found.keys(), "has unknown": found.keys() - expected.keys()}
    told = [f"{what} {_some_of(names)}" for what, names in problems.items() if names]
    if told:
        raise WeightsError(f"{path}: not the adapter of this model's LoRA layers: {', '.join(told)}")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the model expects {tuple(expected[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds NaN or infinite numbers: its training diverged, or it is damaged")


def _some_of(names: set[str]) -> str:
    """The first three, and how many there are."""
    first = ", ".join(sorted(names)[:3])
    return f"{first}{', ...' if len(names) > 3 else ''} ({len(names)} in all)"
