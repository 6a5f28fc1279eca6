"""What the steps of a job hand on over a crash: records as JSON files in the job's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from oncoseg_core import DataError, Record
from oncoseg_core.system import atomic_path, json_text, read_regular
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Delivery, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts

R = TypeVar("R", bound=Record)
FACTS, REFUSALS, CHECKED = "facts.json", "refusals.json", "checked.json"
OBJECTS, DELIVERIES = "to-send.json", "deliveries.json"


def keep(job: Job, name: str, records: Sequence[Record]) -> None:
    """Write records, whole or not at all, for the node's user alone: the facts name the patient.

    Raises:
        StorageError: they cannot be written.
    """
    text = json_text([one.model_dump(mode="json") for one in records], indent=1)
    with atomic_path(job.folder / name, private=True) as temporary:
        temporary.write_bytes(text.encode())


def forget(job: Job) -> None:
    """Drop what was kept of a series that is examined anew: it is of other images, and must not be reported."""
    keep(job, CHECKED, [])
    forget_objects(job)


def forget_objects(job: Job) -> None:
    """Drop the objects of an attempt before, of which none was sent: what is not in the list is not sent either."""
    for path in job.out.glob("*.dcm"):
        path.unlink(missing_ok=True)
    keep(job, OBJECTS, [])
    keep(job, DELIVERIES, [])


def kept_facts(job: Job) -> SeriesFacts | None:
    """The facts of the series; None before it was examined."""
    facts = _read(job.folder / FACTS, SeriesFacts)
    return facts[0] if facts else None


def kept_refusals(job: Job) -> list[Refusal]:
    """Why the series is refused."""
    return _read(job.folder / REFUSALS, Refusal)


def kept_checked(job: Job) -> list[CheckedStructure]:
    """The structures after the checks; none before."""
    return _read(job.folder / CHECKED, CheckedStructure)


def kept_objects(job: Job) -> list[WrittenObject]:
    """The files that are sent; none before they are written."""
    return _read(job.folder / OBJECTS, WrittenObject)


def kept_deliveries(job: Job) -> list[Delivery]:
    """What the destinations did so far."""
    return _read(job.folder / DELIVERIES, Delivery)


def _read(path: Path, kind: type[R]) -> list[R]:
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return [kind.model_validate(one) for one in json.loads(content)]
    except ValueError as error:
        raise DataError(f"{path}: is not what the node wrote; retry the job, or send the series again") from error
