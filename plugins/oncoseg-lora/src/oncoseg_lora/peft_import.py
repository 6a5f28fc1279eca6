"""Adapters of other programs: a folder that PEFT wrote becomes one of ours, or is refused.

Nothing is dropped: every tensor of the adapter has its place in the model, or the adapter is refused. Where another
program keeps apart what the model has in one layer (query, key and value), the parts become blocks of one LoRA pair of
a higher rank, which gives the same product.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from oncoseg_core import Fit, PromptableModel, UsageError, WeightsError
from oncoseg_core.path import PathSettings
from oncoseg_core.system import not_fetched, read_regular
from oncoseg_lora.card import Evidence
from oncoseg_lora.inject import adapt, adaptable_layers
from oncoseg_lora.manifest import CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from oncoseg_lora.peft_config import parse_config
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import adapter_state, save_adapter, set_adapter_state

PREFIX = "base_model.model."
WRAPPER_DEPTH = 3
"""So many names may stand before the model's own, such as ``model.`` and ``module.``."""
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_OTHER = re.compile(r"\.lora_|\.base_layer\.")


class Origin(Protocol):
    """Where another program has a tensor of the model: ``names`` of tensors that stand one under the other there."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of those tensors, the first rows first."""

    def value(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The model's tensor, from those of the file."""


class _Same(NamedTuple):
    names: tuple[str, ...]

    def value(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return tensors[self.names[0]]


class Imported(NamedTuple):
    """What was carried: the settings of the new adapter, how many of its layers, and what is not known of it."""

    settings: LoraSettings
    n_layers: int
    notes: tuple[str, ...]


def import_adapter(
    model: nn.Module,
    source: Path,
    destination: Path,
    *,
    modalities: Sequence[str],
    versions: Mapping[str, str],
    fit: Fit = "letterbox",
) -> Imported:
    """Write a plain PEFT adapter as one that :func:`~oncoseg_lora.store.load_adapter` loads.

    Args:
        model: built with the weights that the adapter was trained on; it is adapted in place. It may have a method
            ``origins(name)``, which lists where other programs have one of its tensors (:class:`Origin`).
        source: a folder with ``adapter_config.json`` and ``adapter_model.safetensors``.
        destination: a new or empty folder.
        modalities: on which it was trained; each gets the default path.
        versions: of the software that imports it.
        fit: how the images that it was trained on filled the model's square; its files do not tell.

    Raises:
        UsageError: the destination is not empty, or no modality is given.
        WeightsError: the adapter is no plain LoRA, or not one of this model and of one of its policies.
        StorageError: the destination cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UsageError(f"{destination}: exists and is not empty; give a new folder")
    if not modalities:
        raise UsageError("no `modality` is given: say on which the adapter was trained, its files do not")
    base = cast("PromptableModel", model)
    config = parse_config(_read(source, CONFIG_FILE), source / CONFIG_FILE)
    _check_base(config, base, source / CONFIG_FILE)
    try:
        tensors = safetensors.torch.load(_read(source, WEIGHTS_FILE))
    except SafetensorError as error:
        raise WeightsError(f"{source / WEIGHTS_FILE}: not a readable safetensors file: {error}") from error
    found = _Found(model, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, source)
    blocks = max((n for *_, n in found.layers.values()), default=1)
    rank, alpha = int(config["r"]), int(config["lora_alpha"])
    settings = LoraSettings(
        rank=rank * blocks,
        alpha=alpha * blocks,
        dropout=float(config.get("lora_dropout") or 0.0),
        policy=_policy(model, found, source),
    )
    notes = _notes(found, config, modalities, blocks, fit)
    adapted = adapt(model, settings)
    state = dict(adapter_state(adapted))
    _fill(state, found, rank)
    set_adapter_state(adapted, state)
    paths = {modality: PathSettings(fit=fit) for modality in modalities}
    save_adapter(adapted, destination, versions=versions, paths=paths, evidence=Evidence(notes=notes))
    return Imported(settings, len({layer for layer, *_ in found.layers.values()}), notes)


class _Found:
    """What of an adapter is what of the model.

    ``layers``: for each adapted layer of the file the model's layer, and which of how many blocks of its rows it is.
    ``whole``: by the model's names, tensors of modules that were trained whole.
    """

    def __init__(self, model: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
        self.path = source / WEIGHTS_FILE
        self.pairs: defaultdict[str, dict[str, torch.Tensor]] = defaultdict(dict)
        rest = {}
        for name, tensor in tensors.items():
            match = _LORA.fullmatch(name)
            if match is not None:
                self.pairs[match[1]][match[2]] = tensor
            elif _OTHER.search(name):
                raise WeightsError(f"{self.path}: {name} is no part of a plain LoRA layer; expected lora_A and lora_B")
            else:
                rest[name.replace(".modules_to_save.default.", ".")] = tensor
            if not bool(torch.isfinite(tensor).all()):
                raise WeightsError(f"{self.path}: {name} holds NaN or infinite numbers: its training diverged")
        if not self.pairs:
            raise WeightsError(f"{self.path}: holds no LoRA layers (lora_A, lora_B)")
        origins: Callable[[str], Iterable[Origin]] = getattr(model, "origins", lambda name: [_Same((name,))])
        self.shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        known: dict[str, tuple[str, int, int]] = {}
        self._origins = {name: list(origins(name)) for name in self.shapes}
        for name, several in self._origins.items():
            for origin in several if name.endswith(".weight") else ():
                for number, one in enumerate(origin.names):
                    place = (name.removesuffix(".weight"), number, len(origin.names))
                    known.setdefault(one.removesuffix(".weight"), place)
        prefix = _prefix(self.pairs, known, source)
        self.layers = {
            name: known[name.removeprefix(prefix)] for name in self.pairs if name.removeprefix(prefix) in known
        }
        unknown = sorted(self.pairs.keys() - self.layers.keys())
        if unknown:
            raise WeightsError(
                f"{self.path}: adapts {len(unknown)} layers that the model has not (such as {unknown[0]}); it is an "
                "adapter of another model, or of parts of it that are not here"
            )
        self.whole = self._whole({name.removeprefix(prefix): tensor for name, tensor in rest.items()})

    def _whole(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        whole, used = {}, set()
        for name, several in self._origins.items():
            for origin in several:
                if all(one in tensors for one in origin.names):
                    used |= set(origin.names)
                    whole[name] = origin.value(tensors)
                    if whole[name].shape != self.shapes[name]:
                        raise WeightsError(
                            f"{self.path}: {origin.names[0]} has shape {tuple(whole[name].shape)}, the model expects "
                            f"{tuple(self.shapes[name])}"
                        )
                    break
        unknown = sorted(tensors.keys() - used)
        if unknown:
            raise WeightsError(
                f"{self.path}: has {len(unknown)} trained tensors that the model has not (such as {unknown[0]})"
            )
        return whole


def _prefix(pairs: Mapping[str, object], known: Mapping[str, object], source: Path) -> str:
    """What stands before the names of most layers."""
    counts: Counter[str] = Counter()
    for name in pairs:
        parts = name.split(".")
        for depth in range(min(WRAPPER_DEPTH, len(parts) - 1) + 1):
            counts[".".join(parts[:depth]) + "." * (depth > 0)] += ".".join(parts[depth:]) in known
    prefix, count = max(counts.items(), key=lambda one: (one[1], -len(one[0])))
    if not count:
        raise WeightsError(
            f"{source / WEIGHTS_FILE}: none of its {len(pairs)} layers is one of the model (such as {min(pairs)}); "
            "choose the model that it was trained for"
        )
    return prefix


def _policy(model: nn.Module, found: _Found, source: Path) -> str:
    """The smallest policy that trains all that the adapter does.

    Raises:
        WeightsError: there is none.
    """
    policies = cast("PromptableModel", model).spec.lora.policies
    layers = {layer for layer, *_ in found.layers.values()}
    lacking: dict[str, str] = {}
    for policy, whole in sorted(policies.items(), key=lambda one: len(one[1])):
        beyond = sorted(layers - set(adaptable_layers(model, policy)))
        beyond += sorted(name for name in found.whole if not any(name.startswith(f"{part}.") for part in whole))
        if not beyond:
            return policy
        lacking[policy] = f"{policy} ({len(beyond)}, such as {beyond[0]})"
    raise WeightsError(
        f"{source}: trains what none of the model's policies does: beyond {', beyond '.join(lacking.values())}; it "
        "would be another adapter without them, so it is not imported"
    )


def _fill(state: dict[str, torch.Tensor], found: _Found, rank: int) -> None:
    """Put the adapter's numbers into the state of an adapted model; layers that it has not get none."""
    for name, tensor in state.items():
        own = name.removeprefix(PREFIX)
        if _LORA.fullmatch(own):
            state[name] = torch.zeros_like(tensor)
        elif own in found.whole:
            state[name] = found.whole[own].to(tensor.dtype)
    for name, (layer, number, blocks) in found.layers.items():
        down, up = (state[f"{PREFIX}{layer}.lora_{side}.weight"] for side in "AB")
        rows, columns = len(up) // blocks, slice(number * rank, (number + 1) * rank)
        expected = {"A": (rank, down.shape[1]), "B": (rows, rank)}
        shapes = {side: tuple(tensor.shape) for side, tensor in sorted(found.pairs[name].items())}
        if shapes != expected:
            raise WeightsError(
                f"{found.path}: {name} has LoRA shapes {shapes}, the model and its rank expect {expected}"
            )
        down[columns] = found.pairs[name]["A"].to(down.dtype)
        up[number * rows : (number + 1) * rows, columns] = found.pairs[name]["B"].to(up.dtype)


def _notes(
    found: _Found, config: Mapping[str, Any], modalities: Sequence[str], blocks: int, fit: Fit
) -> tuple[str, ...]:
    """What the new adapter's card says of where it comes from."""
    named = config.get("base_model_name_or_path")
    images = f"images of {', '.join(modalities)} get the default, which may be another"
    weights = "which does not record its base weights: named here are those with which it was imported"
    notes = [
        f"Imported from an adapter of PEFT{f' for {named}' if named else ''}, {weights}.",
        "Its data, splits and scores are not known, so nobody can tell whether a case was trained on.",
        f"The normalisation and window that it was trained with are not known: {images}.",
        f"Nor do its files tell how images filled the model's square: {fit} is what was said at its import.",
    ]
    if blocks > 1:
        notes.append(
            f"It adapts parts of layers that are one here; rank {config['r']} became {int(config['r']) * blocks}, with "
            "the same product."
        )
    if found.whole:
        notes.append(
            f"{len(found.whole)} tensors of modules trained whole were taken; the others are the base weights."
        )
    return tuple(notes)


def _check_base(config: Mapping[str, Any], base: PromptableModel, path: Path) -> None:
    named, hub_id = config.get("base_model_name_or_path"), base.spec.hub_id
    if named and hub_id is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", str(named)) and named != hub_id:
        raise WeightsError(
            f"{path}: base_model_name_or_path is {named!r}, the model {base.spec.name!r} is {hub_id}; choose the model "
            "that it was trained for, or correct the name"
        )


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder; expected {CONFIG_FILE} and {WEIGHTS_FILE} of PEFT in it")
    if (folder / MANIFEST_FILE).exists():
        raise WeightsError(f"{folder}: is an adapter of OncoSeg already ({MANIFEST_FILE}); use it as it is")
    missing = not_fetched(path)
    if missing is not None:
        raise WeightsError(f"{path}: {missing}")
    try:
        return read_regular(path)
    except OSError as error:
        pickled = (folder / "adapter_model.bin").exists()
        advice = (
            f"adapter_model.bin is a pickle, which is not read: save it as {WEIGHTS_FILE}"
            if pickled
            else (f"expected {CONFIG_FILE} and {WEIGHTS_FILE} of PEFT")
        )
        raise WeightsError(f"{path}: {error.strerror or error}; {advice}") from error
