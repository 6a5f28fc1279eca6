"""Jobs that were given up: a folder for each, with the reason for a person to read."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from oncoseg_core.system import atomic_write, json_text
from oncoseg_node.records.job import Job
from oncoseg_node.work.outcome import Fault

FOLDER = "dead-letter"


def bury(data: Path, job: Job, fault: Fault, now: float) -> Path:
    """Write why a job is given up.

    Raises:
        StorageError: it cannot be written.
    """
    path = data / FOLDER / job.folder.name / "reason.json"
    content = {
        "job": job.id,
        "stopped in": job.state,
        "rule": job.rule,
        "attempts": job.attempts,
        "kind": fault.kind,
        "reason": fault.message,
        "at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "try again": f"oncoseg node retry CONFIG.yaml {job.id}",
    }
    atomic_write(path, json_text(content, indent=2) + "\n")
    return path


def unbury(data: Path, job: Job) -> None:
    """The job is tried again, or its files are no longer kept."""
    shutil.rmtree(data / FOLDER / job.folder.name, ignore_errors=True)
