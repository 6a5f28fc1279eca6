"""The durable queue: which series there are, where each is, and who works on it.

A series is a job in the folder ``jobs/<number>-<salted hash>``. Every change is on the disk before the call returns.
An owner (a worker process, the sender) holds a job from :meth:`Queue.take` until it moves it on, puts it off, or is
dead: then :meth:`Queue.release` frees what it held, and the step is begun again.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from oncoseg_core import DataError, StorageError, UsageError
from oncoseg_node.config.salt import read_salt
from oncoseg_node.queue.arrivals import Added, Arrival, Arrivals, can_go_on, instance_path, job_of
from oncoseg_node.queue.database import Database
from oncoseg_node.queue.shared_commit import SharedCommit
from oncoseg_node.records.job import ENDS, Job, State

DATABASE = "queue.sqlite"
JOBS = "jobs"
PROMISE_SECONDS = 300.0
"""How long a receiver may take from the place that it was given to the file's name; more is a fault."""
ASIDE = ".deleted"
"""After the name of a folder that is on its way out."""
LEFTOVERS = ("*.tmp", "*.partial", ".partial-*", ".read-back", f"*{ASIDE}")
"""Names of what is written before it has its own name, by all rooms of the node."""
Kept = Literal["all", "results", "nothing"]


def open_queue(data: Path) -> Queue:
    """The queue of a node that ran before, for a command beside it.

    Raises:
        DataError: there is none.
    """
    if not (data / DATABASE).exists():
        raise DataError(f"{data}: no node has run in this folder yet; expected {DATABASE} in it, check `data`")
    return Queue(data)


class Flaws(NamedTuple):
    """Images that arrived and are not stored: with the UID of another one, and above the most of a series."""

    different: int
    excess: int


