"""Running a chain: one task after the other, each from the adapter of the one before, restartable at any point."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from oncoseg_core import Registry, RunError
from oncoseg_core.system import atomic_write, json_text
from oncoseg_lora import TrainedOn, read_manifest, read_trained_on, seen_scans
from oncoseg_trainer.chain.forgetting import Column, ForgettingMatrix, ForgettingRow
from oncoseg_trainer.chain.forgetting_drawing import draw_html, draw_png
from oncoseg_trainer.chain.manifest import ADAPTER, TASKS, TaskRecord, sha256_of, survey, write_record
from oncoseg_trainer.chain.scores import UNTOUCHED, ChainScores, StoppedError
from oncoseg_trainer.chain.settings import ChainSettings
from oncoseg_trainer.chain.tasks import ChainPlan, ChainTask, chain_leaks, plan_chain
from oncoseg_trainer.chain.validation_sets import ValidationSet, read_frozen
from oncoseg_trainer.checkpoints.run_folder import clear_checkpoints, has_begun
from oncoseg_trainer.distributed.interruption import stop_on_signals
from oncoseg_trainer.distributed.processes import Processes, join_processes
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.summary import weights_caution
from oncoseg_trainer.reporting.terminal import Terminal

CHAIN_FILE = "chain.yaml"
MANIFEST_FILE = "manifest.json"
MATRIX_FILE = "forgetting.json"


@dataclass(frozen=True)
class ChainOutcome:
    """How a chain ended: its folder, and the forgetting matrix as plain values; None when it was stopped before."""

    folder: Path
    matrix: dict[str, Any] | None
    is_first: bool


def run_chain(
    settings: ChainSettings,
    registry: Registry,
    *,
    skip_absent: bool = False,
    redo: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> ChainOutcome:
    """Run a chain, or go on with it, on this process or on all those that ``torchrun`` started.

    Finished tasks are verified and passed over; an unfinished one is resumed. Whenever it is killed and started again,
    it ends with the same records and weights.

    Args:
        settings: the chain.
        registry: where components are found.
        skip_absent: leave out the datasets that are not there.
        redo: delete the results that a change has made stale, and train anew.
        should_stop: asked after every step and scored slice; by default a first Ctrl-C or SIGTERM says so.

    Raises:
        OncoSegError: anything that keeps the chain from going on, in one line.
    """
    plan = plan_chain(settings, registry, skip_absent=skip_absent)
    with join_processes(plan.tasks[0].settings.training.device) as processes, stop_on_signals() as signalled:
        terminal = Terminal(speaks=processes.is_first)
        chain = Chain(settings, plan, registry, processes, terminal, should_stop or signalled, should_stop)
        records = processes.on_first(lambda: chain.claim(redo=redo))
        try:
            matrix = chain.execute(records)
        except StoppedError:
            return ChainOutcome(settings.output, None, processes.is_first)
        except KeyboardInterrupt:  # where nothing is half done: all that is done is on the disk
            if processes.world_size > 1 or signalled.is_repeated:
                raise
            return ChainOutcome(settings.output, None, processes.is_first)
        return ChainOutcome(settings.output, matrix, processes.is_first)


class Chain:
    """A chain that is being run.

    Args:
        settings: the chain.
        plan: its tasks.
        registry: where components are found.
        processes: this one and its fellows.
        terminal: where it speaks.
        should_stop: asked between steps of its own.
        runs_stop: given to the tasks' runs, which otherwise look out for signals themselves.
    """

    def __init__(
        self,
        settings: ChainSettings,
        plan: ChainPlan,
        registry: Registry,
        processes: Processes,
        terminal: Terminal,
        should_stop: Callable[[], bool],
        runs_stop: Callable[[], bool] | None,
    ) -> None:
        self.folder = settings.output
        self.settings = settings
        self.plan = plan
        self.registry = registry
        self.processes = processes
        self.terminal = terminal
        self.runs_stop = runs_stop
        self.scores = ChainScores(self.folder, registry, processes, terminal, should_stop)
        self.frozen: dict[str, tuple[ChainTask, ValidationSet]] = {}
        self.unscored: list[str] = []

    def claim(self, *, redo: bool) -> list[TaskRecord]:
        """Take the folder, and verify what is done in it.

        Raises:
            RunError: it holds something else, or results that no longer fit.
        """
        name = self.folder / CHAIN_FILE
        others = not name.exists() and self.folder.is_dir()
        if others and any(not path.name.startswith(".partial-") for path in self.folder.iterdir()):
            raise RunError(f"{self.folder} holds other files than a chain's; choose another with --set output=DIR")
        records, stale = survey(self.folder, self.plan.tasks)
        if stale is not None:
            if not redo:
                stale.refuse()
            stale.delete()
        for record in records:  # one that was killed between its record and this
            clear_checkpoints(self.folder / TASKS / record.task)
        effective = self.settings.model_dump(mode="json")
        atomic_write(name, yaml.safe_dump(effective, sort_keys=False, allow_unicode=True))
        return records

    def execute(self, records: list[TaskRecord]) -> dict[str, Any]:
        """Do what is left, and draw the matrix after each task.

        Raises:
            StoppedError: asked to stop; what is done is saved.
        """
        for name, why in self.plan.absent.items():
            self.terminal.say(f"Left out: {name} ({why}).")
        self._freeze()
        self.scores.score(UNTOUCHED, self.plan.tasks[0], None, self.frozen)
        matrix = self._draw(records)
        if records:
            self.terminal.say(f"{len(records)} of {len(self.plan.tasks)} tasks are done already.")
        for task in self.plan.tasks[len(records) :]:
            self.terminal.say(f"Task {task.name} ({len(records) + 1} of {len(self.plan.tasks)})")
            records.append(self._do(task, records))
            matrix = self._draw(records)
        return matrix

    def _freeze(self) -> None:
        """Draw the validation cases of every dataset, once: what is wrong with one is found before anything is trained.

        A dataset whose held-out cases have no masks has none.
        """
        wanted = self.settings.validation_cases
        for task in self.plan.tasks:
            for column in task.columns:
                if self.processes.any(self.scores.should_stop()):
                    raise StoppedError
                frozen = self.processes.on_first(lambda: read_frozen(self.folder, task, column, wanted))  # noqa: B023
                if frozen is None:
                    cases = self.scores.cases(task)
                    frozen = self.processes.on_first(lambda: cases.draw(column, wanted))  # noqa: B023
                    self.processes.on_first(lambda: frozen.write(self.folder))  # noqa: B023
                if frozen.cases:
                    self.frozen[column] = (task, frozen)
                else:
                    self.unscored.append(column)

    def _do(self, task: ChainTask, records: list[TaskRecord]) -> TaskRecord:
        """Train a task from the adapter before it, score its row, and record it."""
        folder = self.folder / TASKS / task.name
        before = self.plan.tasks[len(records) - 1] if records else None
        start = None if before is None else self.folder / TASKS / before.name / ADAPTER
        outcome = train(
            task.settings.model_copy(update={"start_from": start}),
            self.registry,
            resume=self.processes.on_first(lambda: has_begun(folder)),
            should_stop=self.runs_stop,
            unseen=[scan for _, frozen in self.frozen.values() for scan in frozen.scans],
            joined=self.processes,
        )
        if outcome.summary is None:
            raise StoppedError
        self.processes.gather(None)  # wait for the first process, which still writes the adapter
        gc.collect()  # the run's model and optimizer, before the next is built
        seen = {name for each in self.plan.tasks[: len(records) + 1] for name in each.columns}
        sets = {name: entry for name, entry in self.frozen.items() if name in seen}
        self.scores.score(task.name, task, folder / ADAPTER, sets)
        split = outcome.summary["split"]["hash"]

        def record() -> TaskRecord:
            written = write_record(
                self.folder,
                task,
                records[-1].sha256 if records else None,
                split,
                sha256_of(self.scores.read(task.name)),
            )
            clear_checkpoints(folder)
            return written

        return self.processes.on_first(record)

    def _draw(self, records: list[TaskRecord]) -> dict[str, Any]:
        """Write the manifest, and the matrix as it is now: JSON, a page and a picture, each replaced whole."""
        return self.processes.on_first(lambda: self._write(records))

    def _write(self, records: list[TaskRecord]) -> dict[str, Any]:
        for record in records:
            if sha256_of(self.scores.read(record.task)) != record.scores:
                raise RunError(f"{self.scores.path(record.task)}: was changed after task {record.task}; restore it")
        matrix = self._matrix(records)
        cautions = self._cautions(records)
        content = {
            "chain": self.settings.name,
            "cautions": cautions,
            **matrix.as_json(),
            "not_scored": self.unscored,
        }
        atomic_write(self.folder / MATRIX_FILE, json_text(content, indent=1) + "\n")
        atomic_write(self.folder / "forgetting.html", draw_html(matrix, self.settings.name, self.unscored, cautions))
        atomic_write(self.folder / "forgetting.png", draw_png(matrix, self.settings.name, cautions))
        manifest = {
            "format": 1,
            "chain": self.settings.name,
            "absent": sorted(self.plan.absent),
            "validation": {name: frozen.sha256 for name, (_, frozen) in self.frozen.items()},
            "untouched": sha256_of(self.scores.read(UNTOUCHED)),
            "tasks": [{"task": record.task, "sha256": record.sha256} for record in records],
            "unfinished": [task.name for task in self.plan.tasks[len(records) :]],
        }
        atomic_write(self.folder / MANIFEST_FILE, json_text(manifest, indent=1) + "\n")
        return content

    def _cautions(self, records: list[TaskRecord]) -> list[str]:
        """What must stand beside the matrix: that the weights are random, or were until they were trained."""
        weights = self.scores.weights(UNTOUCHED)
        if weights is None:
            return []
        trained = None
        if records:
            trained = read_manifest(self.folder / TASKS / records[-1].task / ADAPTER).trained
        caution = weights_caution(self.plan.tasks[0].settings.model.name, weights, trained)
        return [] if caution is None else [caution]

    def _matrix(self, records: list[TaskRecord]) -> ForgettingMatrix:
        row_of = {name: number for number, task in enumerate(self.plan.tasks, start=1) for name in task.columns}
        done = self.plan.tasks[: len(records)]
        trained = TrainedOn((), frozenset())
        if done:
            trained = read_trained_on(self.folder / TASKS / done[-1].name / ADAPTER) or trained
        overlaps = chain_leaks(done, self.registry)
        columns = []
        for name, (_, frozen) in self.frozen.items():
            leaks = [*overlaps.get(name, ()), *seen_scans(trained, frozen.scans)]
            notes = tuple(
                f"{'LEAKAGE, no test' if leak.certain else 'leakage is suspected'}: {leak.scored} and {leak.trained} "
                f"({leak.how})"
                for leak in leaks
            )
            columns.append(Column(name, row_of[name], len(frozen.cases), notes))
        untouched = {name: entry["dice"] for name, entry in self.scores.read(UNTOUCHED).items()}
        rows = [
            ForgettingRow(record.task, {name: entry["dice"] for name, entry in self.scores.read(record.task).items()})
            for record in records
        ]
        return ForgettingMatrix(columns, untouched, rows)
