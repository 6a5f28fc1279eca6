"""Running a benchmark: every model on every case, one case at a time, each written down when it is done."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from oncoseg_benchmarks.cases.case_selection import BenchCases, Scored, Skip, choose_cases
from oncoseg_benchmarks.cases.leaks import Leakage, find_leaks
from oncoseg_benchmarks.config.settings import BenchSettings
from oncoseg_benchmarks.run.provenance import commit
from oncoseg_benchmarks.run.resume import is_done
from oncoseg_benchmarks.run.run_folder import HASHES, RunFolder
from oncoseg_benchmarks.scoring.automatic import AutomaticPlan, AutomaticSubject, plan_subjects
from oncoseg_benchmarks.scoring.case_scoring import CaseResult, ScoringTask, one_line, score_case
from oncoseg_benchmarks.scoring.plans import ModelPlan, SubjectPlan
from oncoseg_benchmarks.scoring.policies import Policy, build_policies
from oncoseg_benchmarks.scoring.saved_masks import save_masks
from oncoseg_benchmarks.scoring.subjects import ModelSubject, Subject
from oncoseg_core import BoolArray, Case, ConfigError, DataError, Metric, MetricSpec, Progress, Registry, Target, Volume
from oncoseg_core.plugins import environment_summary, peak_memory_mb


@dataclass(frozen=True)
class BenchOutcome:
    """How a process ended: how many cases failed, and how many are not done, here or in other processes."""

    folder: RunFolder
    failed: int
    missing: int


@dataclass(eq=False)
class Bench:
    """A run, checked and ready: what is scored on what, how."""

    settings: BenchSettings
    registry: Registry
    folder: RunFolder
    chosen: BenchCases
    subjects: list[SubjectPlan]
    policies: list[Policy]
    metrics: dict[str, tuple[MetricSpec, Metric]]
    leakage: Leakage
    skips: list[Skip] = field(default_factory=list)

    def work(self) -> Iterator[tuple[SubjectPlan, list[Policy]]]:
        """Each subject with the policies that it takes; those that take none are left out."""
        for plan in self.subjects:
            policies = [policy for policy in self.policies if plan.refusal(policy) is None]
            if policies:
                yield plan, policies

    def units(self) -> Iterator[dict[str, Any] | None]:
        """What is known of every case by every subject, in the order of the table; None for what is not done."""
        return self.folder.units([plan.label for plan, _ in self.work()], self.case_names)

    @property
    def case_names(self) -> list[tuple[str, str]]:
        """Dataset and case id of every case."""
        return [(each.case.dataset, each.case.case_id) for each in self.chosen.cases]


def shard() -> tuple[int, int]:
    """This process's number and how many there are, as ``torchrun`` sets them (``RANK``, ``WORLD_SIZE``).

    Raises:
        ConfigError: the two make no sense.
    """
    try:
        rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise ConfigError(f"RANK and WORLD_SIZE are numbers: {error}") from error
    if not 0 <= rank < world:
        raise ConfigError(f"RANK={rank} with WORLD_SIZE={world}: expected 0 to {world - 1}")
    return rank, world


def prepare(settings: BenchSettings, registry: Registry, *, resume: bool, progress: Progress) -> Bench:
    """Check all that can be checked before a case is scored, and claim the folder.

    Raises:
        OncoSegError: a component is unknown, a setting wrong, something would be scored that was trained on, or the
            folder holds another run.
    """
    rank, world = shard()
    policies = build_policies(settings.prompts, registry)
    metrics = {
        name: (registry.get(MetricSpec, name), registry.build(MetricSpec, name, values))
        for name, values in settings.metrics.items()
    }
    plans = plan_subjects(settings, registry)
    models = [plan for plan in plans if isinstance(plan, ModelPlan | AutomaticPlan)]
    refused = [(plan, policy, plan.refusal(policy)) for plan in models for policy in policies]
    # A floor or ceiling stands beside a model, or is not worth its time.
    asked = [policy for policy in policies if any(p is policy and reason is None for _, p, reason in refused)]
    if not asked:
        raise ConfigError(f"no model takes any of the prompts: {refused[0][2]}")
    chosen = choose_cases(settings, registry, progress)
    for plan in models:
        if isinstance(plan, AutomaticPlan):
            plan.require_targets(target.name for scored in chosen.cases for target in scored.case.targets)
    told = [
        Skip(plan.label, "", f"{policy.provenance} ({policy.level})", reason)
        for plan, policy, reason in refused
        if reason is not None
    ]
    folder, process = RunFolder(settings.output), f"{rank}-of-{world}"
    environment = {"versions": environment_summary(registry), "commit": commit()}
    identity = {
        "config": settings.model_dump(mode="json", exclude={"output"}),
        "cases_sha256": chosen.sha256,
        "splits": {name: split.sha256 for name, split in chosen.splits.items()},
        "models": {model.label: model.identity() for model in models},
        "licences": {model.label: model.licence() for model in models},
        "metrics": sorted(metrics),
        **environment,
    }
    folder.check(identity, process, resume=resume)  # before cases are read for leaks, which may take long
    adapters = {model.label: model.adapter for model in models if model.adapter is not None}
    leakage = find_leaks(
        adapters, chosen, registry, folder.path / HASHES, rank, progress, allowed=settings.leakage == "mark"
    )
    folder.claim(identity, environment, process, resume=resume)
    return Bench(settings, registry, folder, chosen, plans, asked, metrics, leakage, [*chosen.skips, *told])


def run(bench: Bench, progress: Progress) -> BenchOutcome:
    """Score the cases of this process that are not done, and count what is done by all.

    A case that failed before is tried again, and one whose masks on disk are not those that were scored.

    Raises:
        RunError: the weights are not those that the run began with.
        StorageError: the folder cannot be written.
    """
    rank, world = shard()
    own = bench.chosen.cases[rank::world]
    work = list(bench.work())
    models = [[each] for each in work if not each[0].is_reference]
    references = [each for each in work if each[0].is_reference]
    for group in (*models, references):  # one model in memory at a time; the references read each case once
        subjects: dict[str, Subject] = {}
        for done, scored in enumerate(own, start=1):
            loaded = None
            for plan, policies in group:
                known = bench.folder.unit(plan.label, scored.case.dataset, scored.case.case_id)
                if is_done(bench.folder, known):
                    continue
                if plan.label not in subjects:
                    subjects[plan.label] = _built(bench, plan)
                loaded = loaded or _Loaded(scored, bench.settings.absent)
                _score(bench, plan, subjects[plan.label], policies, loaded)
            progress("floors and ceilings" if group is references else group[0][0].label, done, len(own))
    failed = missing = 0
    for unit in bench.units():  # one at a time: they hold all rows
        missing += unit is None
        failed += unit is not None and bool(unit["failures"])
    return BenchOutcome(bench.folder, failed, missing)


def _built(bench: Bench, plan: SubjectPlan) -> Subject:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()  # the model before it is gone
    subject = plan.build(sorted({scored.case.modality for scored in bench.chosen.cases}))
    if isinstance(subject, ModelSubject | AutomaticSubject):
        bench.folder.claim_weights(plan.label, subject.version)
    return subject


class _Loaded:
    """A case that is read when it is first asked for."""

    def __init__(self, scored: Scored, absent: Sequence[str]) -> None:
        self.scored = scored
        self._absent = absent

    @cached_property
    def content(self) -> tuple[Volume, list[ScoringTask]]:
        """Its image, and the targets to be scored."""
        volume, masks = self.scored.adapter.load(self.scored.case)
        return volume, _tasks(self.scored.case, volume, masks, self._absent)


def _score(bench: Bench, plan: SubjectPlan, subject: Subject, policies: list[Policy], loaded: _Loaded) -> None:
    """One case: read, scored, and written down with its masks."""
    case, started = loaded.scored.case, time.perf_counter()
    result = CaseResult()
    skipped: list[dict[str, str]] = []
    refused = plan.refuses_modality(case.modality)
    if refused is not None:
        skipped.append({"target": "", "reason": refused})
    else:
        try:
            volume, tasks = loaded.content
            bench.leakage.require_compared(subject.label, case, volume)
            skipped = _not_there(tasks, policies)
            result = score_case(subject, case, volume, tasks, policies, bench.metrics, bench.settings.seed)
        except Exception as error:  # noqa: BLE001 - one failing case must not end the run
            result.failures.append({"target": "", "prompt": "", "level": "", "reason": one_line(error)})
    mark = bench.leakage.mark(subject.label, case.dataset, case.case_id)
    for row in result.rows:
        row |= {"side": loaded.scored.side, "leak": mark, "patient": bench.chosen.patient(case)}
    folder = bench.folder
    if result.masks:
        save_masks(folder.references_path(case.dataset, case.case_id), result.references, result.spacing)
        save_masks(folder.masks_path(subject.label, case.dataset, case.case_id), result.masks, result.spacing)
    folder.write_unit(
        {
            "model": subject.label,
            "dataset": case.dataset,
            "case": case.case_id,
            "rows": result.rows,
            "failures": result.failures,
            "skipped": skipped,
            "latency": result.latency,
            "seconds": time.perf_counter() - started,
            "engine": subject.engine if isinstance(subject, ModelSubject | AutomaticSubject) else None,
            "peak_memory_mb": peak_memory_mb(),
            "peak_device_mb": _peak_device_mb(),
        },
    )


def _tasks(case: Case, volume: Volume, masks: Mapping[str, BoolArray], absent: Sequence[str]) -> list[ScoringTask]:
    """The targets annotated in a case, and the concepts that are in no image, with an empty reference.

    Raises:
        DataError: a target has no mask, or one that is none on the image's grid.
    """
    shape = volume.geometry.shape
    tasks = []
    for target in case.targets:
        if target.name not in masks:
            raise DataError(f"case {case.case_id!r}: the adapter gave no mask of its target {target.name!r}")
        mask = masks[target.name]
        if mask.dtype != bool or mask.shape != shape:
            raise DataError(
                f"case {case.case_id!r}: the adapter's mask of {target.name!r} is {mask.dtype} of shape {mask.shape}, "
                f"expected bool {shape}"
            )
        tasks.append(ScoringTask(target, mask))
    nothing = frozenset({1})  # a target has a label; this one is in no image
    return tasks + [
        ScoringTask(Target(name=name, labels=nothing), np.zeros(shape, dtype=bool), absent=True) for name in absent
    ]


def _not_there(tasks: Sequence[ScoringTask], policies: Sequence[Policy]) -> list[dict[str, str]]:
    """Targets that are empty in a case, and which prompts were not made of them: those that point at the object."""
    pointing = ", ".join(dict.fromkeys(policy.provenance for policy in policies if policy.points_at_object))
    reason = f"not in this case: there is nothing to point at ({pointing})"
    empty = [task.target.name for task in tasks if not (task.absent or task.reference.any())]
    return [{"target": name, "reason": reason} for name in empty] if pointing else []


def _peak_device_mb() -> int | None:
    return int(torch.cuda.max_memory_allocated() // 1024**2) if torch.cuda.is_available() else None
