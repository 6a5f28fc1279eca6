"""Looking at a copy of a dataset: what is there against what is expected, and every problem with its file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from oncoseg_core import BoolArray, Case, DatasetAdapter, DatasetSpec, OncoSegError, Volume
from oncoseg_core.imaging import require_finite
from oncoseg_core.path import parts_of


class Problem(NamedTuple):
    """Something that is wrong (``error``) or that one should know of (``warning``), with its case where it has one."""

    severity: Literal["error", "warning"]
    case: str | None
    message: str


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
    validation or test part, which do not count for it. ``read`` is the number of cases that were opened.
    """

    dataset: str
    root: Path
    expected: int | None
    found: int = 0
    annotated: int = 0
    hidden: int = 0
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
                "read": self.read,
            },
            "patients": self.patients,
            "splits": self.splits,
            "targets": {name: vars(count) for name, count in self.targets.items()},
            "problems": [problem._asdict() for problem in self.problems],
        }


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
    report.splits = dict(sorted(Counter(case.split or "none" for case in cases).items()))
    report.patients = len({case.patient_id for case in cases})
    _compare(report, cases)
    for target in spec.targets:
        report.targets[target.name] = TargetCount()
    for case in reading:
        report.read += 1
        try:
            volume, masks = adapter.load(case)
            require_finite(volume, _channels_of(volume, finite))
        except OncoSegError as error:
            report.problems.append(Problem("error", case.case_id, " ".join(str(error).split())))
            continue
        except Exception as error:  # noqa: BLE001 - an adapter of whoever: the other cases are still worth a look
            message = " ".join(f"unexpected {type(error).__name__}: {error}".split())
            report.problems.append(Problem("error", case.case_id, f"{case.images[0]}: {message}"))
            continue
        _count(report, case, masks)
        seen(case, volume, masks)
    if report.read == len(cases):
        missing = [name for name, count in report.targets.items() if not count.annotated]
        empty = [name for name, count in report.targets.items() if 0 < count.annotated == count.empty]
        for names, state in ((missing, "annotated in no case"), (empty, "empty in every case")):
            if names:
                report.problems.append(Problem("warning", None, f"{state} that could be read: {', '.join(names)}"))
    return report


def _channels_of(volume: Volume, modalities: frozenset[str]) -> list[int]:
    """The channels of a volume that are of one of these modalities."""
    parts = parts_of(volume.modality)
    own = parts * len(volume.voxels) if len(parts) == 1 else parts
    return [channel for channel, part in enumerate(own) if part in modalities and channel < len(volume.voxels)]


def _compare(report: Report, cases: Sequence[Case]) -> None:
    """Note what the names alone tell: too few or too many cases, repeated ids, torn patients."""
    if not cases:
        report.problems.append(Problem("error", None, f"{report.root}: holds no case"))
        return
    counted = report.found - report.hidden
    if report.expected is not None and counted != report.expected:
        part = f", not counting {report.hidden} without label in its validation or test part" if report.hidden else ""
        message = f"found {counted} cases{part}; {report.dataset} was published with {report.expected}"
        report.problems.append(Problem("warning", None, message))
    if not report.annotated:
        report.problems.append(Problem("error", None, f"{report.root}: no case has a label"))
    for name, number in Counter(case.case_id for case in cases).items():
        if number > 1:
            report.problems.append(Problem("error", name, f"{number} cases have this id"))
    sides: dict[str, set[str]] = {}
    for case in cases:
        sides.setdefault(case.patient_id, set()).add(case.split or "none")
    for patient, found in sides.items():
        if len(found) > 1:
            message = f"the patient {patient!r} is in several splits: {', '.join(sorted(found))}"
            report.problems.append(Problem("error", None, message))


def _count(report: Report, case: Case, masks: dict[str, BoolArray]) -> None:
    for name, mask in masks.items():
        count = report.targets.setdefault(name, TargetCount())
        voxels = int(np.count_nonzero(mask))
        count.annotated += 1
        count.voxels += voxels
        count.empty += voxels == 0
    if masks and not any(mask.any() for mask in masks.values()):
        files = ", ".join(str(path) for path in case.labels[:1])
        report.problems.append(Problem("warning", case.case_id, f"{files}: holds none of the targets (empty)"))
