"""The small frozen validation sets of a chain: drawn once, and scored after every task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core import DatasetAdapter, ModelSpec, Registry, RunError
from oncoseg_core.path import PathSettings, Preprocessor
from oncoseg_core.system import atomic_write, derived_seed, json_text
from oncoseg_lora import Scan
from oncoseg_trainer.chain.manifest import sha256_of
from oncoseg_trainer.chain.tasks import ChainTask
from oncoseg_trainer.data.case_selection import DatasetLookup, choose_cases
from oncoseg_trainer.data.case_source import CaseRow
from oncoseg_trainer.data.held_out import HeldOut
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.reporting.terminal import Terminal

FOLDER = "validation"


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """One dataset's frozen cases, as its file has them.

    ``cases`` have ``case_id``, ``content_hash`` and the ``targets`` that have a voxel in it. They are those of the
    dataset's validation side (the scored one, where the run has none) that come first in an order by the seed, up to
    ``wanted``; a case without any of its targets is passed over. There are none where the cases of that side have no
    masks.
    """

    column: str
    dataset: str
    side: str
    seed: int
    wanted: int
    cases: tuple[Mapping[str, Any], ...]

    @property
    def scans(self) -> list[Scan]:
        """The cases and the hashes of their voxels."""
        return [Scan(self.dataset, case["case_id"], case["content_hash"]) for case in self.cases]

    @property
    def values(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "cases": list(self.cases)}

    @property
    def sha256(self) -> str:
        """Of all of it."""
        return sha256_of(self.values)

    def write(self, chain: Path) -> None:
        """Freeze it.

        Raises:
            StorageError: it cannot be written.
        """
        content = {"format": 1, **self.values, "sha256": self.sha256}
        atomic_write(_path(chain, self.column), json_text(content, indent=1) + "\n")


def read_frozen(chain: Path, task: ChainTask, column: str, wanted: int) -> ValidationSet | None:
    """The set that was frozen for a column; None where none was.

    Raises:
        RunError: it was changed afterwards, or drawn otherwise than the chain says now.
    """
    path = _path(chain, column)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
        del found["format"]
        sha256 = found.pop("sha256")
        frozen = ValidationSet(**{**found, "cases": tuple(found["cases"])})
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: is no frozen validation set; restore it") from error
    if frozen.sha256 != sha256:
        raise RunError(f"{path}: was changed after it was frozen; restore it")
    now = {"wanted": wanted, "side": _side(task), "seed": task.settings.seed}
    differing = [f"{key} {getattr(frozen, key)}, now {value}" for key, value in now.items()
                 if getattr(frozen, key) != value]  # fmt: skip
    if differing:
        raise RunError(
            f"{path}: the validation cases were drawn otherwise ({'; '.join(differing)}), and scores on others cannot "
            "stand in one matrix; restore the chain's settings, or choose another folder with --set output=DIR"
        )
    return frozen


class ValidationCases:
    """Opens the datasets of a task to draw or to score its validation cases; no image is kept.

    Args:
        task: the one that trains on them.
        registry: where components are found.
        processes: this one and its fellows; the first fetches.
        terminal: shows the progress of a download.
    """

    def __init__(self, task: ChainTask, registry: Registry, processes: Processes, terminal: Terminal) -> None:
        self._task = task
        data = task.data_without_replay
        with terminal.progress() as progress:

            def fetch(adapter: DatasetAdapter) -> Path:
                return processes.on_first(lambda: adapter.fetch(progress))

            opened = DatasetLookup(registry, data.chosen).open(fetch)
        self._chosen = dict(zip(task.columns, choose_cases(opened, data).datasets, strict=True))
        settings, model = task.settings, registry.get(ModelSpec, task.settings.model.name)
        modalities = {row.modality for column in self._chosen for row in self._rows(column)}
        self.preprocessors = {
            modality: Preprocessor(
                registry,
                modality,
                model,
                PathSettings(
                    normalizers=settings.normalizers, channels=settings.channels.get(modality), fit=settings.fit
                ),
            )
            for modality in sorted(modalities)
        }

    def _rows(self, column: str) -> list[CaseRow]:
        """The cases of the side that is drawn from."""
        each = self._chosen[column]
        return each.scored if self._task.settings.data.validation_split is None else each.validation

    def draw(self, column: str, wanted: int) -> ValidationSet:
        """Draw a column's cases; as many are read as it takes to find those with a target.

        Raises:
            OncoSegError: a case cannot be read.
        """
        each, seed = self._chosen[column], self._task.settings.seed
        order = sorted(self._rows(column), key=lambda row: derived_seed(seed, "validation", each.name, row.case_id))
        cases: list[dict[str, Any]] = []
        for row in order:
            if len(cases) == wanted:
                break
            source, targets = each.source([row], self.preprocessors, 0)
            present = [target for target in targets if source.slice_counts(target)[0]]
            if present:
                cases.append({"case_id": row.case_id, "content_hash": source.content_hash(0), "targets": present})
        cases.sort(key=lambda case: case["case_id"])
        return ValidationSet(column, each.name, _side(self._task), seed, wanted, tuple(cases))

    def held_out(self, frozen: ValidationSet) -> HeldOut:
        """A column's frozen cases, to be scored.

        Raises:
            RunError: a case is gone, or its voxels or targets are not what they were.
        """
        each = self._chosen[frozen.column]
        wanted = {case["case_id"]: case for case in frozen.cases}
        found = [row for row in self._rows(frozen.column) if row.case_id in wanted]
        rows = [_with_targets(row, wanted[row.case_id]["targets"]) for row in found]
        missing = sorted(wanted.keys() - {row.case_id for row in rows})
        if missing:
            raise RunError(f"{frozen.column}: the validation cases {', '.join(missing[:5])} are gone; restore the data")
        held_out = HeldOut([each.source(rows, self.preprocessors, 0)], several=True)
        changed = sorted(
            scan.case_id for scan in held_out.scans if scan.content_hash != wanted[scan.case_id]["content_hash"]
        )
        if changed or held_out.not_scored:
            names = ", ".join((changed or held_out.not_scored)[:5])
            raise RunError(f"{frozen.column}: the validation cases {names} are not what they were; restore the data")
        return held_out


def column_score(rows: Sequence[Mapping[str, Any]]) -> float:
    """A dataset's Dice: the mean over its cases, of each the mean over its targets."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row["dice"])
    return float(np.mean([np.mean(values) for values in cases.values()]))


def _with_targets(row: CaseRow, targets: Sequence[str]) -> CaseRow:
    return row._replace(targets=tuple(target for target in row.targets if target in targets))


def _side(task: ChainTask) -> str:
    return task.settings.data.validation_split or task.settings.data.score_split


def _path(chain: Path, column: str) -> Path:
    return chain / FOLDER / f"{column}.json"
