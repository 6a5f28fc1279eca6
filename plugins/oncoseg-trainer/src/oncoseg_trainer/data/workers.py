"""Worker processes that answer requests ahead of time.

Each has a line of its own, so that the end of one cannot stop the others, or the run's process: there is no queue, lock
or thread that they share.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from oncoseg_core import OncoSegError, PluginError, RunError
from oncoseg_trainer.data.shared_memory import shared_memory_failure
from oncoseg_trainer.distributed.interruption import STOP_SIGNALS, waiting_for

Request = TypeVar("Request")
Answer = TypeVar("Answer")

AHEAD = 2
"""Answers of each worker that may be ready, or in the making."""

SLOW_SECONDS = 60.0
"""An answer that takes longer is said to."""

END_SECONDS = 1.0
"""What workers get to end by themselves. They keep nothing that would be lost."""


class _Worker(NamedTuple):
    process: BaseProcess
    line: Connection


class Workers(Generic[Request, Answer]):
    """Answers in the order of the requests. Workers are started afresh, not forked. Use it with ``with``.

    Args:
        work: answers a request, in a worker; it is sent there once.
        requests: all of them; one is taken when there is a worker for it.
        number: of workers.
        name: what a request is about, for messages.
        warn: takes a line about an answer that is long in coming.
    """

    def __init__(
        self,
        work: Callable[[Request], Answer],
        requests: Iterator[Request],
        number: int,
        *,
        name: Callable[[Request], str],
        warn: Callable[[str], None],
    ) -> None:
        self._requests = requests
        self._name = name
        self._warn = warn
        self._has_warned = False
        self._workers: list[_Worker] = []
        self._open: deque[tuple[int, Request]] = deque()
        try:
            with _signals_blocked():
                for _ in range(number):
                    self._workers.append(_started(work))
            for place in list(range(number)) * AHEAD:
                self._send(place)
        except ConnectionError as error:
            death = self._death()
            self.close()
            raise death from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.line.close()
        deadline = time.monotonic() + END_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()  # SIGTERM is blocked in it
            worker.process.join(END_SECONDS)
        self._workers.clear()

    def __iter__(self) -> Iterator[Answer]:
        while self._open:
            place, request = self._open[0]
            with waiting_for(self._name(request), may_be_left=True):
                answer = self._receive(place, request)
                self._open.popleft()
                self._send(place)
            if isinstance(answer, OncoSegError):
                raise answer
            yield answer

    def _send(self, place: int) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._open.append((place, request))
            try:
                self._workers[place].line.send(request)
            except OSError as error:
                raise self._death() from error

    def _receive(self, place: int, request: Request) -> Any:
        """The next answer of a worker.

        Raises:
            RunError: a worker died.
        """
        line = self._workers[place].line
        ends = [worker.process.sentinel for worker in self._workers]
        while True:
            ready = wait([line, *ends], timeout=None if self._has_warned else SLOW_SECONDS)
            if line in ready:
                try:
                    return line.recv()
                except (EOFError, OSError) as error:  # of a tensor too: its maker hands it over
                    raise self._death() from error
            if ready:
                raise self._death()
            self._has_warned = True
            self._warn(
                f"no sample for {SLOW_SECONDS:.0f} s: data worker {place} has not finished {self._name(request)} (a "
                "slow disk, or a file that is never written to its end?)"
            )

    def _death(self) -> RunError:
        """What became of the workers that have died, as far as the system says."""
        deaths = []
        for number, worker in enumerate(self._workers):
            worker.process.join(END_SECONDS / len(self._workers))  # it may be about to go
            code = worker.process.exitcode
            if code is not None and code < 0:
                name = signal.Signals(-code).name
                deaths.append(f"number {number} by {name}{_REASONS.get(name, '')}")
            elif code is not None:
                deaths.append(f"number {number} with exit code {code}")
        died = f" ({'; '.join(deaths)})" if deaths else ""
        return RunError(f"a data worker died{died}; go on with --resume, and with fewer training.workers")


_REASONS = {
    "SIGKILL": ", as the system does when memory runs out",
    "SIGBUS": ", as the system does when shared memory runs out",
}


def require_sendable(work: object) -> None:
    """Refuse what cannot be sent to a worker before the first is started.

    Raises:
        PluginError: with the reason.
    """
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise PluginError(
            f"a dataset, normalizer or prompt generator cannot be sent to a worker process ({reason}): set "
            "training.workers to 0, or have its plugin keep nothing that cannot be pickled"
        ) from error


def _started(work: Callable[[Any], Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    line, its_line = context.Pipe()
    process = context.Process(target=_answer_all, args=(its_line, work), daemon=True)
    process.start()
    its_line.close()  # so that the line ends when the worker does
    return _Worker(process, line)


def _answer_all(line: Connection, work: Callable[[Any], Any]) -> None:
    """What a worker does until its line is closed."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        while True:
            line.send_bytes(_packed(work, line.recv()))
    except (EOFError, ConnectionError):
        return


def _packed(work: Callable[[Any], Any], request: Any) -> Any:
    """An answer as bytes, its tensors in shared memory; an error of ours where there is none.

    Packed here, and not by a thread of a queue, whose failure nobody would hear of.
    """
    try:
        return ForkingPickler.dumps(work(request))
    except Exception as error:  # noqa: BLE001 - all are raised again in the run's process
        return pickle.dumps(_as_ours(error))


def _as_ours(error: Exception) -> OncoSegError:
    if isinstance(error, OncoSegError):
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - its own bytes
        except Exception:  # noqa: BLE001 - whatever a plugin's class does
            return PluginError(str(error))
        return error
    if isinstance(error, MemoryError):
        return RunError("a data worker has no memory left; go on with --resume, and with fewer training.workers")
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return shared_memory_failure(error) or PluginError(
        f"a data worker failed: {reason}; training.workers=0 shows where"
    )


def _end_with_parent() -> None:
    """End even in the midst of a read when the run's process is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started meanwhile never see what asks the run to stop: it finishes its step and ends them itself."""
    resource_tracker.ensure_running()  # started later, it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
