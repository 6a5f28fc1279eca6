"""What a chain has done: one record per finished task, each keyed by the hash of the one before."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from oncoseg_core import RunError, WeightsError
from oncoseg_core.plugins import read_yaml, validation_message
from oncoseg_core.system import atomic_write
from oncoseg_lora import MANIFEST_FILE as ADAPTER_MANIFEST
from oncoseg_lora import check_files
from oncoseg_trainer.chain.tasks import ChainTask
from oncoseg_trainer.checkpoints.run_folder import CONFIG_FILE, differing_keys
from oncoseg_trainer.config.settings import TrainSettings

TASKS = "tasks"
RECORD_FILE = "task.json"
ADAPTER = "adapter"


class TaskRecord(BaseModel):
    """What is known of a finished task. ``sha256`` is that of all the rest, the hash of the task before included.

    ``config`` is its effective configuration without what changes no result: where things lie, and the workers.
    ``split`` is the hash of the cases, patients and targets on each side, ``adapter`` the SHA-256 of the adapter's
    files, and ``scores`` that of its row of the forgetting matrix.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    task: str
    before: str | None
    config: dict[str, Any]
    split: str
    adapter: dict[str, str]
    scores: str
    sha256: str = ""

    @property
    def hash(self) -> str:
        """What ``sha256`` has to be."""
        return sha256_of(self.model_dump(mode="json", exclude={"sha256"}))


def sha256_of(values: Any) -> str:
    """SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def effective_config(settings: TrainSettings) -> dict[str, Any]:
    """A task's configuration as its record has it."""
    config = settings.model_dump(mode="json")
    for key in ("output", "start_from"):
        del config[key]
    config["training"] = {key: value for key, value in config["training"].items() if key != "workers"}
    for choice in config["data"]["datasets"]:
        for place in ("root", "prepared"):
            del choice[place]
    return config


def adapter_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of an adapter's files, after comparing them with its manifest, and of the manifest.

    Raises:
        WeightsError: a file is missing or altered.
    """
    files = {str(name): sha256 for name, sha256 in check_files(folder).files.items()}
    return {**files, ADAPTER_MANIFEST: hashlib.sha256((folder / ADAPTER_MANIFEST).read_bytes()).hexdigest()}


def write_record(chain: Path, task: ChainTask, before: str | None, split: str, scores: str) -> TaskRecord:
    """Write a task's record, which makes it finished.

    Raises:
        WeightsError: its adapter is missing or altered.
        StorageError: it cannot be written.
    """
    folder = chain / TASKS / task.name
    record = TaskRecord(
        task=task.name,
        before=before,
        config=effective_config(task.settings),
        split=split,
        adapter=adapter_hashes(folder / ADAPTER),
        scores=scores,
    )
    record = record.model_copy(update={"sha256": record.hash})
    atomic_write(folder / RECORD_FILE, record.model_dump_json(indent=1) + "\n")
    return record


def read_record(path: Path) -> TaskRecord:
    """Read a task's record.

    Raises:
        RunError: it is damaged or was changed.
    """
    try:
        record = TaskRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path}: is no record of a task") from error
    if record.sha256 != record.hash:
        raise RunError(f"{path}: was changed after it was written")
    return record


@dataclass(frozen=True, eq=False)
class Stale:
    """The first task that what is done no longer fits, and why; ``folders`` are its and all later ones' results."""

    task: str
    why: str
    folders: list[Path]

    def refuse(self) -> None:
        """Say what would have to be done anew.

        Raises:
            RunError: always.
        """
        later = f" and the {len(self.folders) - 1} after it" if len(self.folders) > 1 else ""
        raise RunError(
            f"task {self.task} {self.why}: it{later} would have to be trained anew. Restore what was changed, give "
            "--redo to delete these results and train anew, or choose another folder with --set output=DIR"
        )

    def delete(self) -> None:
        """Delete the results, the last task's first. Each is renamed before it goes, so that no half of one is left."""
        for folder in reversed(self.folders):
            gone = folder.with_name(f".deleted-{folder.name}")
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
            shutil.rmtree(gone)


def survey(chain: Path, tasks: Sequence[ChainTask]) -> tuple[list[TaskRecord], Stale | None]:
    """Verify what is done: the records of the finished tasks, and what no longer fits.

    The folders must be those of the chain's first tasks, in order, and all but the last must be finished. A finished
    task is sound when its record is unchanged, follows the record before it, was made with this configuration, and its
    adapter has the files that it says.
    """
    found = [path for path in (chain / TASKS).glob("[0-9]*") if path.is_dir()]
    existing = sorted(found, key=lambda path: (int(path.name.partition("-")[0]), path.name))
    records: list[TaskRecord] = []
    for place, folder in enumerate(existing):
        try:
            if place >= len(tasks):
                raise _UnfitError("is not in the chain any more")
            if folder.name != tasks[place].name:
                raise _UnfitError(f"is not what comes now in the chain ({tasks[place].name})")
            if (folder / RECORD_FILE).exists():
                records.append(_sound(folder, tasks[place], records[-1].sha256 if records else None))
            elif folder != existing[-1]:
                raise _UnfitError("is not finished, but later ones are")
            else:
                _require_same_config(folder, tasks[place])
        except (RunError, WeightsError) as error:
            return records, Stale(folder.name, str(error), existing[place:])
    return records, None


class _UnfitError(RunError):
    """Why a task's results cannot be taken, as the words after its name."""


def _sound(folder: Path, task: ChainTask, before: str | None) -> TaskRecord:
    """The record of a finished task that can be taken as it is.

    Raises:
        RunError, WeightsError: it cannot.
    """
    try:
        record = read_record(folder / RECORD_FILE)
        adapter = adapter_hashes(folder / ADAPTER)
    except (RunError, WeightsError) as error:
        raise _UnfitError(f"is damaged ({error})") from error
    try:  # a key that came with a later version of the trainer had its default
        done = effective_config(TrainSettings.model_validate({**record.config, "output": folder}))
    except ValidationError as error:
        raise _UnfitError(
            f"was done with keys that are not known any more ({validation_message(TrainSettings, error)})"
        ) from error
    differing = differing_keys(done, effective_config(task.settings))
    if differing:
        raise _UnfitError(f"was done with another configuration (differs in {', '.join(differing)})")
    if record.before != before:
        raise _UnfitError("was done after another task than the one before it now")
    if record.adapter != adapter:
        raise _UnfitError("has another adapter than its record says")
    return record


def _require_same_config(folder: Path, task: ChainTask) -> None:
    """Refuse to go on with a task that was begun otherwise."""
    if (folder / CONFIG_FILE).exists():
        differing = differing_keys(read_yaml(folder / CONFIG_FILE), task.settings.model_dump(mode="json"))
        if differing:
            raise _UnfitError(f"was begun with another configuration (differs in {', '.join(differing)})")
