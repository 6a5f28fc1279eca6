"""A series on its way through the node."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from oncoseg_core import Record


class State(StrEnum):
    """Where a series is. Each step is written down before the next begins, and is begun again after a crash."""

    RECEIVED = "received"
    """Instances arrive."""
    COMPLETE = "complete"
    """Quiet, examined and matched: waits for a worker."""
    SEGMENTED = "segmented"
    """The masks are on disk."""
    CHECKED = "checked"
    """Judged; RTSTRUCT, SEG and report are on disk."""
    SENT = "sent"
    """Every destination took everything."""
    CONFIRMED = "confirmed"
    """Every destination proved that it has it. The end."""
    REFUSED = "refused"
    """None that the rules are for, or a bad one: the report names why. The end."""
    FAILED = "failed"
    """Given up after all attempts: in the dead-letter folder with the reason; ``oncoseg node retry`` tries again."""


ENDS = frozenset({State.CONFIRMED, State.REFUSED, State.FAILED})


EARLIER = "earlier.json"
"""In the folder of a job that is not the first of its series."""


class Earlier(Record):
    """The job of the same series before: its ``case``, as reports call it, and how many ``images`` it had (0: unknown).

    What was made of it may be at the destinations.
    """

    case: str
    images: int


class Job(Record):
    """One series and what is done with it.

    ``folder`` holds ``images/`` (the received instances), ``masks/`` and ``out/`` (what is sent, and the report). Its
    name and ``id`` tell nothing of the patient. ``rule`` is empty until one matched. ``attempts`` count those of the
    present state; ``reason`` says why it is refused, failed, or was put off. Times are seconds since 1970, UTC.
    """

    id: int
    study_uid: str
    series_uid: str
    folder: Path
    state: State
    rule: str = ""
    priority: int = 0
    off_peak: bool = False
    attempts: int = 0
    reason: str = ""
    created: float
    changed: float
    not_before: float = 0.0

    @property
    def earlier(self) -> Earlier | None:
        """The job of this series before it; None of the first one."""
        path = self.folder / EARLIER
        return Earlier.model_validate_json(path.read_bytes()) if path.is_file() else None

    @property
    def images(self) -> Path:
        """The folder of received instances, one series in it."""
        return self.folder / "images"

    @property
    def masks(self) -> Path:
        """The folder of the masks, between segmenting and writing."""
        return self.folder / "masks"

    @property
    def out(self) -> Path:
        """The folder of what is sent, and of the report."""
        return self.folder / "out"
