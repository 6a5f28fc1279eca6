"""What an instance that arrives means for the jobs of its series.

The receiver writes the file under a temporary name, asks for its place, renames it, and then answers success. So after
a crash a row can be without its file (never a file that was answered for without its row): the instance is then new
when it is sent again, and a row that is still without a file when the job begins is dropped.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from oncoseg_core import Record
from oncoseg_core.system import atomic_write
from oncoseg_node.config.salt import pseudonym
from oncoseg_node.records.job import EARLIER, Earlier, Job, State

Status = Literal["new", "same", "different", "late", "too many"]


class Added(Record):
    """Where an instance goes, and whether it is to be stored there.

    ``new``: rename the file to ``path``. The others are not stored: ``same`` is here already, ``different`` has the UID
    of another one of that series, ``too many`` is beyond the most of a series (which is refused in both cases), and
    ``late`` came after the work on its series had begun. ``instances`` counts those of the job, this one included.
    """

    job: Job
    path: Path
    status: Status
    instances: int


class Arrival(NamedTuple):
    """An instance on its way into the queue."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sha256: str
    size: int


class Arrivals:
    """Finds, opens and reopens jobs for instances, within a transaction of the caller."""

    def __init__(self, jobs: Path, salt: bytes, *, again: bool, most: int) -> None:
        self._jobs, self._salt, self._again, self._most = jobs, salt, again, most

    def add(self, cursor: sqlite3.Connection, one: Arrival, now: float) -> Added:
        """Note an instance, in the job of its series that takes it."""
        row = cursor.execute(
            "SELECT * FROM jobs WHERE series_uid = ? AND study_uid = ? ORDER BY id DESC LIMIT 1",
            (one.series_uid, one.study_uid),
        ).fetchone()
        if row is None:
            return self._take(cursor, self._opened(cursor, one, now), one, now)
        known = self._sha256(cursor, row["id"], one.sop_uid)
        if row["state"] == State.RECEIVED:
            return self._add_to_open(cursor, row, one, known, now)
        if known == one.sha256:
            return self._answer(cursor, row["id"], one, "same")
        if self._reopens(row):
            cursor.execute(
                "UPDATE jobs SET state = ?, rule = '', reason = '', attempts = 0, not_before = 0, stopped_in = NULL, "
                "kept = 'all' WHERE id = ?",
                (State.RECEIVED, row["id"]),
            )
            self._make_folder(row["folder"])  # its files may be deleted by now
            return self._add_to_open(cursor, row, one, known, now)
        if self._again:
            return self._take(cursor, self._opened(cursor, one, now, before=row), one, now)
        cursor.execute("UPDATE jobs SET late = late + 1 WHERE id = ?", (row["id"],))
        return self._answer(cursor, row["id"], one, "late")

    def _add_to_open(
        self, cursor: sqlite3.Connection, row: sqlite3.Row, one: Arrival, known: str | None, now: float
    ) -> Added:
        if known is None and row["instances"] >= self._most:
            cursor.execute("UPDATE jobs SET excess = excess + 1 WHERE id = ?", (row["id"],))
            _touch(cursor, row["id"], now)
            return self._answer(cursor, row["id"], one, "too many")
        if known is None:
            return self._take(cursor, row["id"], one, now)
        if not instance_path(self._jobs / row["folder"], known).exists():
            cursor.execute("DELETE FROM instances WHERE job = ? AND sop_uid = ?", (row["id"], one.sop_uid))
            cursor.execute("UPDATE jobs SET instances = instances - 1 WHERE id = ?", (row["id"],))
            return self._take(cursor, row["id"], one, now)
        if known == one.sha256:
            _touch(cursor, row["id"], now)
            return self._answer(cursor, row["id"], one, "same")
        cursor.execute("UPDATE jobs SET conflicts = conflicts + 1 WHERE id = ?", (row["id"],))
        _touch(cursor, row["id"], now)
        return self._answer(cursor, row["id"], one, "different")

    @staticmethod
    def _reopens(row: sqlite3.Row) -> bool:
        """Whether nothing was made of the series yet: a job that waits, a refused one, one that failed too early; and
        one that failed later, of which so little is kept that it cannot be tried again: it would make the same again.
        """
        waits = row["state"] == State.COMPLETE and row["owner"] is None and row["attempts"] == 0
        failed = row["state"] == State.FAILED and (
            row["stopped_in"] in {State.RECEIVED, State.COMPLETE} or not can_go_on(row["stopped_in"], row["kept"])
        )
        return bool(waits or failed or row["state"] == State.REFUSED)

    def _opened(self, cursor: sqlite3.Connection, one: Arrival, now: float, before: sqlite3.Row | None = None) -> int:
        """A new job; with the other images of the one before, as far as they are still kept."""
        number = cursor.execute(
            "INSERT INTO jobs (study_uid, series_uid, folder, state, created, changed) VALUES (?, ?, ?, ?, ?, ?)",
            (one.study_uid, one.series_uid, "", State.RECEIVED, now, now),
        ).lastrowid
        assert number is not None  # noqa: S101 - an insert has one
        name = f"{number}-{pseudonym(self._salt, one.series_uid)}"
        cursor.execute("UPDATE jobs SET folder = ? WHERE id = ?", (name, number))
        folder = self._make_folder(name)
        if before is not None:
            earlier = Earlier(case=before["folder"], images=before["instances"])
            atomic_write(folder / EARLIER, earlier.model_dump_json())
            self._copy_images(cursor, before, number, one.sop_uid, folder)
            _sync(folder)
        return number

    def _make_folder(self, name: str) -> Path:
        folder = self._jobs / name
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "images").mkdir(mode=0o700, exist_ok=True)
        _sync(folder)
        _sync(self._jobs)
        return folder

    def _copy_images(
        self, cursor: sqlite3.Connection, before: sqlite3.Row, number: int, but: str, folder: Path
    ) -> None:
        rows = cursor.execute("SELECT * FROM instances WHERE job = ? AND sop_uid != ?", (before["id"], but)).fetchall()
        for row in rows:
            target = instance_path(folder, row["sha256"])
            with suppress(FileExistsError):
                try:
                    os.link(instance_path(self._jobs / before["folder"], row["sha256"]), target)
                except FileNotFoundError:  # no longer kept
                    continue
            self._insert(cursor, number, Arrival("", "", row["sop_uid"], row["sha256"], row["size"]))

    def _take(self, cursor: sqlite3.Connection, number: int, one: Arrival, now: float) -> Added:
        self._insert(cursor, number, one)
        _touch(cursor, number, now)
        return self._answer(cursor, number, one, "new")

    @staticmethod
    def _insert(cursor: sqlite3.Connection, number: int, one: Arrival) -> None:
        cursor.execute("INSERT INTO instances VALUES (?, ?, ?, ?)", (number, one.sop_uid, one.sha256, one.size))
        cursor.execute("UPDATE jobs SET instances = instances + 1 WHERE id = ?", (number,))

    def _answer(self, cursor: sqlite3.Connection, number: int, one: Arrival, status: Status) -> Added:
        row = cursor.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone()
        job = job_of(row, self._jobs)
        count = row["instances"] + (status == "too many")
        return Added(job=job, path=instance_path(job.folder, one.sha256), status=status, instances=count)

    @staticmethod
    def _sha256(cursor: sqlite3.Connection, number: int, sop_uid: str) -> str | None:
        row = cursor.execute("SELECT sha256 FROM instances WHERE job = ? AND sop_uid = ?", (number, sop_uid)).fetchone()
        return None if row is None else str(row["sha256"])


