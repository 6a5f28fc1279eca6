"""The list of what was written, beside the files: ``objects.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from oncoseg_core import DataError
from oncoseg_core.system import atomic_write, json_text, read_regular
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import WrittenObject

OBJECTS_FILE = "objects.json"
_OBJECTS = TypeAdapter(list[WrittenObject])


def write_list(job: Job, objects: Sequence[WrittenObject]) -> None:
    """Write ``objects.json``, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    atomic_write(job.out / OBJECTS_FILE, json_text([one.model_dump(mode="json") for one in objects], indent=2) + "\n")


def read_objects(job: Job) -> list[WrittenObject]:
    """What :func:`write` left for a job, each file as it was written.

    Raises:
        DataError: the list or a file is missing, or was changed since.
    """
    try:
        objects = _OBJECTS.validate_python(json.loads(read_regular(job.out / OBJECTS_FILE)))
        for one in objects:
            if sha256_of(one.path) != one.sha256:
                raise DataError(f"job {job.id}: {one.path.name} was changed after it was written; retry the job")
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(
            f"job {job.id}: what was written for it is missing or damaged ({type(error).__name__}); retry the job"
        ) from error
    return objects


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
