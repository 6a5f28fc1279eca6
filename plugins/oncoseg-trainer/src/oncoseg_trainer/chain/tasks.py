"""From a chain's file to its tasks: which datasets are there, and the whole training configuration of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oncoseg_core import ConfigError, DataError, DatasetAdapter, DatasetSpec, Registry, close_matches
from oncoseg_core.plugins import validate
from oncoseg_lora import Leak, declared_leaks, refuse_leaks
from oncoseg_store import INDEX
from oncoseg_trainer.chain.settings import ChainDataset, ChainSettings, task_values
from oncoseg_trainer.config.data_settings import DatasetChoice, DataSettings
from oncoseg_trainer.config.settings import TrainSettings


@dataclass(frozen=True, eq=False)
class ChainTask:
    """One run of the chain: ``number`` counts from 1, absent tasks included, so that no name depends on what is there.

    ``columns`` are the names of its own datasets, as the forgetting matrix has them, and ``choices`` these datasets.
    ``settings`` lack only what the task before decides: the adapter to start from.
    """

    number: int
    phase: str
    columns: tuple[str, ...]
    choices: tuple[DatasetChoice, ...]
    settings: TrainSettings

    @property
    def name(self) -> str:
        """Also that of its folder."""
        return _task_name(self.number, self.phase, self.columns)

    @property
    def data_without_replay(self) -> DataSettings:
        """Its data without what is replayed."""
        own = {choice.dataset for choice in self.choices}
        weak = {name: choice for name, choice in self.settings.data.weak.items() if name in own}
        return self.settings.data.model_copy(update={"datasets": self.choices, "weak": weak})


@dataclass(frozen=True, eq=False)
class ChainPlan:
    """The tasks whose data are there, in order; ``absent`` says of each other dataset why, by its name."""

    tasks: list[ChainTask]
    absent: dict[str, str]


def plan_chain(settings: ChainSettings, registry: Registry, *, skip_absent: bool) -> ChainPlan:
    """Find the datasets and make each task's configuration; nothing is opened or written.

    Raises:
        ConfigError, UnknownComponentError: a key, name or value is wrong.
        DataError: datasets are absent (all are listed) and are not to be skipped, or overlap, which is not allowed.
    """
    entries = [entry for stage in settings.stages for entry in stage.datasets]
    located = {entry.name: _find(entry, settings, registry) for entry in entries}
    present = {name: choice for name, choice in located.items() if isinstance(choice, DatasetChoice)}
    absent = {name: reason for name, reason in located.items() if isinstance(reason, str)}
    if absent and not skip_absent:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise DataError(
            f"{len(absent)} of the {len(entries)} datasets of the chain are absent ({reasons}). Say where they are "
            "with roots or data_root, or leave them out with --skip-absent"
        )
    tasks = _tasks(settings, present)
    if not tasks:
        raise DataError("none of the datasets of the chain is there: nothing to train on")
    _require_one_split(settings, tasks)
    refuse_leaks(
        [leak for leaks in chain_leaks(tasks, registry).values() for leak in leaks],
        allowed=all(task.settings.data.allow_leakage for task in tasks),
        setting="common.data.allow_leakage: true",
    )
    return ChainPlan(tasks, absent)


def _tasks(settings: ChainSettings, present: Mapping[str, DatasetChoice]) -> list[ChainTask]:
    datasets = [entry.dataset for stage in settings.stages for entry in stage.datasets]
    tasks: list[ChainTask] = []
    number = 0
    for stage in settings.stages:
        groups = [stage.datasets] if stage.together else [(entry,) for entry in stage.datasets]
        values = task_values(settings, stage)
        _refuse_unknown_weak(values, datasets)
        for group in groups:
            number += 1
            columns = tuple(entry.name for entry in group if entry.name in present)
            if columns:
                choices = tuple(present[name] for name in columns)
                tasks.append(_task(settings, stage.phase, number, columns, choices, values, tasks))
    return tasks


def chain_leaks(tasks: Sequence[ChainTask], registry: Registry) -> dict[str, list[Leak]]:
    """Declared overlaps of each column's dataset with another that the chain trains on, certain or suspected."""
    specs = {c.dataset: registry.get(DatasetSpec, c.dataset) for task in tasks for c in task.choices}
    return {
        name: declared_leaks(specs.values(), [specs[choice.dataset]])
        for task in tasks
        for name, choice in zip(task.columns, task.choices, strict=True)
    }


