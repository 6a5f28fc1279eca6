"""A trained nnU-Net folder: which files it has, and what they say."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import DataError, UsageError, WeightsError, close_matches
from oncoseg_core.system import display_path, not_fetched, open_regular, read_regular

PLANS, DATASET = "plans.json", "dataset.json"
CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFolder:
    """What nnU-Net's training leaves: ``plans.json`` and ``dataset.json`` as read, and a checkpoint per fold.

    ``sha256`` is over the bytes of all of them, in the order plans, dataset, checkpoints by fold.
    """

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    checkpoints: tuple[Path, ...]
    sha256: str

    @property
    def folds(self) -> tuple[str, ...]:
        """Their numbers, or ``all``."""
        return tuple(path.parent.name.removeprefix("fold_") for path in self.checkpoints)


def open_folder(path: Path, folds: Sequence[int | str], checkpoint: str) -> ModelFolder:
    """Open a folder ``Trainer__Plans__configuration``, or one that holds exactly one of these.

    Args:
        path: the folder.
        folds: which; all that have the checkpoint when empty, without ``all`` where there are numbered ones.
        checkpoint: the file's name in a fold's folder.

    Raises:
        UsageError: there are several models in the folder, or the fold is none of its folds.
        WeightsError: it is no trained nnU-Net folder, or a file is missing or cannot be read.
    """
    folder = _model_folder(path)
    plans, dataset = _read_json(folder / PLANS), _read_json(folder / DATASET)
    checkpoints = tuple(_checkpoints(folder, folds, checkpoint))
    for name, content, key in ((PLANS, plans, "configurations"), (DATASET, dataset, "labels")):
        if not isinstance(content.get(key), dict):
            raise WeightsError(f"{display_path(folder / name)}: has no `{key}`; expected a file that nnU-Net v2 wrote")
    return ModelFolder(folder, plans, dataset, checkpoints, _digest([folder / PLANS, folder / DATASET, *checkpoints]))


def _model_folder(path: Path) -> Path:
    if not path.is_dir():
        raise WeightsError(f"{display_path(path)}: no such folder; `folder` is a trained nnU-Net v2 model")
    if (path / PLANS).is_file():
        return path
    inside = sorted(child.name for child in path.iterdir() if (child / PLANS).is_file())
    if len(inside) == 1:
        return path / inside[0]
    if inside:
        raise UsageError(f"{display_path(path)}: has {len(inside)} models; choose `folder` among {', '.join(inside)}")
    raise WeightsError(
        f"{display_path(path)}: has no {PLANS}; expected a trained nnU-Net v2 folder (Trainer__Plans__configuration) "
        f"with {PLANS}, {DATASET} and fold_N/checkpoint_final.pth, or its parent"
    )


def _checkpoints(folder: Path, folds: Sequence[int | str], checkpoint: str) -> list[Path]:
    have = {match[1]: child for child in folder.iterdir() if (match := re.fullmatch(r"fold_(\d+|all)", child.name))}
    complete = {fold: child / checkpoint for fold, child in have.items() if (child / checkpoint).is_file()}
    if not complete:
        raise WeightsError(f"{display_path(folder)}: no fold has {checkpoint}; `checkpoint` names the file")
    if not folds:
        numbered = sorted((fold for fold in complete if fold != "all"), key=int)
        return [complete[fold] for fold in numbered or complete]
    for fold in folds:
        if str(fold) not in complete:
            known = close_matches(str(fold), complete)
            raise UsageError(f"{display_path(folder)}: fold {fold} has no {checkpoint}{known}")
    return [complete[str(fold)] for fold in folds]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path))
    except OSError as error:
        raise WeightsError(
            f"{display_path(path)}: {error.strerror or error}; expected a trained nnU-Net v2 folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{display_path(path)}: is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{display_path(path)}: expected an object in JSON, found {type(content).__name__}")
    return content


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        stand_in = not_fetched(path)
        if stand_in is not None:
            raise WeightsError(f"{display_path(path)}: {stand_in}")
        with open_regular(path) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def channel_names(dataset: dict[str, Any]) -> tuple[str, ...]:
    """The names of its input channels, in their order.

    Raises:
        DataError: ``dataset.json`` has none.
    """
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or not channels:
        raise DataError(f"{DATASET}: has no `channel_names`")
    return tuple(str(channels[key]) for key in sorted(channels, key=int))
