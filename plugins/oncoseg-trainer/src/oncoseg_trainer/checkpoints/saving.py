"""Saving while training goes on: the state is copied to memory, and a thread of its own writes it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from oncoseg_trainer.checkpoints.checkpoint import Checkpoint
from oncoseg_trainer.checkpoints.folder import CheckpointFolder

Written = tuple[int, Path]
"""A step, and the checkpoint after it."""


class Saver:
    """Writes one checkpoint at a time in the background. Use it with ``with``: leaving waits for the one in hand.

    Training waits for the copy only. A save that falls due while another is being written is made as soon as that is
    done, with the state of then.

    Args:
        folder: where to.
        take: copies the run as it is now.
    """

    def __init__(self, folder: CheckpointFolder, take: Callable[[], Checkpoint]) -> None:
        self._folder = folder
        self._take = take
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[Written] | None = None
        self._written: list[Written] = []
        self._is_due = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown(wait=True)

    def tick(self, *, due: bool) -> None:
        """Called after every step: begins a save that is due, now or from before, unless one is being written."""
        self._is_due = self._is_due or due
        if self._is_due and (self._writing is None or self._writing.done()):
            self._begin()

    @property
    def has_failed(self) -> bool:
        """Whether the last save failed; :meth:`wait` raises why."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def wait(self) -> None:
        """Wait until nothing is being written, or due.

        Raises:
            StorageError: it could not be written; the newest checkpoint before it is untouched.
        """
        self._collect()
        if self._is_due:
            self._begin()
            self._collect()

    def save(self) -> None:
        """Save the run as it is now, and wait for it.

        Raises:
            StorageError: it could not be written.
        """
        self._is_due = True
        self.wait()

    def written(self) -> list[Written]:
        """Those that were written since this was last asked."""
        if self._writing is not None and self._writing.done() and not self.has_failed:
            self._collect()
        written, self._written = self._written, []
        return written

    def _begin(self) -> None:
        self._collect()
        self._is_due = False
        checkpoint = self._take()
        self._writing = self._thread.submit(lambda: (checkpoint.state.step, self._folder.save(checkpoint)))

    def _collect(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._written.append(writing.result())
