"""A lane: one worker process, and the thread that gives it jobs of its states and writes down what became of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from oncoseg_node.audit.audit import Audit
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Flaws, Queue
from oncoseg_node.records.job import Job, State
from oncoseg_node.work.dead_letter import bury, unbury
from oncoseg_node.work.hours import is_off_peak
from oncoseg_node.work.outcome import Fault, StepResult, fault_of
from oncoseg_node.work.process import CRASHED, SILENT, WorkerProcess

log = logging.getLogger("oncoseg.node")
IDLE_SECONDS = 0.2
AFTER_ERROR_SECONDS, MOST_SECONDS = 2.0, 60.0
"""Between errors of the queue or the audit: twice as long each time."""


class Meter(Protocol):
    """Counts what the lanes do."""

    def step(self, state: str, seconds: dict[str, float]) -> None:
        """A step was done, from this state."""

    def fault(self, kind: str) -> None:
        """A step failed."""

    def refused(self, kinds: list[str]) -> None:
        """A series was refused."""


class Lane:
    """Gives the jobs of ``states`` to a worker, one at a time, until :meth:`stop`.

    Jobs are taken by state; received ones when they have been quiet for long enough.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        states: tuple[State, ...],
        settings: NodeSettings,
        queue: Queue,
        audit: Audit,
        meter: Meter,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.worker, self.states = worker, states
        self.job: Job | None = None
        self.error = ""
        """What kept the lane itself from its work, the last time."""
        self._settings, self._queue, self._audit, self._meter, self._clock = settings, queue, audit, meter, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=worker.name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread goes on."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take no further job; the step that goes on is broken off, and begun again by the next node."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _loop(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                busy = self.step()
            except Exception as error:  # noqa: BLE001 - a full disk, say: it may pass, and the other jobs go on
                self.error = fault_of(error).message
                log.error("%s: %s", self.worker.name, self.error)  # noqa: TRY400 - one line
                self._stop.wait(min(AFTER_ERROR_SECONDS * 2**failures, MOST_SECONDS))
                failures = min(failures + 1, 10)
                continue
            self.error, failures = "", 0
            if not busy:
                self._stop.wait(IDLE_SECONDS)
        self.worker.kill()

    def step(self) -> bool:
        """Do what is next; False where there is nothing to do."""
        job = self._next()
        if job is None:
            return False
        self.job = job
        try:
            while job is not None and not self._stop.is_set():
                job = self._advanced(job)
                self.job = job
        finally:
            self.job = None
            self._queue.release(self.worker.name)
        return True

    def _next(self) -> Job | None:
        now = self._clock()
        if State.RECEIVED in self.states:
            quiet = self._queue.quiet_jobs(self._settings.quiet_seconds, now, most=1)
            return self._queue.begin(quiet[0]) if quiet else None
        local = datetime.fromtimestamp(now)  # noqa: DTZ006 - hours of the settings are the machine's
        off_peak = is_off_peak(self._settings.work.off_peak, local)
        return self._queue.take(self.states, self.worker.name, now, off_peak=off_peak)

    def _advanced(self, job: Job) -> Job | None:
        """Do one step of a job; the job where the next one is this lane's too."""
        flaws: Flaws | None = self._queue.flaws(job) if job.state is State.RECEIVED else None
        outcome = self.worker.run(job, flaws)
        if isinstance(outcome, Fault):
            self._faulted(job, outcome)
            return None
        return self._done(job, outcome)

    def _done(self, job: Job, result: StepResult) -> Job | None:
        self._meter.step(job.state, result.seconds)
        seconds = {phase: round(value, 3) for phase, value in result.seconds.items()}
        facts = {"job": job.id, "series_uid": job.series_uid, "rule": result.rule or job.rule, **result.facts}
        if job.state is State.RECEIVED:
            self._examined(job, result, facts)
            return None
        if result.state is State.REFUSED:
            self._meter.refused(list(result.facts.get("kinds", ())))
        self._audit.write(result.state, **facts, reason=result.reason, seconds=seconds)
        keep = result.state in self.states
        log.info("job %d: %s -> %s in %.1f s", job.id, job.state, result.state, result.seconds.get("all", 0.0))
        moved = self._queue.advance(job, result.state, result.reason, keep=keep)
        return moved if keep else None

    def _examined(self, job: Job, result: StepResult, facts: dict[str, object]) -> None:
        self._audit.write("examined", result=result.state, **facts, reason=result.reason)
        unbury(self._settings.data, job)
        if result.state is State.COMPLETE:
            moved = self._queue.complete(job, result.rule, result.priority, off_peak=result.off_peak)
        else:
            moved = self._queue.refuse(job, result.reason)
        if not moved:
            log.info("job %d: an image came meanwhile; it is examined again", job.id)
            return
        if result.state is State.REFUSED:
            self._meter.refused([str(kind) for kind in result.facts.get("kinds", ())])
        log.info("job %d: %s%s", job.id, result.state, f" ({result.reason})" if result.reason else "")

    def _faulted(self, job: Job, fault: Fault) -> None:
        if fault.kind == "stopped":
            self._queue.give_back(job)
            return
        self._meter.fault(fault.kind)
        log.warning("job %d: %s failed (%s): %s", job.id, job.state, fault.kind, fault.message)
        work = self._settings.work
        if not fault.permanent and job.attempts < work.attempts:
            wait = work.backoff_seconds[min(job.attempts, len(work.backoff_seconds)) - 1]
            self._audit.write(
                "put off",
                job=job.id,
                series_uid=job.series_uid,
                state=job.state,
                kind=fault.kind,
                reason=fault.message,
                attempt=job.attempts,
                seconds=wait,
            )
            self._queue.put_off(job, fault.message, self._clock() + wait)
            return
        bury(self._settings.data, job, fault, self._clock())
        self._audit.write(
            "failed",
            job=job.id,
            series_uid=job.series_uid,
            state=job.state,
            kind=fault.kind,
            reason=fault.message,
            attempt=job.attempts,
        )
        failed = self._queue.fail(job, fault.message)
        if fault.kind not in {CRASHED, SILENT}:
            report = self.worker.run(failed)
            if isinstance(report, Fault):
                log.warning("job %d: no report could be written (%s): %s", job.id, report.kind, report.message)
