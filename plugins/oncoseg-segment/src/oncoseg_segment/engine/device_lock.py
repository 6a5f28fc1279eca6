"""One device, one computation at a time; a prompt goes before a propagation, and both before what is done ahead."""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum

NICENESS = 5
"""Of what is done ahead: a third of the share of a prompt. More, and a prompt for the slice at hand waits too long."""


class Priority(IntEnum):
    """Who goes first; equals go in the order in which they came."""

    PROMPT = 0
    PROPAGATE = 1
    AHEAD = 2


class DeviceLock:
    """The lock of a device: held for one slice at a time, given by the priority of those that wait.

    A thread says its priority with :meth:`priority`; without, it is that of a prompt.

    Args:
        beside: what is done ahead runs beside the rest, one slice at a time: on processors, whose system gives its
            thread what the others leave (:func:`yield_to_others`), and for models that several threads may use.
    """

    def __init__(self, *, beside: bool = False) -> None:
        self._beside = threading.Lock() if beside else None
        self._changed = threading.Condition()
        self._places: list[tuple[int, int]] = []
        self._tickets = itertools.count()
        self._busy = False
        self._thread = threading.local()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        with self._changed:
            return len(self._places)

    @property
    def waited_seconds(self) -> float:
        """Seconds that this thread has spent waiting for the device, all its turns together."""
        return float(getattr(self._thread, "waited", 0.0))

    @contextmanager
    def priority(self, priority: Priority) -> Iterator[None]:
        """Turns that this thread takes meanwhile are of that priority."""
        before = self._priority
        self._thread.priority = priority
        try:
            yield
        finally:
            self._thread.priority = before

    @property
    def _priority(self) -> Priority:
        return Priority(getattr(self._thread, "priority", Priority.PROMPT))

    def __enter__(self) -> None:
        if self._beside is not None and self._priority == Priority.AHEAD:
            self._beside.acquire()
            return
        start = time.perf_counter()
        with self._changed:
            mine = (int(self._priority), next(self._tickets))
            heapq.heappush(self._places, mine)
            self._changed.wait_for(lambda: not self._busy and self._places[0] == mine)
            heapq.heappop(self._places)
            self._busy = True
        self._thread.waited = self.waited_seconds + time.perf_counter() - start

    def __exit__(self, *_: object) -> None:
        if self._beside is not None and self._priority == Priority.AHEAD:
            self._beside.release()
            return
        with self._changed:
            self._busy = False
            self._changed.notify_all()


def yield_to_others() -> None:
    """Let this thread, and those that it starts, have what other threads of the machine leave; where Linux can."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
