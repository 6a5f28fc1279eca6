"""LoRA adapters on promptable models: inject, train, save and load, with PEFT.

Imports torch and peft, so import this module only where a model is adapted.

LoRA replaces the product of a frozen linear layer, ``W x``, by ``W x + (alpha / rank) B A x`` with ``A`` (rank, in)
drawn at random and ``B`` (out, rank) zero at first (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
ICLR 2022).
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
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from torch import nn

from oncoseg_core.atomic import atomic_path
from oncoseg_core.errors import ConfigError, DataError, PluginError, UsageError, WeightsError, close_matches
from oncoseg_core.interfaces import PromptableModel
from oncoseg_core.leakage import TrainedOn
from oncoseg_core.lora_settings import LoraSettings
from oncoseg_core.path_settings import PathSettings
from oncoseg_core.torchvision_guard import ensure_torchvision_imports

ensure_torchvision_imports()  # peft imports transformers, which imports torchvision
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict  # noqa: E402

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
MANIFEST_FILE = "oncoseg.json"
TRAINED_ON_FILE = "trained_on.txt"

NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


class AdapterManifest(BaseModel):
    """What ``oncoseg.json`` says of an adapter: whose it is, and the SHA-256 of the files beside it.

    ``paths`` are the settings of the image's path for each modality it was trained on: prediction must use the same.
    ``datasets`` are those it was trained on, and None where that is not known; the hashes of their cases are a file.
    ``parents`` are the SHA-256 of the manifests of the adapters that its training started from, the last one first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    base_weights_sha256: str
    lora: LoraSettings
    paths: dict[str, PathSettings]
    datasets: tuple[str, ...] | None = None
    parents: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[str, str]


def adapt(model: nn.Module, settings: LoraSettings | None = None) -> nn.Module:
    """Freeze a model and inject LoRA layers, plus a trainable copy of the modules that the policy trains whole.

    The model is changed in place and wrapped; the result answers ``encode_image``, ``decode``, ``spec`` and
    ``weights_sha256`` as the model did, has the chosen settings as ``lora_settings``, and stays in training or eval
    mode. Its output is that of the model until it is trained. ``A`` is drawn from torch's global generator.

    Args:
        model: a :class:`~oncoseg_core.interfaces.PromptableModel` that is also a ``torch.nn.Module``.
        settings: rank, alpha, dropout and policy.

    Raises:
        ConfigError: the model has no such policy.
        PluginError: the model's LoRA targets or the policy's modules do not exist in it.
        UsageError: the model is adapted already.
    """
    if isinstance(model, PeftModel):
        raise UsageError("the model is adapted already: build it anew to adapt it with other settings")
    settings = settings if settings is not None else LoraSettings()
    spec = _promptable(model).spec
    policies = spec.lora.policies
    policy = settings.policy if settings.policy is not None else next(iter(policies))
    if policy not in policies:
        raise ConfigError(f"model {spec.name!r} has no LoRA policy {policy!r}{close_matches(policy, policies)}")
    whole = _modules_trained_whole(model, policy)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=_lora_layers(model, whole),
        modules_to_save=list(whole) or None,
    )
    training = model.training
    adapted = cast("nn.Module", get_peft_model(model, config))
    adapted.lora_settings = settings.model_copy(update={"policy": policy})  # type: ignore[assignment]
    return adapted.train(training)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def set_training_mode(model: nn.Module) -> None:
    """Put a model in training mode, but leave its frozen normalisation layers in eval mode.

    In training mode a batch normalisation replaces its running statistics little by little by those of the batches it
    sees, frozen or not, and with small batches it ruins a pretrained encoder within an epoch. A normalisation layer
    none of whose own parameters is trained therefore keeps, and uses, the statistics it came with.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, NORMALISATIONS) and not any(p.requires_grad for p in module.parameters(recurse=False)):
            module.eval()


def save_adapter(
    model: nn.Module,
    directory: Path,
    *,
    versions: Mapping[str, str],
    paths: Mapping[str, PathSettings],
    trained_on: TrainedOn | None = None,
    parents: Sequence[str] = (),
) -> None:
    """Write what was trained to a folder that PEFT can read too.

    ``adapter_model.safetensors`` and ``adapter_config.json`` are PEFT's; ``oncoseg.json`` says which model and base
    weights they belong to and what their hashes are, so that of an interrupted save there remains the old adapter, or
    one that :func:`load_adapter` refuses. ``trained_on.txt`` has the content hash of each case trained on.

    Args:
        model: a model from :func:`adapt`.
        directory: made when missing; an adapter in it is replaced.
        versions: names and versions of the software that trained it.
        paths: by modality, the settings of the path that the images took.
        trained_on: the cases that it has seen, so that nobody scores it on them; not recorded when omitted.
        parents: SHA-256 of the manifests of the adapters that its training started from, the last one first.

    Raises:
        UsageError: the model is not adapted.
        StorageError: the folder cannot be written.
    """
    if not isinstance(model, PeftModel):
        raise UsageError("the model has no adapter to save: adapt it first")
    base = _promptable(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(_adapter_state(model).items())}
    config = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in model.peft_config["default"].to_dict().items()
    }
    contents = {
        WEIGHTS_FILE: safetensors.torch.save(tensors, metadata={"format": "pt"}),
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode(),
    }
    if trained_on is not None:
        contents[TRAINED_ON_FILE] = trained_on.encode()
    manifest = AdapterManifest(
        model=base.spec.name,
        base_weights_sha256=base.weights_sha256,
        lora=cast("LoraSettings", model.lora_settings),
        paths=dict(paths),
        datasets=None if trained_on is None else trained_on.datasets,
        parents=tuple(parents),
        versions=dict(versions),
        files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
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
        model: as for :func:`adapt`, which it goes through; its base weights must be those the adapter was trained on.
        directory: the adapter's folder.

    Raises:
        WeightsError: the folder or a file is missing or altered, the adapter belongs to another model or other base
            weights, or its tensors are not those of the model's LoRA layers.
    """
    base = _promptable(model)
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
    weights = _read_file(directory, WEIGHTS_FILE, manifest)
    _read_file(directory, CONFIG_FILE, manifest)
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise WeightsError(f"{directory / WEIGHTS_FILE}: not a readable safetensors file: {error}") from error
    adapted = adapt(model, manifest.lora)
    _check_tensors(tensors, _adapter_state(adapted), directory / WEIGHTS_FILE)
    set_peft_model_state_dict(adapted, tensors)
    return adapted


