"""The queue's SQLite file: durable at every commit, shared by threads and processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oncoseg_core import DataError, StorageError
from oncoseg_core.system import write_failure

VERSION = 1
SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study_uid TEXT NOT NULL,
    series_uid TEXT NOT NULL,
    folder TEXT NOT NULL,
    state TEXT NOT NULL,
    rule TEXT NOT NULL DEFAULT '',
    priority INTEGER NOT NULL DEFAULT 0,
    off_peak INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL,
    changed REAL NOT NULL,
    not_before REAL NOT NULL DEFAULT 0,
    owner TEXT,
    stopped_in TEXT,
    instances INTEGER NOT NULL DEFAULT 0,
    conflicts INTEGER NOT NULL DEFAULT 0,
    excess INTEGER NOT NULL DEFAULT 0,
    late INTEGER NOT NULL DEFAULT 0,
    kept TEXT NOT NULL DEFAULT 'all'
);
CREATE INDEX jobs_of_series ON jobs (series_uid, study_uid, id);
CREATE INDEX jobs_by_state ON jobs (state, priority DESC, id);
CREATE TABLE instances (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sop_uid TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (job, sop_uid)
) WITHOUT ROWID;
"""
_BUSY_SECONDS = 30.0


class Database:
    """One connection for all threads of a process, behind a lock; other processes wait their turn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(0o600)  # SQLite gives its log the mode of the file
            self._connection = sqlite3.connect(path, _BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._migrate()
            path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{path}: the queue cannot be opened ({error}); is the disk full, or another's?"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, on the disk when the block ends; one at a time over all threads and processes.

        Raises:
            StorageError: the disk is full, or another process holds the database for too long.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except OSError as error:  # a job's folder
                raise StorageError(write_failure(error, self.path.parent)) from error
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise StorageError(f"{self.path}: the queue cannot be written ({error})") from error

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """What a query finds.

        Raises:
            StorageError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StorageError(f"{self.path}: the queue cannot be read ({error})") from error

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        with self._lock:
            self._connection.close()

    def _migrate(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in SCHEMA.split(";"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute("COMMIT")
        if version not in {0, VERSION}:
            raise DataError(
                f"{self.path}: the queue has format {version}, this version of the node reads {VERSION}; install the "
                "version that wrote it, or begin with another `data` folder"
            )
