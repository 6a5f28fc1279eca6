"""The resumable state of a run: one file, replaced whole, loaded without pickle from outside."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oncoseg_core.atomic import atomic_write
from oncoseg_core.errors import RunError, WeightsError

FORMAT = 1


@dataclass
class RunState:
    """How far a run has come, in plain values.

    ``step`` counts finished optimizer steps; ``scores_due`` says that the held-out cases are to be scored before the
    next one. ``split_hash`` and ``processes`` must be the same when the run is resumed. ``warnings`` are the lines that
    were said in it.
    """

    split_hash: str
    processes: int
    step: int = 0
    scores_due: bool = False
    zero_shot: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    state: RunState,
    trainable: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    versions: Mapping[str, Any],
) -> None:
    """Write everything that the rest of the run depends on.

    Randomness needs no state: every draw is derived from the seed and the step.

    Raises:
        StorageError: it cannot be written; the checkpoint before it is untouched.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "run": json.dumps(vars(state)),
            "trainable": {name: parameter.detach().cpu() for name, parameter in trainable.items()},
            "optimizer": optimizer.state_dict(),
            "versions": json.dumps(versions),
        },
        buffer,
    )
    atomic_write(path, buffer.getvalue())


def load_checkpoint(path: Path, trainable: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> RunState:
    """Put a checkpoint's weights and optimizer state in place and say how far the run had come.

    Raises:
        RunError: there is no checkpoint.
        WeightsError: it is damaged, or belongs to other trainable weights.
    """
    if not path.exists():
        raise RunError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path}: the checkpoint is damaged ({reason}); start anew in another output") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise WeightsError(f"{path}: is no checkpoint of this version of the trainer")
    weights = saved["trainable"]
    if weights.keys() != trainable.keys() or any(weights[n].shape != p.shape for n, p in trainable.items()):
        raise WeightsError(f"{path}: holds other trainable weights than this configuration has")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(weights[name])
    optimizer.load_state_dict(saved["optimizer"])
    return RunState(**json.loads(saved["run"]))
