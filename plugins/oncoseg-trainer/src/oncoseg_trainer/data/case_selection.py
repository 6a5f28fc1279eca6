"""From the configuration to the cases of a run: datasets opened, split, weak annotations let in only when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from oncoseg_core import (
    ConfigError,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    GeometryError,
    ImageReadError,
    Registry,
    close_matches,
)
from oncoseg_core.data import (
    WEAK,
    FrozenSplit,
    OfficialSplit,
    Side,
    discover_cases,
    refuse_bad_cases,
    require_known_targets,
    split_cases,
)
from oncoseg_core.path import Preprocessor
from oncoseg_trainer.config.data_settings import DatasetChoice, DataSettings, WeakChoice
from oncoseg_trainer.data.case_source import CaseRow, CaseSource, MemorySource
from oncoseg_trainer.data.prepared_source import StoreDataset

BY_NAME = "left out by name"


class OpenDataset(Protocol):
    """A dataset of the run, found in its folder or in a prepared store."""

    choice: DatasetChoice
    spec: DatasetSpec

    def __len__(self) -> int: ...

    def row(self, number: int) -> CaseRow:
        """What is kept of a case, with all its targets."""

    @property
    def bad(self) -> Mapping[str, str]:
        """Cases that cannot be used, by id, with the reason; they have no number."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the adapter."""

    def unreadable(self, numbers: Sequence[int]) -> dict[int, str]:
        """Of these cases those that prove unreadable, with the reason. Reads each that was not read before."""

    def source(
        self,
        numbers: Sequence[int],
        targets: Sequence[str],
        preprocessors: Mapping[str, Preprocessor],
        memory_bytes: int,
    ) -> CaseSource:
        """Some of the cases, reduced to the chosen targets; ``preprocessors`` are those of their modalities."""


