"""Numbers for Prometheus; labels are states, phases and kinds, never of patients or series."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from oncoseg_node.queue.queue import Queue
from oncoseg_node.records.job import ENDS, State

BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class Metrics:
    """The counters of one node since it started; what is in the queue is looked up when Prometheus reads it."""

    def __init__(self, queue: Queue, is_full: Callable[[], bool], clock: Callable[[], float] = time.time) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "oncoseg_node_step_seconds",
            "Time of a step, from the state it began in; phase `all` is the whole step",
            ["state", "phase"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._faults = Counter(
            "oncoseg_node_faults", "Steps that failed, and were put off or given up", ["kind"], registry=self.registry
        )
        self._refused = Counter(
            "oncoseg_node_refusals", "Reasons for which series were refused", ["kind"], registry=self.registry
        )
        self.registry.register(_OfQueue(queue, is_full, clock))

    def step(self, state: str, seconds: dict[str, float]) -> None:
        """A step was done."""
        for phase, value in seconds.items():
            self._seconds.labels(state, phase).observe(value)

    def fault(self, kind: str) -> None:
        """A step failed."""
        self._faults.labels(kind).inc()

    def refused(self, kinds: list[str]) -> None:
        """A series was refused."""
        for kind in kinds:
            self._refused.labels(kind).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _OfQueue(Collector):
    def __init__(self, queue: Queue, is_full: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._queue, self._is_full, self._clock = queue, is_full, clock

    def collect(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("oncoseg_node_jobs", "Series by state", labels=["state"])
        for state, count in self._queue.counts().items():
            jobs.add_metric([state], count)
        yield jobs
        oldest = self._queue.jobs([state for state in State if state not in ENDS], most=1)
        age = self._clock() - oldest[0].created if oldest else 0.0
        yield GaugeMetricFamily("oncoseg_node_oldest_seconds", "Age of the oldest series on its way", value=age)
        arrived = CounterMetricFamily("oncoseg_node_instances", "Images that arrived", labels=["status"])
        for status, count in self._queue.arrived.items():
            arrived.add_metric([status], count)
        yield arrived
        yield GaugeMetricFamily("oncoseg_node_disk_full", "Whether nothing is received", value=float(self._is_full()))

    def describe(self) -> Iterator[Metric]:
        """Nothing: the queue is not looked at when the node starts."""
        return iter(())
