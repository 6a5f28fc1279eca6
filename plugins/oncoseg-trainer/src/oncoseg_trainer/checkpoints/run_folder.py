"""The folder of a run: claimed by one configuration, never silently reused."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from oncoseg_core import RunError
from oncoseg_core.plugins import read_yaml
from oncoseg_core.system import atomic_write
from oncoseg_trainer.config.settings import TrainSettings

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
SUMMARY_FILE = "summary.json"
SPLIT_FILE = "split.json"
_EARLIER_CHECKPOINT = "checkpoint.pt"
"""What a run had before version 0.1 was finished."""

FREE_KEYS = ("output", "start_from", "trackers", "training.workers")
"""Keys that may differ between the parts of a run: they change nothing in its results.

Where an adapter lies does not; which one it is, is compared by its hash
(:mod:`oncoseg_trainer.checkpoints.warm_start`).
"""


def choose_folder(settings: TrainSettings, *, resume: bool, restarted: bool = False) -> tuple[Path, bool]:
    """Find the folder a run may use, and whether to go on with the run in it; nothing is written.

    A finished run of the same configuration is kept: the new one goes to the next free ``<output>-2``, ``-3``, …

    Args:
        settings: the run's.
        resume: whether the user says to go on.
        restarted: whether ``torchrun`` has started the processes again: an unfinished run is then gone on with.

    Raises:
        RunError: the folder belongs to another configuration (the differing keys are named), holds an unfinished run
            and nobody says to go on with it, or holds none and ``resume`` is on.
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
        begun = any((folder / CHECKPOINTS).glob("step-*.pt"))
        if not finished and not begun and (folder / _EARLIER_CHECKPOINT).exists():
            raise RunError(
                f"{folder} holds a run that was begun with an earlier version of the trainer, which this one cannot go "
                "on with; choose another folder with --set output=DIR"
            )
        if resume or (restarted and finished and _is_of_this_launch(folder)):
            return folder, True
        if not finished and (restarted or not begun):
            return folder, begun
        if not finished:
            raise RunError(
                f"{folder} holds an unfinished run of this configuration: go on with --resume, "
                "or choose another folder with --set output=DIR"
            )
        folder = _next(folder, settings.output)
    if resume:
        raise RunError(f"{folder}: no run to resume; start without --resume")
    if folder.is_dir() and any(not path.name.startswith(".partial-") for path in folder.iterdir()):
        raise RunError(f"{folder} holds other files than a run's; choose another folder with --set output=DIR")
    return folder, False


def launch() -> str | None:
    """What ``torchrun`` calls this start and its restarts; None when nothing tells it from others."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def _is_of_this_launch(folder: Path) -> bool:
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    return launch() is not None and summary.get("launch") == launch()


@contextmanager
def held_alone(folder: Path, patience: float) -> Iterator[None]:
    """Keep other processes from writing to the same run; the system ends it with this process, however that ends.

    Where the file system (or Windows) knows no locks, nothing is kept.

    Args:
        folder: the run's.
        patience: seconds to wait for another process to end: after a restart one that was cut off may still be there.

    Raises:
        RunError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = folder / CHECKPOINTS / "in-use"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"{folder}: another process is training in this folder; end it first") from error
                time.sleep(0.2)
            except OSError:
                break
            else:
                break
        yield


def write_config(folder: Path, settings: TrainSettings) -> None:
    """Write the effective configuration, which claims the folder.

    Raises:
        StorageError: it cannot be written.
    """
    effective = {**settings.model_dump(mode="json"), "output": str(folder)}
    atomic_write(folder / CONFIG_FILE, yaml.safe_dump(effective, sort_keys=False, allow_unicode=True))


def has_begun(folder: Path) -> bool:
    """Whether there is a run that can be gone on with, or is finished."""
    return any((folder / CHECKPOINTS).glob("step-*.pt")) or (folder / SUMMARY_FILE).exists()


def clear_checkpoints(folder: Path) -> None:
    """Delete what only an unfinished run needs; the adapter and all results stay."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _next(folder: Path, first: Path) -> Path:
    number = 2 if folder == first else int(folder.name.rpartition("-")[2]) + 1
    return first.with_name(f"{first.name}-{number}")


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
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
