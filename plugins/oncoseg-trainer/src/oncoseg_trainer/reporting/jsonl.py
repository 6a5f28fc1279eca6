"""The ``jsonl`` tracker: one line per event in ``metrics.jsonl``, without times: equal runs write equal files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oncoseg_core import StorageError, Tracker
from oncoseg_core.system import atomic_write, json_text

METRICS_FILE = "metrics.jsonl"


class JsonlTracker(Tracker):
    """Appends ``{"step": …, "event": …, …}`` lines; on resume, lines of steps that will be taken again are dropped."""

    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:  # noqa: ARG002
        """Begin the file, or cut it back to what the checkpoint knows."""
        path = self.run_directory / METRICS_FILE
        kept = []
        if resumed_step is not None and path.exists():
            kept = [row for row in read_metrics(path) if row["step"] <= resumed_step]
        # Scores and warnings of the last step may have been written before the process died, and will come again.
        self._last = [_identity(row) for row in kept if row["event"] != "train" and row["step"] == resumed_step]
        atomic_write(path, "".join(json_text(row) + "\n" for row in kept))

    def metrics(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        path = self.run_directory / METRICS_FILE
        if values["event"] != "train" and _identity({"step": step, **values}) in self._last:
            return
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json_text({"step": step, **values}) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("step", "event", "dataset", "case", "target", "message"))


def read_metrics(path: Any) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; a last line that a crash cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