def _promptable(model: nn.Module) -> PromptableModel:
    """The same object, typed as what it also is: PEFT forwards the attributes of the model that it wraps."""
    return cast("PromptableModel", model)


def _modules_trained_whole(model: nn.Module, policy: str) -> tuple[str, ...]:
    """The policy's modules, after checking that PEFT, which matches by the end of a name, finds exactly these."""
    spec = _promptable(model).spec
    names = [name for name, _ in model.named_modules()]
    for wanted in spec.lora.policies[policy]:
        found = [name for name in names if name.endswith(wanted)]
        if found != [wanted]:
            problem = (
                f"means several modules ({', '.join(found)})" if len(found) > 1 else "is not a module of the model"
            )
            raise PluginError(
                f"model {spec.name!r}, LoRA policy {policy!r}: {wanted!r} {problem}; "
                "expected the full name of one module that no other module's name ends with"
            )
    return spec.lora.policies[policy]


def _lora_layers(model: nn.Module, whole: tuple[str, ...]) -> list[str]:
    """Full names of the linear layers that the record's targets name, outside the modules trained whole."""
    spec = _promptable(model).spec
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not any(name == w or name.startswith(f"{w}.") for w in whole)
    ]
    by_target = {target: [n for n in linear if f".{n}".endswith(f".{target}")] for target in spec.lora.targets}
    unmatched = [target for target, layers in by_target.items() if not layers]
    if unmatched:
        raise PluginError(
            f"model {spec.name!r}: no linear layer's name ends with the LoRA target{'s' * (len(unmatched) > 1)} "
            f"{', '.join(map(repr, unmatched))}; expected the last parts of layer names in its record"
        )
    return sorted({layer for layers in by_target.values() for layer in layers})


def _adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return cast("dict[str, torch.Tensor]", get_peft_model_state_dict(model, save_embedding_layers=False))


def read_manifest(directory: Path) -> AdapterManifest:
    """What an adapter's folder says of it.

    Raises:
        WeightsError: the folder or its record is missing, or is not one of an adapter.
    """
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        raise WeightsError(f"{directory}: no such folder; expected an adapter ({MANIFEST_FILE}, {WEIGHTS_FILE})")
    try:
        return AdapterManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WeightsError(
            f"{path}: {error.strerror or error}; expected the record that is saved beside an adapter"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise WeightsError(f"{path}: is not the record of an adapter: {where}: {first['msg']}") from error


def read_trained_on(directory: Path) -> TrainedOn | None:
    """The cases that an adapter has seen; None where it does not tell.

    Raises:
        WeightsError: the folder or a file is missing or altered.
    """
    manifest = read_manifest(directory)
    if manifest.datasets is None:
        return None
    try:
        return TrainedOn.decode(manifest.datasets, _read_file(directory, TRAINED_ON_FILE, manifest))
    except DataError as error:
        raise WeightsError(f"{directory / TRAINED_ON_FILE}: {error}") from error


def _read_file(directory: Path, name: str, manifest: AdapterManifest) -> bytes:
    path = directory / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}; the adapter is incomplete, save it again") from error
    found, expected = hashlib.sha256(content).hexdigest(), manifest.files.get(name)
    if found != expected:
        raise WeightsError(
            f"{path}: SHA-256 is {found}, {MANIFEST_FILE} says {expected}; "
            "the file was altered or its save was interrupted, save or copy the adapter again"
        )
    return content


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


def _some_of(names: set[str]) -> str:
    """The first three, and how many there are."""
    first = ", ".join(sorted(names)[:3])
    return f"{first}{', ...' if len(names) > 3 else ''} ({len(names)} in all)"
