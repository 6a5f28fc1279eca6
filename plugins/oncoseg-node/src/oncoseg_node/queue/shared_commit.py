"""One commit for all that waits for one: what several associations bring at once is synced to the disk together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from oncoseg_node.queue.arrivals import Added, Arrival


class _Waiting:
    """An arrival that waits for a commit, and what became of it."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.added: Added | None = None
        self.error: Exception | None = None


class SharedCommit:
    """``commit`` notes a batch of arrivals in one transaction. Who gets the lock takes along all who wait for it."""

    def __init__(self, commit: Callable[[Sequence[Arrival]], Sequence[Added]]) -> None:
        self._commit = commit
        self._waiting: list[_Waiting] = []
        self._arriving, self._commits = threading.Lock(), threading.Lock()

    def add(self, arrival: Arrival) -> Added:
        """Note an arrival; it is on the disk when this returns.

        Raises:
            OncoSegError: as ``commit`` does, for all of its batch.
        """
        mine = _Waiting(arrival)
        with self._arriving:
            self._waiting.append(mine)
        with self._commits:
            if mine.added is None and mine.error is None:
                with self._arriving:
                    batch, self._waiting = self._waiting, []
                self._note(batch)
        if mine.error is not None:
            raise mine.error
        assert mine.added is not None  # noqa: S101 - a batch answers all of its own
        return mine.added

    def _note(self, batch: list[_Waiting]) -> None:
        try:
            added = self._commit([one.arrival for one in batch])
        except Exception as error:  # noqa: BLE001 - each raises it to its own caller
            for one in batch:
                one.error = error
        else:
            for one, answer in zip(batch, added, strict=True):
                one.added = answer
