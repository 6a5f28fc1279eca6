"""All lanes of a node: one examines, one for each device makes structures, others send; none waits for another."""

from __future__ import annotations

import time
from collections.abc import Callable

from oncoseg_node.audit.audit import Audit
from oncoseg_node.config.settings import NodeSettings
from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import State
from oncoseg_node.work.lane import Lane, Meter
from oncoseg_node.work.process import GRACE_SECONDS, WorkerProcess

MOST_SENDERS = 2
"""A destination that does not answer keeps one sender waiting, and the other goes on."""


class Supervisor:
    """Starts the lanes, and ends them."""

    def __init__(
        self, settings: NodeSettings, queue: Queue, audit: Audit, meter: Meter, clock: Callable[[], float] = time.time
    ) -> None:
        self.lanes: list[Lane] = []
        self.stopping = False
        plan: list[tuple[str, str, tuple[State, ...]]] = [("examiner", "cpu", (State.RECEIVED,))]
        plan += [
            (f"device-{number}", device, (State.COMPLETE, State.SEGMENTED))
            for number, device in enumerate(settings.work.devices)
        ]
        senders = min(MOST_SENDERS, max(1, len(settings.destinations)))
        plan += [(f"sender-{number}", "cpu", (State.CHECKED, State.SENT)) for number in range(senders)]
        for name, device, states in plan:
            worker = WorkerProcess(name, settings, device, stopping=lambda: self.stopping)
            self.lanes.append(Lane(worker, states, settings, queue, audit, meter, clock=clock))

    @property
    def alive(self) -> bool:
        """Whether every lane goes on."""
        return all(lane.alive for lane in self.lanes)

    def start(self) -> None:
        """Begin."""
        for lane in self.lanes:
            lane.start()

    def stop(self) -> None:
        """End all workers; what they were at is begun again by the next node."""
        self.stopping = True
        for lane in self.lanes:
            lane.stop()
        for lane in self.lanes:
            lane.join(3 * GRACE_SECONDS)
