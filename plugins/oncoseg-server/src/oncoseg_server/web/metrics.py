"""Numbers for Prometheus; labels are names of routes, stages and codes, never of patients or series."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "oncoseg_request_seconds",
            "Time until a request was answered",
            ["route", "method", "status"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._stages = Histogram(
            "oncoseg_stage_seconds",
            "Time that a step spent in each stage",
            ["stage"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self._encoded = Counter("oncoseg_encoded_ahead", "Slices encoded before a prompt", registry=self.registry)
        self._ended = Counter("oncoseg_sessions_ended", "Sessions that ended", registry=self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A number that is looked up when Prometheus reads it."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    def stages(self, timing_ms: dict[str, float]) -> None:
        """A step was answered."""
        for stage, milliseconds in timing_ms.items():
            self._stages.labels(stage).observe(milliseconds / 1000)

    def encoded(self) -> None:
        """A slice was encoded ahead."""
        self._encoded.inc()

    def ended(self) -> None:
        """A session ended."""
        self._ended.inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)
