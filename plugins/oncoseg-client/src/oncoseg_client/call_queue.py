"""One thread that does one thing after another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger("oncoseg.client")


class CallQueue:
    """Calls run in their order on a thread of their own.

    Args:
        name: of the thread.
        idle: called on the thread when there has been nothing to do for ``idle_seconds``.
        idle_seconds: how long that is.
    """

    def __init__(self, name: str, idle: Callable[[], None] = lambda: None, idle_seconds: float = 30.0) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._idle, self._idle_seconds = idle, idle_seconds
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, call: Callable[[], Any]) -> None:
        """Run this after what was given before."""
        self._calls.put(call)

    def end(self, seconds: float = 0.0) -> None:
        """Do what was given, then no more; wait for that as long as this."""
        self._calls.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            try:
                call = self._calls.get(timeout=self._idle_seconds)
            except queue.Empty:
                call = self._idle
            if call is None:
                return
            try:
                call()
            except Exception as error:  # noqa: BLE001 - one call's fault must not end the thread
                log.error("unexpected: %s", type(error).__name__)  # noqa: TRY400 - messages can name files of patients
