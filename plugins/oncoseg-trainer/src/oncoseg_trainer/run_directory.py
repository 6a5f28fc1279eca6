"""The folder of a run: claimed by one configuration, never silently reused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from oncoseg_core.atomic import atomic_write
from oncoseg_core.config import read_yaml
from oncoseg_core.errors import RunError
from oncoseg_trainer.settings import TrainSettings

CONFIG_FILE = "config.yaml"
CHECKPOINT_FILE = "checkpoint.pt"
SUMMARY_FILE = "summary.json"
SPLIT_FILE = "split.json"

FREE_KEYS = ("output", "training.workers", "start_from")
"""Keys that may differ between the parts of a run: they change nothing in its results.

Where an adapter lies does not; which one it is, is compared by its hash (:mod:`oncoseg_trainer.start_from`).
"""


def choose_folder(settings: TrainSettings, *, resume: bool) -> Path:
    """Find the folder a run may use; nothing is written.

    A finished run of the same configuration is kept: the new one goes to the next free ``<output>-2``, ``-3``, …

    Raises:
        RunError: the folder belongs to another configuration (the differing keys are named), holds an unfinished run
            and ``resume`` is off, or holds none and ``resume`` is on.
    """
    folder = settings.output
    effective = settings.model_dump(mode="json")
    while (folder / CONFIG_FILE).exists():
        differing = differing_keys(read_yaml(folder / CONFIG_FILE), effective)
        if differing:
            raise RunError(
                f"{folder} belongs to a run with another configuration (differs in {', '.join(differing)}); "
                "choose another folder with --set output=DIR"
            )
        finished = (folder / SUMMARY_FILE).exists()
        if resume or not (finished or (folder / CHECKPOINT_FILE).exists()):
            return folder
        if not finished:
            raise RunError(
                f"{folder} holds an unfinished run of this configuration: go on with --resume, "
                "or choose another folder with --set output=DIR"
            )
        folder = _next(folder, settings.output)
    if resume:
        raise RunError(f"{folder}: no run to resume; start without --resume")
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} holds other files than a run's; choose another folder with --set output=DIR")
    return folder


def write_config(folder: Path, settings: TrainSettings) -> None:
    """Write the effective configuration, which claims the folder.

    Raises:
        StorageError: it cannot be written.
    """
    effective = {**settings.model_dump(mode="json"), "output": str(folder)}
    atomic_write(folder / CONFIG_FILE, yaml.safe_dump(effective, sort_keys=False, allow_unicode=True))


def has_begun(folder: Path) -> bool:
    """Whether there is a run that can be gone on with, or is finished."""
    return (folder / CHECKPOINT_FILE).exists() or (folder / SUMMARY_FILE).exists()


def clear_checkpoints(folder: Path) -> None:
    """Delete what only an unfinished run needs; the adapter and all results stay."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _next(folder: Path, first: Path) -> Path:
    number = 2 if folder == first else int(folder.name.rpartition("-")[2]) + 1
    return first.with_name(f"{first.name}-{number}")


def differing_keys(one: dict[str, Any], other: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the keys in which two configurations differ, but for :data:`FREE_KEYS`."""
    differing = []
    for key in sorted(one.keys() | other.keys()):
        if f"{prefix}{key}" in FREE_KEYS:
            continue
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            differing.extend(differing_keys(left, right, f"{prefix}{key}."))
        elif left != right:
            differing.append(f"{prefix}{key}")
    return differing
