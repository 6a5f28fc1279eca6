"""Scoring a chain's frozen validation sets: a row of the forgetting matrix for each task, and one before the first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oncoseg_core import Metric, MetricSpec, ModelSpec, Registry, RunError
from oncoseg_core.inference import Precision, Predictor
from oncoseg_core.system import atomic_write, json_text
from oncoseg_lora import load_adapter, read_manifest
from oncoseg_trainer.chain.manifest import sha256_of
from oncoseg_trainer.chain.tasks import ChainTask
from oncoseg_trainer.chain.validation_sets import ValidationCases, ValidationSet, column_score
from oncoseg_trainer.data.prompting import build_prompting
from oncoseg_trainer.data.scored_cases import Row, ScoredCases, remove_scored, scores_key
from oncoseg_trainer.distributed.interruption import deferred
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.reporting.terminal import Terminal

FOLDER = "scores"
UNTOUCHED = "untouched"


class StoppedError(Exception):
    """Asked to stop; what is done is saved."""


@dataclass(eq=False)
class ChainScores:
    """Scores sets of validation cases, shared out over the processes; opened datasets are kept, their images are not.

    Attributes:
        chain: its folder.
        registry: where components are found.
        processes: this one and its fellows.
        terminal: where progress is shown.
        should_stop: asked after every slice.
    """

    chain: Path
    registry: Registry
    processes: Processes
    terminal: Terminal
    should_stop: Callable[[], bool]
    _opened: dict[str, ValidationCases] = field(default_factory=dict)

    def cases(self, task: ChainTask) -> ValidationCases:
        """The validation cases of a task's datasets."""
        if task.name not in self._opened:
            self._opened[task.name] = ValidationCases(task, self.registry, self.processes, self.terminal)
        return self._opened[task.name]

    def path(self, row: str) -> Path:
        """The file of a row."""
        return self.chain / FOLDER / f"{row}.json"

    def read(self, row: str) -> dict[str, Any]:
        """A row's scores by column, as far as there are any."""
        if not self.path(row).exists():
            return {}
        try:
            columns: dict[str, Any] = json.loads(self.path(row).read_bytes())["columns"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path(row)}: is no file of scores; remove it, and it is made again") from error
        return columns

    def weights(self, row: str) -> str | None:
        """The base weights that a row was scored with; None where none was, or by an older version."""
        if not self.path(row).exists():
            return None
        weights: str | None = json.loads(self.path(row).read_bytes()).get("weights")
        return weights

    def score(
        self, row: str, task: ChainTask, adapter: Path | None, sets: Mapping[str, tuple[ChainTask, ValidationSet]]
    ) -> None:
        """Score a row, and write it after each column. A column that was scored with these weights is not done again.

        Args:
            row: its name.
            task: whose model it is.
            adapter: the folder of its adapter; None for the untouched model.
            sets: by column, the task that trains on it and its frozen cases.

        Raises:
            StoppedError: asked to stop.
            OncoSegError: a case or the adapter cannot be read, or a validation case is not what it was.
        """
        files = None if adapter is None else read_manifest(adapter).files
        key = sha256_of({"model": task.settings.model.model_dump(mode="json"), "adapter": files})
        done = self.processes.on_first(lambda: self._done(row, key, sets))
        missing = [name for name in sets if name not in done]
        if not missing:
            return
        model = self.registry.build(ModelSpec, task.settings.model.name, task.settings.model.settings)
        model = model.to(self.processes.device)
        if adapter is not None:
            model = load_adapter(model, adapter)
        for name in missing:
            done[name] = self._column(
                f"scoring {name}, {row}", key, model, task.settings.training.precision, *sets[name]
            )
            content = {
                "key": key,
                "weights": model.weights_sha256,
                "columns": {column: done[column] for column in sets if column in done},
            }
            self.processes.on_first(lambda: atomic_write(self.path(row), json_text(content, indent=1) + "\n"))  # noqa: B023
            self.processes.on_first(lambda: remove_scored(self.chain / FOLDER))

    def _done(self, row: str, key: str, sets: Mapping[str, tuple[ChainTask, ValidationSet]]) -> dict[str, Any]:
        """The columns of a row that stand: of the same weights and the same frozen cases."""
        columns = self.read(row)
        if columns and json.loads(self.path(row).read_bytes()).get("key") != key:
            return {}
        return {name: columns[name] for name in sets if columns.get(name, {}).get("frozen") == sets[name][1].sha256}

    def _column(
        self, what: str, row_key: str, model: Any, precision: Precision, task: ChainTask, frozen: ValidationSet
    ) -> dict[str, Any]:
        cases = self.cases(task)
        held_out = cases.held_out(frozen)
        settings = task.settings
        metrics: dict[str, Metric] = {"dice": self.registry.build(MetricSpec, "dice")}
        key = scores_key({}, row_key, frozen.sha256)
        scored = ScoredCases(self.chain / FOLDER, key, self.processes, len(held_out))
        mine = scored.mine
        with self.terminal.progress() as progress, deferred():

            def keep(number: int, rows: list[Row]) -> None:
                scored.keep(number, rows)
                progress(what, mine.index(number) + 1, len(mine))

            held_out.score(
                mine,
                Predictor(model, cases.preprocessors, device=self.processes.device, precision=precision),
                build_prompting(self.registry, settings.prompts.score, settings.prompts.per),
                metrics,
                settings.seed,
                self.should_stop,
                keep,
            )
            by_case = scored.collect()
        if self.processes.any(self.should_stop()) or len(by_case) < len(held_out):
            raise StoppedError
        kept = ("case", "target", "n_slices", "dice")
        rows: list[dict[str, Any]] = [{key: row[key] for key in kept} for case in by_case for row in case]
        expected = {(case["case_id"], target) for case in frozen.cases for target in case["targets"]}
        if {(row["case"], row["target"]) for row in rows} != expected:
            raise RunError(f"{frozen.column}: the targets of the validation cases are not what they were")
        return {"frozen": frozen.sha256, "dice": column_score(rows), "cases": rows}
