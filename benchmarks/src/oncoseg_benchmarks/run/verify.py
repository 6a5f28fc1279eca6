"""Computing every score of a finished run again, from its saved masks, and comparing it with the table.

The table itself is compared with what was written down of each case when it was scored, so that a row that is missing,
or added, is seen as well; and the averages in the summary with those of the table.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oncoseg_benchmarks.config.settings import Statistics
from oncoseg_benchmarks.run.run_folder import RESULTS_FILE, SUMMARY_FILE, RunFolder
from oncoseg_benchmarks.scoring.case_scoring import mask_key
from oncoseg_benchmarks.scoring.empty_masks import score_all
from oncoseg_benchmarks.scoring.saved_masks import Packed, digest, load_masks, unpack
from oncoseg_benchmarks.statistics.groups import all_groups
from oncoseg_benchmarks.table.results import read_table
from oncoseg_benchmarks.table.rows import DESCRIPTION, KEY, Row, as_text, from_text
from oncoseg_core import DataError, Metric, MetricSpec, Progress, Registry
from oncoseg_core.plugins import validate
from oncoseg_core.system import json_text

RELATIVE = 1e-9
"""By how much a score may differ: another build of the libraries adds in another order."""


class Mismatch(NamedTuple):
    """What is not as the masks say, and in which row or part of the summary; ``problem`` tells both values."""

    row: str
    problem: str


class Verification(NamedTuple):
    """How many rows and scores were computed again, and what differs."""

    rows: int
    scores: int
    mismatches: list[Mismatch]


def verify(path: Path, registry: Registry, progress: Progress) -> Verification:
    """Compute the table of a run again.

    Needs neither the model nor the dataset. Voxel spacing is that of the references' files.

    Raises:
        RunError, DataError: the folder is no finished run, or its table has other metrics than the run.
    """
    folder = RunFolder(path)
    config = folder.identity()["config"]
    rows, names = read_table(path / RESULTS_FILE)
    if set(names) != set(config["metrics"]):
        wanted = ", ".join(config["metrics"])
        raise DataError(f"{path / RESULTS_FILE}: has the metrics {', '.join(names)}, but the run's are {wanted}")
    metrics = {
        name: (registry.get(MetricSpec, name), registry.build(MetricSpec, name, config["metrics"][name]))
        for name in names
    }
    found = list(_table_problems(rows, folder, names))
    loaded: tuple[tuple[str, str, str], dict[str, Packed], dict[str, Packed], Any] | None = None
    by_case = sorted(rows, key=lambda row: (row["dataset"], row["case"], row["model"]))
    for done, row in enumerate(by_case, start=1):
        progress("rows", done, len(by_case))
        name = _named(row)
        place = (row["dataset"], row["case"], row["model"])
        try:
            if loaded is None or loaded[0] != place:
                references, spacing = load_masks(folder.references_path(*place[:2]))
                masks, _ = load_masks(folder.masks_path(row["model"], *place[:2]))
                loaded = (place, masks, references, spacing)
            _, masks, references, spacing = loaded
            found += [Mismatch(name, problem) for problem in _problems(row, masks, references, spacing, metrics)]
        except (DataError, KeyError) as error:
            found.append(Mismatch(name, f"no mask {error}" if isinstance(error, KeyError) else str(error)))
    found += _summary_problems(path / SUMMARY_FILE, rows, names, config)
    return Verification(len(rows), len(rows) * len(metrics), found)


def _named(row: Row) -> str:
    return " ".join(str(row[key]) for key in KEY)


def _table_problems(rows: Sequence[Row], folder: RunFolder, metrics: Sequence[str]) -> Iterator[Mismatch]:
    """Where the table is not what was written down of the cases; scores are left to the masks."""
    written = {_named(row): row for unit in folder.all_units() for row in unit["rows"]}
    told = Counter(map(_named, rows))
    for name in sorted(written.keys() - told.keys()):
        yield Mismatch(name, "is not in the table")
    for name, times in told.items():
        if name not in written:
            yield Mismatch(name, "was never scored")
        elif times > 1:
            yield Mismatch(name, f"is in the table {times} times")
    for row in rows:
        before = written.get(_named(row), row)
        for column in DESCRIPTION:
            value = from_text(column, as_text(before.get(column)), metrics)
            if value != row[column]:
                yield Mismatch(_named(row), f"{column} was {_text(value)}, the table says {_text(row[column])}")


def _problems(
    row: Row,
    masks: Mapping[str, Packed],
    references: Mapping[str, Packed],
    spacing: tuple[float, float, float],
    metrics: Mapping[str, tuple[MetricSpec, Metric]],
) -> list[str]:
    predicted = masks[mask_key(row["target"], row["prompt"], row["level"])]
    reference = references[row["target"]]
    for what, packed in (("prediction", predicted), ("reference", reference)):
        if digest(packed) != row[f"{what}_sha256"]:
            return [f"the saved {what} is not the one that was scored"]
    prediction, truth = unpack(predicted), unpack(reference)
    counted = {
        "predicted_voxels": int(prediction.sum()),
        "reference_voxels": int(truth.sum()),
        "common_voxels": int((prediction & truth).sum()),
    }
    again = {**counted, **score_all(metrics, prediction, truth, spacing, physical=row["voxel_mm3"] is not None)}
    return [
        f"{name} is {_text(value)}, the table says {_text(row[name])}"
        for name, value in again.items()
        if not _same(value, row[name])
    ]


def _summary_problems(
    path: Path, rows: Sequence[Row], metrics: Sequence[str], config: Mapping[str, Any]
) -> Iterator[Mismatch]:
    """Where the averages of the summary are not those of the table."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["groups"]
    except (OSError, ValueError, KeyError, TypeError):
        yield Mismatch(SUMMARY_FILE, "cannot be read; finish the run again with --resume")
        return
    again = list(all_groups(rows, metrics, validate(Statistics, config["statistics"], RESULTS_FILE), config["seed"]))
    if len(again) != len(told):
        yield Mismatch(SUMMARY_FILE, f"has {len(told)} groups, the table makes {len(again)}")
    for group, said in zip(json.loads(json_text(again)), told, strict=False):
        for place, value, other in itertools.islice(_differences(group, said, ""), 1):  # of a group, one is enough
            name = " ".join(str(group[key]) for key in ("model", "prompt", "level", "by", "value"))
            yield Mismatch(
                f"{SUMMARY_FILE} {name}",
                f"{place[1:]} is {_text(value)}, the summary says {_text(other)}",
            )


def _differences(one: Any, other: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two plain values differ, by more than the order of adding makes."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _differences(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differences(mine, theirs, f"{place}.{number}")
    elif not (_same(one, other) if isinstance(one, float) and isinstance(other, float) else one == other):
        yield place, one, other


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=RELATIVE)


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{len(value)} values"
    return "undefined" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
