"""The rooms below that do the work of the steps, as one bundle that tests can replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from oncoseg_core import BoolArray, Registry, Volume
from oncoseg_node.config.settings import Destination, NodeSettings, RuleSettings
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import CheckedStructure, Delivery, Made, WrittenObject
from oncoseg_node.records.series import Refusal, SeriesFacts

Beat: TypeAlias = Callable[[str], None]
Masks: TypeAlias = Mapping[str, BoolArray]


class Examine(Protocol):
    """What a series is, the rule that it is for, and why it is not contoured: by any of these reasons."""

    def __call__(
        self, job: Job, settings: NodeSettings
    ) -> tuple[SeriesFacts | None, RuleSettings | None, Sequence[Refusal]]:
        """Examine the images of a job."""


class Make(Protocol):
    """Makes the structures of a rule, and leaves the masks in the job's folder."""

    def __call__(
        self, job: Job, settings: NodeSettings, rule: RuleSettings, registry: Registry, device: str, beat: Beat
    ) -> Made:
        """Make them."""


class Confirm(Protocol):
    """Has a destination prove that it has the objects; reports of storage commitment may lie in a folder."""

    def __call__(
        self,
        objects: Sequence[WrittenObject],
        name: str,
        destination: Destination,
        beat: Beat,
        *,
        commitments: Path | None = None,
    ) -> Sequence[Delivery]:
        """Confirm them."""


class Report(Protocol):
    """Writes the report of a job as it now is."""

    def __call__(
        self,
        job: Job,
        settings: NodeSettings,
        facts: SeriesFacts | None,
        made: Made | None,
        checked: Sequence[CheckedStructure],
        objects: Sequence[WrittenObject],
        deliveries: Sequence[Delivery],
        refusals: Sequence[Refusal],
        *,
        masks: Masks | None = None,
        volume: Volume | None = None,
        beat: Beat = ...,
    ) -> list[Path]:
        """Write it."""


class Rooms(NamedTuple):
    """One function for each thing that the steps ask of the rooms below."""

    examine: Examine
    make: Make
    read_masks: Callable[[Job], tuple[Made, Masks]]
    read_series: Callable[[Path], Any]
    read_volume: Callable[[Any], Volume]
    check: Callable[[Job, NodeSettings, Made, Masks, Volume], Sequence[CheckedStructure]]
    write: Callable[[Job, NodeSettings, Made, Sequence[CheckedStructure], Masks, Any, Beat], Sequence[WrittenObject]]
    send: Callable[[Sequence[WrittenObject], str, Destination, Beat], Sequence[Delivery]]
    confirm: Confirm
    report: Report
    encapsulate: Callable[[Job, NodeSettings, Made, Path, Any], WrittenObject]
