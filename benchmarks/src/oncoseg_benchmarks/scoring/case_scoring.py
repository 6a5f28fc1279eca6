"""One subject on one loaded case: every target by every policy, with scores, masks, latency, and what failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from oncoseg_benchmarks.scoring.empty_masks import score_all
from oncoseg_benchmarks.scoring.policies import Answer, Policy
from oncoseg_benchmarks.scoring.saved_masks import Packed, digest, pack
from oncoseg_benchmarks.scoring.subjects import Session, Subject
from oncoseg_benchmarks.table.rows import Row
from oncoseg_core import (
    AnyPrompt,
    BoolArray,
    Box,
    Case,
    Metric,
    MetricSpec,
    OncoSegError,
    Point,
    Prompt,
    Target,
    Volume,
)
from oncoseg_core.data import labelled_slices
from oncoseg_core.system import derived_generator
from oncoseg_prompts.api import Objects, union
from oncoseg_segment.api import longest_diameter

SIZES = ("< 10 mm", "10-20 mm", "> 20 mm")
"""10 mm is the smallest lesion that RECIST 1.1 measures on CT (Eisenhauer et al., Eur J Cancer 2009)."""


@dataclass
class CaseResult:
    """What came out of a case: rows, failures (which policy and target, and why), masks by key, seconds, and mm."""

    rows: list[Row] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    masks: dict[str, Packed] = field(default_factory=dict)
    references: dict[str, Packed] = field(default_factory=dict)
    latency: dict[str, float | None] = field(default_factory=dict)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class ScoringTask:
    """A target of a case to be scored; ``absent`` where it is a concept that no image has."""

    target: Target
    reference: BoolArray
    absent: bool = False


def score_case(
    subject: Subject,
    case: Case,
    volume: Volume,
    tasks: Sequence[ScoringTask],
    policies: Sequence[Policy],
    metrics: Mapping[str, tuple[MetricSpec, Metric]],
    seed: int,
) -> CaseResult:
    """Score one case.

    Slice by slice, and on each slice policy by policy, so that a slice is encoded once. Of a target that is prompted
    lesion by lesion, the lesions of a slice are asked about together, and the union of the answers is its mask. The
    prompts are drawn from the seed, the case, the target and the slice: they are those of
    :func:`oncoseg_trainer.data.scoring.score_case`, and the same for every subject.

    Args:
        subject: a model or a reference.
        case: the record, for names.
        volume: its image.
        tasks: the targets, with their references ``(z, y, x)``.
        policies: those that the subject takes.
        metrics: by name.
        seed: the run's.
    """
    result = CaseResult(spacing=volume.geometry.spacing)
    session = subject.open(volume)
    everywhere = sorted({index for task in tasks for index in labelled_slices(task.reference)})
    for task in tasks:
        attempts = [
            _Attempt(policy, session, task, seed, case.case_id, everywhere)
            for policy in policies
            if _concerns(policy, task)
        ]
        for index in range(len(task.reference)):
            for attempt in attempts:
                attempt.slice(index)
        key = task.target.name
        result.references[key] = pack(task.reference)
        facts = _facts(case, volume, task, result.references[key])
        for attempt in attempts:
            scores = attempt.score(metrics, volume)
            where = {"prompt": attempt.policy.provenance_of(task.target), "level": attempt.policy.level}
            if scores is None:
                result.failures.append({"target": key, **where, "reason": str(attempt.failure)})
                continue
            packed = pack(attempt.mask)
            result.masks[mask_key(key, **where)] = packed
            result.rows.append(
                {
                    "model": subject.label,
                    **facts,
                    **where,
                    **attempt.counts(),
                    "predicted_voxels": int(np.count_nonzero(attempt.mask)),
                    "common_voxels": int(np.count_nonzero(attempt.mask & task.reference)),
                    "prediction_sha256": digest(packed),
                    **scores,
                }
            )
    result.latency = session.latency()
    return result


def mask_key(target: str, prompt: str, level: str) -> str:
    """The name under which a mask is saved."""
    return f"{target}|{prompt}|{level}"


def one_line(error: BaseException) -> str:
    """Why something failed, without line breaks."""
    text = " ".join(str(error).split())
    return text if isinstance(error, OncoSegError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _concerns(policy: Policy, task: ScoringTask) -> bool:
    """Whether a policy asks for a target: one that points at the object needs it there, a concept has only its name."""
    if task.absent:
        return task.target.name in getattr(policy.settings, "absent", ())
    return not policy.points_at_object or bool(task.reference.any())


class _Attempt:
    """One policy on one target of one case."""

    def __init__(
        self, policy: Policy, session: Session, task: ScoringTask, seed: int, case_id: str, everywhere: Sequence[int]
    ) -> None:
        self.policy = policy
        self.failure: str | None = None
        self.mask: BoolArray = np.zeros(task.reference.shape, dtype=bool)
        self._session = session
        self._task = task
        self._seed = (seed, "score", case_id, task.target.name)
        self._asked: list[int] = []
        self._drawn_prompts: list[Prompt] = []
        self._clicks: list[int] = []
        areas = task.reference.sum(axis=(1, 2))
        self._largest = int(areas.argmax())
        self._objects = Objects.of(task.reference, each_lesion=policy.each_lesion(task.target))
        self._followed: dict[int, list[int]] = {}
        if policy.asks_every_slice:
            self._slices = set(range(len(areas)))
        elif task.absent or not areas.any():
            self._slices = set(everywhere or [len(areas) // 2])
        elif policy.level == "volume":
            for number in range(1, self._objects.number + 1):
                largest = int(self._objects.volume(number, task.reference).sum(axis=(1, 2)).argmax())
                self._followed.setdefault(largest, []).append(number)
            self._slices = set(self._followed)
        else:
            self._slices = set(labelled_slices(task.reference))

    def slice(self, index: int) -> None:
        """Ask about a slice, if it is one of those."""
        if index not in self._slices or self.failure is not None:
            return
        try:
            if self._followed:
                self._follow(index)
            else:
                objects = self._objects.on_slice(index, self._task.reference[index])
                answer = self._ask(index, objects)
                self.mask[index] = union(answer.masks, self.mask.shape[1:])
        except Exception as error:  # noqa: BLE001 - one failing case must not end the run
            self.failure = one_line(error)
            return
        self._asked.append(index)

    def _ask(self, index: int, objects: Sequence[BoolArray], *stream: int) -> Answer:
        rng = derived_generator(*self._seed, index, *stream)
        answer = self.policy.answer(partial(self._session.ask, index), objects, rng, self._task.target)
        if index == self._largest:
            self._drawn_prompts += answer.prompts
        self._clicks += answer.clicks_needed
        return answer

    def _follow(self, index: int) -> None:
        """Ask about the objects that are largest on a slice, and follow each; the union is the mask."""
        for nth, number in enumerate(self._followed[index]):
            volume = self._objects.volume(number, self._task.reference)
            answer = self._ask(index, [volume[index]], *([nth] if nth else []))
            self.mask |= self._session.follow(index, answer.prompts[0], answer.masks[0], volume)

    def score(self, metrics: Mapping[str, tuple[MetricSpec, Metric]], volume: Volume) -> dict[str, float | None] | None:
        """Every metric of the mask; None where asking or a metric failed, or the mask is none."""
        reference = self._task.reference
        if self.failure is None and (self.mask.dtype != bool or self.mask.shape != reference.shape):
            self.failure = f"the answer is {self.mask.dtype} of shape {self.mask.shape}, not a mask on the image's grid"
        if self.failure is not None:
            return None
        try:
            scores = score_all(metrics, self.mask, reference, volume.geometry.spacing, physical=volume.physical)
        except Exception as error:  # noqa: BLE001 - one metric that fails must not take the other prompts' rows
            self.failure = one_line(error)
            return None
        for name, value in scores.items():
            if value is not None and not math.isfinite(value):
                self.failure = f"metric {name!r} is {value}, expected a finite number or None"
                return None
        return scores

    def counts(self) -> dict[str, Any]:
        """Slices asked about, errors on those that are empty, clicks, and the prompt on the largest slice."""
        empty = [index for index in self._asked if not self._task.reference[index].any()]
        return {
            "slices": len(self._asked),
            "empty_slices": len(empty),
            "empty_slices_with_mask": sum(bool(self.mask[index].any()) for index in empty),
            "noc_90": float(np.mean(self._clicks)) if self._clicks else None,
            "shown_prompt": [
                hint for prompt in self._drawn_prompts for hint in map(_plain, prompt) if hint is not None
            ],
        }


def _plain(hint: AnyPrompt) -> dict[str, Any] | None:
    """A box or a click for a picture; None for what cannot be drawn."""
    if isinstance(hint, Box):
        return {"box": list(hint.as_tuple())}
    return {"point": [hint.x, hint.y], "positive": hint.positive} if isinstance(hint, Point) else None


def size_class(diameter_mm: float | None) -> str | None:
    """Which of ``SIZES``; None where there is no object, or no millimetres."""
    if not diameter_mm:
        return None
    return SIZES[0] if diameter_mm < 10 else SIZES[1] if diameter_mm <= 20 else SIZES[2]


def _facts(case: Case, volume: Volume, task: ScoringTask, packed: Packed) -> Row:
    diameter = longest_diameter(task.reference, volume.geometry) if volume.physical else None
    return {
        "dataset": case.dataset,
        "case": case.case_id,
        "patient": case.patient_id,
        "category": case.category,
        "modality": case.modality,
        "target": task.target.name,
        "absent": task.absent,
        "diameter_mm": diameter or None,
        "size": size_class(diameter),
        "voxel_mm3": float(np.prod(volume.geometry.spacing)) if volume.physical else None,
        "reference_voxels": int(np.count_nonzero(task.reference)),
        "reference_sha256": digest(packed),
    }
