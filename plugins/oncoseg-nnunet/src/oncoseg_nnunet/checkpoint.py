"""Checkpoints of nnU-Net, read without running what is in them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from oncoseg_core import WeightsError
from oncoseg_core.system import display_path

_SCALAR = np.float64(0).__reduce__()[0]

SCALARS: list[Any] = [
    # nnU-Net logs means as NumPy scalars; each is a dtype and bytes, and none runs code of the file's.
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "float16", "int64", "bool")),
]


class Checkpoint(NamedTuple):
    """What prediction needs of one fold: tensors by name, and which trainer, configuration and mirroring made them."""

    weights: dict[str, torch.Tensor]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...] | None


def read_checkpoint(path: Path, *, trust: bool) -> Checkpoint:
    """Read a fold's checkpoint.

    A checkpoint is a pickle. It is read by torch's own reader of tensors and plain values, which runs nothing of it;
    what it does not know is refused. ``trust`` reads it with all that a pickle can do.

    Raises:
        WeightsError: it is damaged, needs more than tensors and plain values, or is not of nnU-Net v2.
    """
    try:
        with torch.serialization.safe_globals(SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=not trust)
    except Exception as error:  # torch raises many kinds for a file that is cut short or another one
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is None:
            raise WeightsError(f"{display_path(path)}: is not a checkpoint that can be read: {_line(error)}") from error
        raise WeightsError(
            f"{display_path(path)}: holds more than tensors and plain values ({code[1]}), which only runs as code; if "
            "you know who made the file, set `trust: true`"
        ) from error
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return Checkpoint(
            {str(name): tensor for name, tensor in content["network_weights"].items()},
            str(content["trainer_name"]),
            str(content["init_args"]["configuration"]),
            None if axes is None else tuple(int(axis) for axis in axes),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{display_path(path)}: is not a checkpoint of nnU-Net v2 ({type(error).__name__}: {error}); expected "
            "network_weights, trainer_name and init_args"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
