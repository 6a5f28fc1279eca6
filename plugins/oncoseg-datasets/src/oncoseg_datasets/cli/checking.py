"""Looking at a copy of a dataset: what is there against what is expected, and every problem with its file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from oncoseg_core import (
    BoolArray,
    Case,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    GeometryError,
    ImageReadError,
    OncoSegError,
    Volume,
)
from oncoseg_core.imaging import require_finite
from oncoseg_core.path import parts_of


class Problem(NamedTuple):
    """Something that is wrong (``error``) or that one should know of (``warning``), with its case where it has one.

    ``kind`` is what such findings are counted under: that of a bad case's fault, or one of those given here.
    """

    severity: Literal["error", "warning"]
    kind: str
    case: str | None
    message: str


_READING: tuple[tuple[type[Exception], str], ...] = (
    (GeometryError, "grid"),
    (ImageReadError, "unreadable"),
    (DataError, "content"),
)
"""The kind of finding by the error with which a case cannot be read."""


@dataclass
class TargetCount:
    """Of the cases that were read: in how many a target is annotated, in how many of these it is empty; its voxels."""

    annotated: int = 0
    empty: int = 0
    voxels: int = 0


@dataclass
class Report:
    """What a check found.

    ``expected`` is the number of cases the dataset was published with, ``hidden`` that of cases without a label in its
    validation or test part, which do not count for it. ``bad`` is the number of cases with a fault, which are not read,
    ``read`` that of cases that were opened.
    """

    dataset: str
    root: Path
    expected: int | None
    found: int = 0
    annotated: int = 0
    hidden: int = 0
    bad: int = 0
    read: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    patients: int = 0
    targets: dict[str, TargetCount] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether there is an error among the problems."""
        return any(problem.severity == "error" for problem in self.problems)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "dataset": self.dataset,
            "root": str(self.root),
            "cases": {
                "found": self.found,
                "annotated": self.annotated,
                "without_label_in_official_parts": self.hidden,
                "expected": self.expected,
                "bad": self.bad,
                "read": self.read,
            },
            "patients": self.patients,
            "splits": self.splits,
            "targets": {name: vars(count) for name, count in self.targets.items()},
            "problems": [problem._asdict() for problem in self.problems],
            "counts": self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind, the most frequent first."""
        counted = Counter(problem.kind for problem in self.problems)
        return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


Seen = Callable[[Case, Volume, dict[str, BoolArray]], None]
"""Called with each case that could be read."""


def check(
    adapter: DatasetAdapter,
    spec: DatasetSpec,
    root: Path,
    cases: Sequence[Case],
    reading: Iterator[Case],
    finite: frozenset[str],
    seen: Seen,
) -> Report:
    """Compare what was found with the record, and read cases one by one. A broken case does not end it.

    Args:
        adapter: of the dataset.
        spec: its record.
        root: the copy.
        cases: all of them.
        reading: those to read; a generator, so that the caller can show how far it got.
        finite: the modalities that take no NaN and no infinite voxel.
        seen: called with what was read.
    """
    hidden = [case for case in cases if not case.labels and case.split in {"validation", "test"}]
    report = Report(dataset=spec.name, root=root, expected=spec.n_cases, found=len(cases), hidden=len(hidden))
    report.annotated = sum(bool(case.labels) for case in cases)
    report.bad = sum(case.fault is not None for case in cases)
    report.splits = dict(sorted(Counter(case.split or "none" for case in cases).items()))
    report.patients = len({case.patient_id for case in cases})
    _compare(report, cases)
    for target in spec.targets:
        report.targets[target.name] = TargetCount()
    for case in reading:
        _read(report, adapter, case, finite, seen)
    if report.read + report.bad == len(cases):
        missing = [name for name, count in report.targets.items() if not count.annotated]
        empty = [name for name, count in report.targets.items() if 0 < count.annotated == count.empty]
        for names, state in ((missing, "annotated in no case"), (empty, "empty in every case")):
            if names:
                message = f"{state} that could be read: {', '.join(names)}"
                report.problems.append(Problem("warning", "absent-target", None, message))
    return report


def refused(spec: DatasetSpec, root: Path, error: OncoSegError) -> Report:
    """The report on a folder in which no case was found, because it is not the dataset."""
    report = Report(dataset=spec.name, root=root, expected=spec.n_cases)
    report.problems.append(Problem("error", "not-the-dataset", None, " ".join(str(error).split())))
    return report


def _read(report: Report, adapter: DatasetAdapter, case: Case, finite: frozenset[str], seen: Seen) -> None:
    """Read one case, and note what is wrong with it and what its adapter says of how it was read."""
    report.read += 1
    try:
        volume, masks = adapter.load(case)
        require_finite(volume, _channels_of(volume, finite))
    except OncoSegError as error:
        kind = next((kind for error_type, kind in _READING if isinstance(error, error_type)), "other")
        report.problems.append(Problem("error", kind, case.case_id, " ".join(str(error).split())))
        return
    except Exception as error:  # noqa: BLE001 - an adapter of whoever: the other cases are still worth a look
        message = " ".join(f"unexpected {type(error).__name__}: {error}".split())
        report.problems.append(Problem("error", "adapter", case.case_id, f"{case.images[0]}: {message}"))
        return
    report.problems.extend(Problem("warning", "note", case.case_id, note) for note in volume.notes)
    _count(report, case, masks)
    seen(case, volume, masks)


def _channels_of(volume: Volume, modalities: frozenset[str]) -> list[int]:
    """The channels of a volume that are of one of these modalities."""
    parts = parts_of(volume.modality)
    own = parts * len(volume.voxels) if len(parts) == 1 else parts
    return [channel for channel, part in enumerate(own) if part in modalities and channel < len(volume.voxels)]


def _compare(report: Report, cases: Sequence[Case]) -> None:
    """Note what the names alone tell: too few or too many cases, repeated ids, torn patients."""
    if not cases:
        report.problems.append(Problem("error", "no-case", None, f"{report.root}: holds no case"))
        return
    report.problems.extend(
        Problem("error", case.fault.kind, case.case_id, case.fault.message) for case in cases if case.fault is not None
    )
    counted = report.found - report.hidden
    if report.expected is not None and counted != report.expected:
        part = f", not counting {report.hidden} without label in its validation or test part" if report.hidden else ""
        message = f"found {counted} cases{part}; {report.dataset} was published with {report.expected}"
        report.problems.append(Problem("warning", "case-count", None, message))
    if not report.annotated:
        report.problems.append(Problem("error", "no-label", None, f"{report.root}: no case has a label"))
    for name, number in Counter(case.case_id for case in cases).items():
        if number > 1:
            report.problems.append(Problem("error", "twice", name, f"{number} cases have this id"))
    sides: dict[str, set[str]] = {}
    for case in (case for case in cases if case.fault is None):
        sides.setdefault(case.patient_id, set()).add(case.split or "none")
    for patient, found in sides.items():
        if len(found) > 1:
            message = f"the patient {patient!r} is in several splits: {', '.join(sorted(found))}"
            report.problems.append(Problem("error", "torn-patient", None, message))


def _count(report: Report, case: Case, masks: dict[str, BoolArray]) -> None:
    for name, mask in masks.items():
        count = report.targets.setdefault(name, TargetCount())
        voxels = int(np.count_nonzero(mask))
        count.annotated += 1
        count.voxels += voxels
        count.empty += voxels == 0
    if masks and not any(mask.any() for mask in masks.values()):
        files = ", ".join(str(path) for path in case.labels[:1])
        report.problems.append(Problem("warning", "empty", case.case_id, f"{files}: holds none of the targets (empty)"))