class FolderDataset:
    """A dataset in a folder as it was downloaded.

    Raises:
        DataError: the folder is not this dataset.
        PluginError: the adapter made a wrong case.
    """

    def __init__(self, choice: DatasetChoice, spec: DatasetSpec, adapter: DatasetAdapter, root: Path) -> None:
        self.choice = choice
        self.spec = spec
        self._adapter = adapter
        found = discover_cases(adapter, spec, root)
        self._cases = [case for case in found if case.fault is None]
        self.bad = {case.case_id: case.fault.message for case in found if case.fault is not None}

    def __len__(self) -> int:
        return len(self._cases)

    def row(self, number: int) -> CaseRow:
        """What is kept of a case, with all its targets."""
        case = self._cases[number]
        return CaseRow(
            number,
            case.dataset,
            case.case_id,
            case.patient_id,
            case.modality,
            tuple(target.name for target in case.targets),
            bool(case.labels),
            case.annotation,
            case.split,
            case.category,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the adapter."""
        return dict(self._adapter.settings.model_dump(mode="json"))

    def unreadable(self, numbers: Sequence[int]) -> dict[int, str]:
        """Of these cases those that prove unreadable, with the reason. Reads all of them."""
        found: dict[int, str] = {}
        for number in numbers:
            try:
                self._adapter.load(self._cases[number])
            except (DataError, GeometryError, ImageReadError) as error:
                found[number] = " ".join(str(error).split())
        return found

    def source(
        self,
        numbers: Sequence[int],
        targets: Sequence[str],
        preprocessors: Mapping[str, Preprocessor],
        memory_bytes: int,
    ) -> MemorySource:
        """Some of the cases, read whole when they are asked for."""
        cases = []
        for case in (self._cases[number] for number in numbers):
            kept = tuple(target for target in case.targets if target.name in targets)
            cases.append(case.model_copy(update={"targets": kept}))
        return MemorySource(self._adapter, cases, preprocessors, memory_bytes)


class DatasetLookup:
    """The datasets of a run, looked up but not opened: names and settings are checked before anything is fetched.

    Args:
        registry: where the adapters are found.
        choices: which.

    Raises:
        UnknownComponentError, ConfigError: a dataset is unknown, or its settings are wrong.
    """

    def __init__(self, registry: Registry, choices: Sequence[DatasetChoice]) -> None:
        self._found: list[tuple[DatasetChoice, DatasetSpec, DatasetAdapter | None]] = [
            (
                choice,
                registry.get(DatasetSpec, choice.dataset),
                None if choice.prepared else registry.build(DatasetSpec, choice.dataset, choice.settings),
            )
            for choice in choices
        ]

    def open(self, fetch: Callable[[DatasetAdapter], Path]) -> list[OpenDataset]:
        """Open them; no image is read. ``fetch`` is called for a dataset without a folder.

        Raises:
            OncoSegError: a folder is not this dataset, or a store not one of it.
        """
        opened: list[OpenDataset] = []
        for choice, spec, adapter in self._found:
            if adapter is None:
                opened.append(StoreDataset(choice, spec))
            else:
                opened.append(FolderDataset(choice, spec, adapter, Path(choice.root or fetch(adapter))))
        return opened


@dataclass(frozen=True, eq=False)
class ChosenDataset:
    """One dataset's part in a run: its cases on each side, and how weakly annotated ones count.

    ``n_weak`` are the weakly annotated cases trained on, ``n_not_scored`` those that were held out, and are not scored.
    ``left_out`` are the cases that are not used although they are there, with the reason.
    """

    dataset: OpenDataset
    train: list[CaseRow]
    scored: list[CaseRow]
    validation: list[CaseRow] = field(default_factory=list)
    weak: WeakChoice | None = None
    n_weak: int = 0
    n_not_scored: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.dataset.spec.name

    def source(
        self, rows: Sequence[CaseRow], preprocessors: Mapping[str, Preprocessor], memory_bytes: int
    ) -> tuple[CaseSource, tuple[str, ...]]:
        """Some of its cases, to be read, and the targets that are annotated in them.

        Raises:
            DataError: a prepared store was made with other settings than the run's.
        """
        targets = tuple(dict.fromkeys(target for row in rows for target in row.targets))
        own = {modality: preprocessors[modality] for modality in sorted({row.modality for row in rows})}
        return self.dataset.source([row.number for row in rows], targets, own, memory_bytes), targets


@dataclass(frozen=True, eq=False)
class ChosenCases:
    """The cases of a run, by dataset, and the split that they follow from."""

    datasets: list[ChosenDataset]
    split: FrozenSplit

    @property
    def modalities(self) -> list[str]:
        """Those of the cases on all sides, sorted."""
        return sorted({row.modality for row in (*self.train_rows(), *self.scored_rows(), *self.validation_rows())})

    def train_rows(self) -> Iterator[CaseRow]:
        """All cases trained on."""
        return (row for chosen in self.datasets for row in chosen.train)

    def scored_rows(self) -> Iterator[CaseRow]:
        """All cases held out to be scored."""
        return (row for chosen in self.datasets for row in chosen.scored)

    def validation_rows(self) -> Iterator[CaseRow]:
        """All cases scored after each epoch; none where the run has no validation side."""
        return (row for chosen in self.datasets for row in chosen.validation)

    @property
    def hash(self) -> str:
        """SHA-256 of which case, patient and targets are used on which side."""
        sides = [
            sorted((row.dataset, row.case_id, row.patient_id, *sorted(row.targets)) for row in side)
            for side in (self.train_rows(), self.scored_rows(), self.validation_rows())
        ]
        if not sides[-1]:
            del sides[-1]  # a run without validation has the hash that it always had
        return hashlib.sha256(json.dumps(sides).encode()).hexdigest()


def choose_cases(opened: Sequence[OpenDataset], settings: DataSettings) -> ChosenCases:
    """Split the labelled cases and choose those with the wanted targets.

    Raises:
        ConfigError: weak annotations are there and not asked for, or asked for and not there.
        DataError: a wanted target is in no case, a side is left without a case, or the split does not fit; or a case
            cannot be used, and is not left out.
    """
    for each in opened:
        _refuse_bad_cases(each, settings)
    sides: dict[str, Side] = {"train": settings.train_split, "score": settings.score_split}
    if settings.validation_split is not None:
        sides["validation"] = settings.validation_split
    whole = {each.spec.name: sides[each.choice.side] for each in opened if each.choice.side is not None}
    rows = {each.spec.name: _labelled(each) for each in opened}
    split = split_cases([row for own in rows.values() for row in own], settings.split, whole)
    _refuse_unknown_weak(settings.weak, rows)
    datasets = [_choose(each, rows[each.spec.name], split, settings) for each in opened]
    chosen = ChosenCases(datasets, split)
    for side, found in (
        (settings.train_split, chosen.train_rows()),
        (settings.score_split, chosen.scored_rows()),
        (settings.validation_split, chosen.validation_rows()),
    ):
        only_weak = side != settings.train_split and any(each.n_not_scored for each in datasets)
        if side is not None and next(found, None) is None and not only_weak:
            targets = sorted({target for own in rows.values() for row in own for target in row.targets})
            raise DataError(
                f"no labelled case is in the split {side!r} with the targets {', '.join(targets)}{_advice(settings)}"
            )
    return chosen


def _refuse_bad_cases(opened: OpenDataset, settings: DataSettings) -> None:
    named = opened.choice.leave_out
    good = (opened.row(number).case_id for number in range(len(opened))) if named else ()
    refuse_bad_cases(
        opened.spec.name,
        {**dict.fromkeys(good), **opened.bad},
        named,
        allowed=settings.leave_out_bad,
        where="data.leave_out" if settings.dataset is not None else "leave_out of the dataset in data.datasets",
    )


def _labelled(opened: OpenDataset) -> list[CaseRow]:
    """The labelled cases of a dataset with the chosen targets in each, which may be none."""
    rows: list[CaseRow] = []
    known: set[str] = set()
    targets = opened.choice.targets
    for row in map(opened.row, range(len(opened))):
        known.update(row.targets)
        if row.labelled:
            rows.append(row._replace(targets=tuple(name for name in row.targets if not targets or name in targets)))
    require_known_targets(opened.spec.name, targets, known)
    return rows


def _choose(opened: OpenDataset, rows: Sequence[CaseRow], split: FrozenSplit, settings: DataSettings) -> ChosenDataset:
    left_out = {**opened.bad, **dict.fromkeys(opened.choice.leave_out, BY_NAME)}
    sides = (settings.train_split, settings.score_split, settings.validation_split)
    used = [row for row in rows if row.targets and row.case_id not in left_out and split.side_of(row) in sides]
    if settings.leave_out_bad:
        unreadable = opened.unreadable([row.number for row in used])
        left_out |= {row.case_id: unreadable[row.number] for row in used if row.number in unreadable}
        used = [row for row in used if row.number not in unreadable]
    train, scored, validation = ([row for row in used if split.side_of(row) == side] for side in sides)
    if opened.choice.replayed:
        scored, validation = [], []
    weak = settings.weak.get(opened.spec.name)
    weakly = [row for row in (*train, *scored, *validation) if row.annotation in WEAK]
    if weakly and weak is None:
        raise ConfigError(
            f"dataset {opened.spec.name!r}: case {weakly[0].case_id!r} is annotated with {weakly[0].annotation}, not "
            f"with masks ({len(weakly)} such cases). To train on them all the same, say how much they count, such as "
            f"data.weak.{opened.spec.name}: {{shape: box, weight: 0.3}}"
        )
    strict, strict_validation = ([row for row in side if row.annotation not in WEAK] for side in (scored, validation))
    return ChosenDataset(
        opened,
        train,
        strict,
        strict_validation,
        weak,
        sum(row.annotation in WEAK for row in train),
        len(scored) + len(validation) - len(strict) - len(strict_validation),
        left_out,
    )


def _refuse_unknown_weak(weak: Mapping[str, WeakChoice], rows: Mapping[str, Sequence[CaseRow]]) -> None:
    for name in weak:
        if name not in rows:
            raise ConfigError(f"data.weak.{name}: no such dataset in this run{close_matches(name, rows)}")
        if not any(row.annotation in WEAK for row in rows[name]):
            raise ConfigError(f"data.weak.{name}: this dataset has masks; remove the key")


def _advice(settings: DataSettings) -> str:
    if isinstance(settings.split, OfficialSplit):
        return "; where a dataset has no split of its own, make one: data.split.how: made"
    return ""
