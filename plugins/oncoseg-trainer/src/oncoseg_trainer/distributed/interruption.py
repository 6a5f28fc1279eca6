"""Being interrupted: what is in hand is finished and saved first, and what does not come to an end is named or left.

A signal handler of Python runs in the main thread only, between two of its instructions: not while that thread waits in
a collective, or in a file that nobody writes. So a thread of its own hears of signals too, from the file descriptor
that the system's handler writes to.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C; what torchrun, SLURM and most systems send before they kill; what ``sbatch --signal=USR1@120`` sends."""

PATIENCE_SECONDS = 10.0
"""What may be left undone (a sample, a case being scored) is left after that."""

NOTICE_SECONDS = 15.0
NOTICE_AGAIN_SECONDS = 60.0
"""When a process that was asked to stop says what it waits for."""

SECOND_SECONDS = 5.0
"""What the main thread gets to end by itself after a second signal."""

_LEAVE = getattr(signal, "SIGURG", None)
"""Wakes the main thread out of a call to the system; a process that expects no such signal ignores it."""


class AbandonedError(BaseException):
    """A stop did not wait any longer for what the text names. No error: what handles those must not keep it."""


class _Wait(NamedTuple):
    what: str
    may_be_left: bool


_waits: list[_Wait] = []
_active: list[StopRequest] = []


@contextmanager
def waiting_for(what: str, *, may_be_left: bool = False) -> Iterator[None]:
    """Name what a stop has to wait for while the block runs, in the main thread.

    Args:
        what: such as ``step 3 of 40``.
        may_be_left: whether a stop may leave the block: nothing in it is kept.

    Raises:
        AbandonedError: a stop has waited long enough for a block that may be left.
    """
    depth = len(_waits)
    _waits.append(_Wait(what, may_be_left))
    try:
        yield
    finally:
        del _waits[depth:]


class StopRequest:
    """Whether a stop signal has come. But in :func:`deferred` a first one ends the process: nothing is to be saved."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._handled = 0
        self.is_deferred = False
        self._ear, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    def __call__(self) -> bool:
        """Whether one has come."""
        return self._asked.is_set()

    @property
    def is_repeated(self) -> bool:
        """Whether a second one has come."""
        return self._handled > 1

    @contextmanager
    def _listening(self) -> Iterator[None]:
        handlers = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        if _LEAVE is not None:
            handlers[_LEAVE] = signal.signal(_LEAVE, _leave)
        wakeup = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._mouth.close()
            self._thread.join()
            self._ear.close()

    def _handle(self, _number: int, _frame: object) -> None:
        self._asked.set()
        self._handled += 1
        if self._handled > 1 or not self.is_deferred:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        """Hear signals, and look after a stop that takes long; ends when the other end is closed."""
        times: list[float] = []
        notice = NOTICE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.5 if times else None):
                    numbers = self._ear.recv(64)
                    if not numbers:
                        return
                    times += [time.monotonic() for number in numbers if number in STOP_SIGNALS]
                if not times:
                    continue
                self._asked.set()
                waited = time.monotonic() - times[0]
                if len(times) > 1 and time.monotonic() - times[1] > SECOND_SECONDS:
                    _say(f"error: interrupted while waiting for {_what()}")
                    os._exit(1)
                if waited > PATIENCE_SECONDS and _LEAVE is not None and _waits and _waits[-1].may_be_left:
                    signal.pthread_kill(threading.main_thread().ident or 0, _LEAVE)
                if waited > notice:
                    notice += NOTICE_AGAIN_SECONDS
                    _say(
                        f"Asked to stop {waited:.0f} s ago: waiting for {_what()}. Ask again to end at once; the last "
                        "checkpoint then counts."
                    )


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield what says whether a stop signal has come; a second one ends the process at once. Calls within share it."""
    if _active:
        yield _active[-1]
        return
    request = StopRequest()
    _active.append(request)
    try:
        with request._listening():  # noqa: SLF001
            yield request
    finally:
        _active.clear()


@contextmanager
def deferred() -> Iterator[None]:
    """While the block runs, a first stop signal only sets the flag; the block looks at it, and saves."""
    if not _active:
        yield
        return
    request = _active[-1]
    before, request.is_deferred = request.is_deferred, True
    try:
        yield
    finally:
        request.is_deferred = before


def _leave(_number: int, _frame: object) -> None:
    if _waits and _waits[-1].may_be_left:
        raise AbandonedError(_waits[-1].what)


def _what() -> str:
    waits = list(_waits)
    return waits[-1].what if waits else "what it is doing to be finished"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