class Queue:
    """The queue of the node whose folder is ``data``; safe for several threads and processes.

    ``again``: whether a series that was worked on becomes a new job when another image of it arrives;
    ``most_instances``: of one series. ``arrived`` counts what arrived in this process, by what became of it.
    """

    def __init__(
        self,
        data: Path,
        *,
        again: bool = False,
        most_instances: int = 20_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._salt = read_salt(data)
        _require_queue_of_jobs(data)
        self._database = Database(data / DATABASE)
        self._jobs = data / JOBS
        self._jobs.mkdir(mode=0o700, exist_ok=True)
        self._arrivals = Arrivals(self._jobs, self._salt, again=again, most=most_instances)
        self._clock = clock
        self.arrived: Counter[str] = Counter()
        self._commits = SharedCommit(self._note)
        self._promised: dict[Path, float] = {}
        """Places that a receiver of this process was given and may not have taken yet."""

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # Instances in.

    def add_instance(self, study_uid: str, series_uid: str, sop_uid: str, sha256: str, size: int) -> Added:
        """Note an instance that lies complete and synced under a temporary name, and say where it goes.

        The caller renames it to ``path`` when it is ``new``, and syncs the folder, before it answers its sender.
        Instances that arrive at once over several associations share one commit.

        Raises:
            StorageError: it cannot be noted; the instance is not taken.
        """
        return self._commits.add(Arrival(study_uid, series_uid, sop_uid, sha256, size))

    def _note(self, arrivals: Sequence[Arrival]) -> list[Added]:
        with self._database.transaction() as cursor:
            added = [self._arrivals.add(cursor, one, self._clock()) for one in arrivals]
        for one in added:
            if one.status == "new":
                self._promised[one.path] = self._clock()
            self.arrived[one.status] += 1
        return added

    def quiet_jobs(self, seconds: float, now: float | None = None, *, most: int = sys.maxsize) -> list[Job]:
        """Jobs to which nothing was added for so long, oldest first and at most so many; one without images is gone.

        Images that were noted and never arrived (the node was killed between the two) are no part of them: their
        senders got no answer.
        """
        now = self._clock() if now is None else now
        jobs = self.jobs([State.RECEIVED], changed_before=now - seconds)
        quiet = (job for job in jobs if job.not_before <= now and self._only_what_is_there(job))
        return list(itertools.islice(quiet, most))

    def _only_what_is_there(self, job: Job) -> bool:
        rows = self._database.rows("SELECT sop_uid, sha256 FROM instances WHERE job = ?", job.id)
        missing = []
        for row in rows:
            path = instance_path(job.folder, row["sha256"])
            if path.exists():
                self._promised.pop(path, None)
            elif self._clock() - self._promised.get(path, -PROMISE_SECONDS) < PROMISE_SECONDS:
                return False
            else:
                self._promised.pop(path, None)
                missing.append(row["sop_uid"])
        return bool(rows) and (not missing or self._dropped(job, missing, len(rows) - len(missing)))

    def _dropped(self, job: Job, sop_uids: list[str], left: int) -> bool:
        """Take instances out of a job, and the job with the last one; True where some are left."""
        with self._database.transaction() as cursor:
            if not _unchanged(cursor, job):
                return False
            cursor.executemany(
                "DELETE FROM instances WHERE job = ? AND sop_uid = ?", [(job.id, sop_uid) for sop_uid in sop_uids]
            )
            cursor.execute("UPDATE jobs SET instances = ? WHERE id = ?", (left, job.id))
            if not left:
                cursor.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        if not left:
            shutil.rmtree(job.folder, ignore_errors=True)
        return left > 0

    def flaws(self, job: Job) -> Flaws:
        """What arrived for a job and could not be stored in it."""
        rows = self._database.rows("SELECT conflicts, excess FROM jobs WHERE id = ?", job.id)
        return Flaws(different=rows[0]["conflicts"], excess=rows[0]["excess"]) if rows else Flaws(different=0, excess=0)

    # A job moves on.

    def begin(self, job: Job) -> Job:
        """The examination of a quiet series begins: an attempt, also where it ends in a crash."""
        with self._expected(job) as cursor:
            cursor.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (job.id,))
        return self.job(job.id)

    def complete(self, job: Job, rule: str, priority: int = 0, *, off_peak: bool = False) -> bool:
        """A quiet series is whole and matched: it waits for a worker. False where an image came meanwhile."""
        return self._update_if_unchanged(
            job, "state = ?, rule = ?, priority = ?, off_peak = ?", State.COMPLETE, rule, priority, int(off_peak)
        )

    def refuse(self, job: Job, reason: str) -> bool:
        """Nothing is made of this series, for this reason. False where an image came meanwhile, or it moved on."""
        return self._update_if_unchanged(job, "state = ?, reason = ?, owner = NULL", State.REFUSED, reason)

    def take(
        self, states: Iterable[State], owner: str, now: float | None = None, *, off_peak: bool = True
    ) -> Job | None:
        """The next job for an owner: highest priority, then oldest. Its attempt counts from now on, even after a crash.

        ``off_peak``: whether it is now; else a complete job whose rule waits for that is left.
        """
        now = self._clock() if now is None else now
        states = list(states)
        with self._database.transaction() as cursor:
            row = cursor.execute(
                f"SELECT * FROM jobs WHERE state IN ({_marks(states)}) AND owner IS NULL AND not_before <= ? "  # noqa: S608
                "AND (NOT off_peak OR ? OR state != ?) ORDER BY priority DESC, id LIMIT 1",
                (*states, now, off_peak, State.COMPLETE),
            ).fetchone()
            if row is None:
                return None
            cursor.execute("UPDATE jobs SET owner = ?, attempts = attempts + 1 WHERE id = ?", (owner, row["id"]))
        return self.job(row["id"])

    def advance(self, job: Job, state: State, reason: str = "", *, keep: bool = False) -> Job:
        """The step is done: the job is in ``state``. ``keep``: its owner goes on with the next step at once.

        Raises:
            UsageError: it is not in the state that ``job`` has.
        """
        with self._expected(job) as cursor:
            cursor.execute(
                "UPDATE jobs SET state = ?, reason = ?, attempts = ?, not_before = 0, changed = ?, "
                "owner = CASE WHEN ? THEN owner END WHERE id = ?",
                (state, reason, int(keep), self._clock(), keep, job.id),
            )
        return self.job(job.id)

    def release(self, owner: str | None = None) -> int:
        """Free the jobs of an owner that has ended, or of all: when a node starts. Returns how many."""
        with self._database.transaction() as cursor:
            return cursor.execute(
                "UPDATE jobs SET owner = NULL WHERE owner IS NOT NULL AND (? IS NULL OR owner = ?)", (owner, owner)
            ).rowcount

    def give_back(self, job: Job) -> None:
        """The node ends: the step was not done, and that is no attempt."""
        with self._expected(job) as cursor:
            cursor.execute("UPDATE jobs SET owner = NULL, attempts = max(0, attempts - 1) WHERE id = ?", (job.id,))

    def put_off(self, job: Job, reason: str, not_before: float) -> Job:
        """The step failed and is tried again at ``not_before``, not earlier."""
        with self._expected(job) as cursor:
            cursor.execute(
                "UPDATE jobs SET reason = ?, not_before = ?, owner = NULL WHERE id = ?", (reason, not_before, job.id)
            )
        return self.job(job.id)

    def fail(self, job: Job, reason: str) -> Job:
        """Give the job up; :meth:`retry` begins at the step that failed."""
        with self._expected(job) as cursor:
            cursor.execute(
                "UPDATE jobs SET state = ?, stopped_in = state, reason = ?, owner = NULL, changed = ? WHERE id = ?",
                (State.FAILED, reason, self._clock(), job.id),
            )
        return self.job(job.id)

    def retry(self, job: Job) -> Job:
        """Begin a failed job again at its step, and a refused one with its examination.

        Raises:
            UsageError: it is neither, or its images are no longer kept and its step needs them.
        """
        with self._expected(job) as cursor:
            row = cursor.execute("SELECT * FROM jobs WHERE id = ?", (job.id,)).fetchone()
            if job.state not in {State.FAILED, State.REFUSED}:
                raise UsageError(f"job {job.id} is {job.state}; only failed and refused ones are tried again")
            state = State.RECEIVED if job.state is State.REFUSED else State(row["stopped_in"])
            if not can_go_on(state, row["kept"]):
                raise UsageError(f"job {job.id}: its images are no longer kept; send the series again")
            cursor.execute(
                "UPDATE jobs SET state = ?, stopped_in = NULL, reason = '', attempts = 0, not_before = 0, "
                "conflicts = 0, excess = 0, changed = ? WHERE id = ?",
                (state, self._clock(), job.id),
            )
        return self.job(job.id)

    # What there is.

    def job(self, number: int) -> Job:
        """One job.

        Raises:
            UsageError: there is none of that number.
        """
        rows = self._database.rows("SELECT * FROM jobs WHERE id = ?", number)
        if not rows:
            raise UsageError(f"there is no job {number} in {self._database.path}; oncoseg node status lists them")
        return job_of(rows[0], self._jobs)

    def jobs(
        self,
        states: Collection[State] | None = None,
        *,
        changed_before: float | None = None,
        kept: Collection[Kept] | None = None,
        most: int = -1,
        newest_first: bool = False,
    ) -> list[Job]:
        """Jobs, oldest first: of these states, unchanged since a time, with files that are still kept."""
        states = list(State) if states is None else list(states)
        kept = ["all", "results", "nothing"] if kept is None else list(kept)
        rows = self._database.rows(
            f"SELECT * FROM jobs WHERE state IN ({_marks(states)}) AND kept IN ({_marks(kept)}) "  # noqa: S608
            f"AND (? IS NULL OR changed <= ?) ORDER BY id {'DESC' if newest_first else 'ASC'} LIMIT ?",
            *(*states, *kept, changed_before, changed_before, most),
        )
        return [job_of(row, self._jobs) for row in rows]

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state."""
        counts = dict.fromkeys(State, 0)
        for row in self._database.rows("SELECT state, count(*) AS jobs FROM jobs GROUP BY state"):
            counts[State(row["state"])] = row["jobs"]
        return counts

    def late(self) -> int:
        """How many images came after the work on their series had begun, and were not taken."""
        return int(self._database.rows("SELECT total(late) AS late FROM jobs")[0]["late"])

    # What is kept.

    def forget_images(self, job: Job) -> None:
        """Delete the images and masks of a job that ended. A finished one still recognises them when they are sent
        again; of the others, nothing was made: they are new then.
        """
        self._forget(job, "results", (job.images, job.masks), rows=job.state is not State.CONFIRMED)

    def forget_results(self, job: Job) -> None:
        """Delete the folder of a job that ended; the job itself stays, so that its series is not contoured twice."""
        self._forget(job, "nothing", (job.folder,), rows=True)

    def _forget(self, job: Job, kept: Kept, folders: Sequence[Path], *, rows: bool) -> None:
        """Put the folders aside before anybody can see that they are gone, and then delete them: an image of the series
        that arrives right afterwards has a folder of its own.
        """
        aside = [folder.with_name(f"{folder.name}{ASIDE}") for folder in folders]
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)
        with self._expected(job) as cursor:
            if job.state not in ENDS:
                raise UsageError(f"job {job.id} is {job.state}; only the files of ended ones are deleted")
            cursor.execute("UPDATE jobs SET kept = ? WHERE id = ?", (kept, job.id))
            if rows:
                cursor.execute("DELETE FROM instances WHERE job = ?", (job.id,))
                cursor.execute("UPDATE jobs SET instances = 0 WHERE id = ?", (job.id,))
            for folder, path in zip(folders, aside, strict=True):
                with suppress(FileNotFoundError):
                    folder.rename(path)
            if job.images in folders:
                job.images.mkdir(mode=0o700)
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> int:
        """When a node starts: delete what a crash left half done, or undeleted. Returns how many files and folders.

        Raises:
            StorageError: there are images of jobs that the queue does not know.
        """
        rows = {row["folder"]: row["kept"] for row in self._database.rows("SELECT folder, kept FROM jobs")}
        self._require_known(rows)
        left = [folder for folder in self._jobs.iterdir() if rows.get(folder.name, "nothing") == "nothing"]
        for name, kept in rows.items():
            if kept == "results":
                left += [*(self._jobs / name / "images").glob("*"), *(self._jobs / name / "masks").glob("*")]
        left += [path for pattern in LEFTOVERS for path in self._jobs.parent.rglob(pattern)]
        for path in left:
            _delete(path)
        return len(left)

    # Parts.

    def _require_known(self, names: Collection[str]) -> None:
        """No crash leaves images without their job: the queue is older than they are."""
        unknown = [one for one in self._jobs.iterdir() if one.name not in names and one.suffix != ASIDE]
        holding = [one for one in unknown if any((one / "images").glob("*.dcm"))]
        if holding:
            raise StorageError(
                f"{self._jobs}: the queue does not know the jobs of {len(holding)} folder(s) with images; was an older "
                f"{DATABASE} put back? Put the newer one back, or move these folders away and send their series again"
            )

    def _update_if_unchanged(self, job: Job, assignments: str, *values: object) -> bool:
        with self._database.transaction() as cursor:
            if not _unchanged(cursor, job):
                return False
            cursor.execute(
                f"UPDATE jobs SET {assignments}, attempts = 0, not_before = 0, changed = ? WHERE id = ?",  # noqa: S608
                (*values, self._clock(), job.id),
            )
        return True

    @contextmanager
    def _expected(self, job: Job) -> Iterator[sqlite3.Connection]:
        """A transaction on a job that is still in the state that the caller knows."""
        with self._database.transaction() as cursor:
            row = cursor.execute("SELECT state FROM jobs WHERE id = ?", (job.id,)).fetchone()
            state = None if row is None else row["state"]
            if state != job.state:
                raise UsageError(f"job {job.id} is {state or 'gone'}, not {job.state}: another one moved it on")
            yield cursor


def _require_queue_of_jobs(data: Path) -> None:
    """Of jobs that no queue knows the files would be deleted as leftovers: stop where the queue itself was lost."""
    path, jobs = data / DATABASE, data / JOBS
    lost = not path.exists() or not path.stat().st_size
    if lost and jobs.is_dir() and any(jobs.iterdir()):
        raise StorageError(
            f"{path}: the queue is missing or empty, and {jobs} holds jobs; put the queue back from a backup, or move "
            f"{JOBS} elsewhere to begin anew"
        )


def _unchanged(cursor: sqlite3.Connection, job: Job) -> bool:
    row = cursor.execute("SELECT state, changed FROM jobs WHERE id = ?", (job.id,)).fetchone()
    return row is not None and row["state"] == job.state and row["changed"] == job.changed


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" for _ in values)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
