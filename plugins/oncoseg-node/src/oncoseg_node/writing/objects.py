"""The list of what was written, beside the files: ``objects.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from oncoseg_core.system import atomic_write, json_text
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import WrittenObject

OBJECTS_FILE = "objects.json"


def write_list(job: Job, objects: Sequence[WrittenObject]) -> None:
    """Write ``objects.json``, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    atomic_write(job.out / OBJECTS_FILE, json_text([one.model_dump(mode="json") for one in objects], indent=2) + "\n")


def sha256_of(path: Path) -> str:
    """The digest of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