def instance_path(folder: Path, sha256: str) -> Path:
    """Where an instance of a job lies: by its content, so that a file is always what its row says."""
    return folder / "images" / f"{sha256[:40]}.dcm"


def can_go_on(state: str, kept: str) -> bool:
    """Whether a job can begin again in a state with what is kept of it: its images are read until it is checked."""
    needs_images = state in {State.RECEIVED, State.COMPLETE, State.SEGMENTED}
    return kept == "all" or (kept == "results" and not needs_images)


def job_of(row: sqlite3.Row, jobs: Path) -> Job:
    """A row of the database as a record."""
    return Job(
        id=row["id"],
        study_uid=row["study_uid"],
        series_uid=row["series_uid"],
        folder=jobs / row["folder"],
        state=State(row["state"]),
        rule=row["rule"],
        priority=row["priority"],
        off_peak=bool(row["off_peak"]),
        attempts=row["attempts"],
        reason=row["reason"],
        created=row["created"],
        changed=row["changed"],
        not_before=row["not_before"],
    )


def _touch(cursor: sqlite3.Connection, number: int, now: float) -> None:
    """Move the time of the last change on, always: whoever looked at the job before sees that it is another now."""
    cursor.execute("UPDATE jobs SET changed = max(?, changed + 1e-4) WHERE id = ?", (now, number))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
