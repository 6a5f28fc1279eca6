"""What a step ends with: the next state, or a fault."""

from __future__ import annotations

import errno
from typing import Any

from pydantic import Field

from oncoseg_core import (
    DataError,
    GeometryError,
    ImageReadError,
    MissingDependencyError,
    OncoSegError,
    PluginError,
    QualityError,
    Record,
    UsageError,
    WeightsError,
)
from oncoseg_core.system import display_path, printable
from oncoseg_node.records.job import State

LONGEST_REASON = 500
_PERMANENT: dict[type[OncoSegError], str] = {
    ImageReadError: "image",
    GeometryError: "image",
    DataError: "data",
    QualityError: "quality",
    WeightsError: "weights",
    MissingDependencyError: "installation",
    PluginError: "plugin",
    UsageError: "settings",
}
"""Faults that come again with every attempt, until a person changes something."""


class StepResult(Record):
    """A step that was done: the job's next ``state`` and why, the matched rule where there is one.

    ``facts`` are for the audit, without patient data; ``seconds`` by phase.
    """

    state: State
    reason: str = ""
    rule: str = ""
    priority: int = 0
    off_peak: bool = False
    facts: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)


class Fault(Record):
    """A step that failed: the ``kind`` under which it is counted, a line without patient data, is it worth a retry."""

    kind: str
    message: str
    permanent: bool = False


class StepError(OncoSegError):
    """A step cannot be done now: raised with the fault's kind."""

    def __init__(self, kind: str, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.kind, self.permanent = kind, permanent


def fault_of(error: BaseException) -> Fault:
    """A fault for an error; of one that nobody foresaw its kind and place alone: its message may name a patient."""
    if isinstance(error, StepError):
        return Fault(kind=error.kind, message=_line(error), permanent=error.permanent)
    if isinstance(error, OncoSegError):
        kinds = [kind for family, kind in _PERMANENT.items() if isinstance(error, family)]
        return Fault(kind=kinds[0] if kinds else "storage", message=_line(error), permanent=bool(kinds))
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Fault(kind="storage", message="the disk is full; free space")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Fault(kind="memory", message="there is not enough memory; use a smaller model, or another device")
    return Fault(kind="unforeseen", message=trace_line(error))


def trace_line(error: BaseException) -> str:
    """The kind of an error and the lines of code that it came through; no values."""
    lines = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{step.tb_lineno} {code.co_name}")
        step = step.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(lines[-8:]))}"[:LONGEST_REASON]


def _line(error: BaseException) -> str:
    return printable(" ".join(display_path(str(error)).split()))[:LONGEST_REASON]
