"""A folder as a destination, such as a share that a planning system imports from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from oncoseg_core import StorageError
from oncoseg_core.system import write_failure
from oncoseg_node.config.settings import FolderDestination
from oncoseg_node.records.results import WrittenObject
from oncoseg_node.sending.outcomes import Outcome, Pulse, failed

_HOW = "file, read back and equal"


def send(objects: Sequence[WrittenObject], destination: FolderDestination, pulse: Pulse) -> list[Outcome]:
    """Copy each file, whole or not at all."""
    outcomes = []
    for one in objects:
        pulse()
        try:
            outcomes.append(_sent(one, destination.path))
        except (OSError, StorageError) as error:
            outcomes.append(_failure(error, destination.path))
    return outcomes


def confirm(objects: Sequence[WrittenObject], destination: FolderDestination, pulse: Pulse) -> list[Outcome]:
    """Read each file back and compare it."""
    outcomes = []
    for one in objects:
        pulse()
        target = file_of(one, destination.path)
        try:
            same = _equal(one, target)
        except OSError as error:
            outcomes.append(_failure(error, destination.path))
            continue
        if same:
            outcomes.append(Outcome("confirmed", _HOW))
        else:
            outcomes.append(failed(f"{target.name} in the folder is not what was sent; delete it there and retry"))
    return outcomes


def file_of(one: WrittenObject, folder: Path) -> Path:
    """The object's file: its name holds no identifier of the patient or the study, and is the same each time."""
    return folder / f"{one.format}-{one.sha256[:16]}.dcm"


def _sent(one: WrittenObject, folder: Path) -> Outcome:
    if not folder.is_dir():  # a share that is not mounted: made here, it would lie on the wrong disk
        return failed(f"{folder} is not there; mount it or create it, or correct `path`")
    target = file_of(one, folder)
    if target.is_file() and _equal(one, target):
        return Outcome("stored", "already there and equal")
    _copy(one.path, target)
    return Outcome("stored", "file")


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all; its temporary name is the same each time: the next attempt replaces what a crash left."""
    temporary = target.with_name(f".partial-{target.name}")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _equal(one: WrittenObject, target: Path) -> bool:
    if not target.is_file():
        return False
    return target.read_bytes() == one.path.read_bytes()


def _failure(error: OSError | StorageError, folder: Path) -> Outcome:
    return failed(write_failure(error, folder) if isinstance(error, OSError) else error)