def _find(entry: ChainDataset, settings: ChainSettings, registry: Registry) -> DatasetChoice | str:
    """Where a dataset is; or why it is absent."""
    registry.get(DatasetSpec, entry.dataset)
    own: dict[str, Any] = {"dataset": entry.dataset, "settings": entry.settings, "targets": entry.targets}
    if entry.prepared is not None and entry.root is not None:
        raise ConfigError(f"{entry.name}: give either prepared or root")
    places = [entry.prepared, entry.root, settings.roots.get(entry.dataset)]
    if settings.data_root is not None:
        places.append(settings.data_root / entry.dataset)
    place = next((place for place in places if place is not None), None)
    if place is None:
        adapter: DatasetAdapter = registry.build(DatasetSpec, entry.dataset, entry.settings)
        if type(adapter).fetch is DatasetAdapter.fetch:
            return "no folder is given"
        return DatasetChoice(**own)
    if not Path(place).is_dir():
        return f"{place} is no folder"
    if entry.prepared is not None or (Path(place) / INDEX).exists():
        if entry.settings:
            raise ConfigError(
                f"{entry.name}: {place} is a prepared store, which has its own settings; remove them here"
            )
        return DatasetChoice(dataset=entry.dataset, prepared=place, targets=entry.targets)
    return DatasetChoice(root=place, **own)


def _task(
    settings: ChainSettings,
    phase: str,
    number: int,
    columns: tuple[str, ...],
    choices: tuple[DatasetChoice, ...],
    common: Mapping[str, Any],
    before: Sequence[ChainTask],
) -> ChainTask:
    """One task's whole configuration."""
    name = _task_name(number, phase, columns)
    values = dict(common)
    data = dict(values.get("data") or {})
    replayed = [choice.model_copy(update={"replayed": True}) for task in before for choice in task.choices]
    if settings.replay and replayed:
        _require_replayable(name, values, choices, replayed)
        share = settings.replay / len(replayed)
        values["sampling"] = {**values["sampling"], "shares": {choice.dataset: share for choice in replayed}}
        used = (*replayed, *choices)
    else:
        used = choices
    data["datasets"] = [choice.model_dump(mode="json") for choice in used]
    own = {choice.dataset for choice in choices}
    data["weak"] = {dataset: weak for dataset, weak in (data.get("weak") or {}).items() if dataset in own}
    for task in before:  # a replayed dataset counts as it did in its own task
        data["weak"] |= {
            choice.dataset: task.settings.data.weak[choice.dataset].model_dump(mode="json")
            for choice in task.choices
            if len(used) > len(choices) and choice.dataset in task.settings.data.weak
        }
    values |= {
        "name": f"{settings.name}-{name.lower()}"[:64],
        "phase": phase,
        "output": str(settings.output / "tasks" / name),
        "data": data,
    }
    return ChainTask(number, phase, columns, choices, validate(TrainSettings, values, f"task {name}"))


def _task_name(number: int, phase: str, columns: Sequence[str]) -> str:
    return f"{number:02d}-{phase}" + (f"-{columns[0]}" if len(columns) == 1 else "")


def _require_replayable(
    name: str, values: Mapping[str, Any], choices: Sequence[DatasetChoice], replayed: Sequence[DatasetChoice]
) -> None:
    sampling = values.get("sampling") or {}
    if sampling.get("mode") != "foreground":
        raise ConfigError(
            f"task {name}: replay draws samples at a set rate; it needs common.sampling: {{mode: foreground}}"
        )
    if "shares" in sampling:
        raise ConfigError(f"task {name}: replay gives the datasets their shares; remove sampling.shares")
    datasets = [choice.dataset for choice in (*replayed, *choices)]
    twice = sorted({dataset for dataset in datasets if datasets.count(dataset) > 1})
    if twice:
        raise ConfigError(f"task {name}: {', '.join(twice)} would be replayed beside itself; set replay to 0")


def _require_one_split(settings: ChainSettings, tasks: Sequence[ChainTask]) -> None:
    """With replay, cases that one task holds out must be held out in all."""
    if not settings.replay:
        return
    first = tasks[0].settings.data
    for task in tasks[1:]:
        for key in ("split", "train_split", "score_split", "validation_split"):
            if getattr(task.settings.data, key) != getattr(first, key):
                raise ConfigError(
                    f"task {task.name}: data.{key} is another than in {tasks[0].name}, and with replay a case held out "
                    "there could be trained on here; use one for all, or set replay to 0"
                )


def _refuse_unknown_weak(values: Mapping[str, Any], datasets: Sequence[str]) -> None:
    data = values.get("data")
    for name in (data.get("weak") or {}) if isinstance(data, Mapping) else {}:
        if name not in datasets:
            raise ConfigError(f"data.weak.{name}: no dataset of the chain{close_matches(name, datasets)}")
