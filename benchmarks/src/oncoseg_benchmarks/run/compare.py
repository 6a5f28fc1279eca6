"""Pairing the scores of two subjects on the same cases, and testing whether one is better."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from oncoseg_benchmarks.run.run_folder import RESULTS_FILE, RunFolder
from oncoseg_benchmarks.statistics.statistics import PairedTest, holm, paired_test
from oncoseg_benchmarks.table.results import read_table
from oncoseg_benchmarks.table.rows import BOUNDS, Row
from oncoseg_core import DataError, UsageError, close_matches

Method = Literal["wilcoxon", "permutation"]


@dataclass(frozen=True)
class Comparison:
    """Two subjects on one kind of prompt, level and dataset: patients paired, and what the test says.

    ``difference`` is the median over the patients (of their means) of B minus A, ``means`` are over the paired rows,
    ``effect_size`` is 1 where B is higher everywhere, which for a distance is worse.
    ``adjusted`` is the p value after Holm's correction for all comparisons that were made together; both are None with
    fewer than two patients.
    """

    dataset: str
    prompt: str
    level: str
    a: str
    b: str
    n_rows: int
    n_patients: int
    means: tuple[float, float]
    difference: float
    effect_size: float | None
    p: float | None
    adjusted: float | None

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


def pairs_within(
    rows: Sequence[Row], metric: str, models: Sequence[str], *, method: Method, seed: int
) -> list[Comparison]:
    """Every pair of models of one run, wherever both were scored."""
    return compare([(rows, a, rows, b) for a, b in combinations(models, 2)], metric, method=method, seed=seed)


def compare_runs(
    first: Path, second: Path, metric: str, models: tuple[str | None, str | None], *, method: Method, seed: int
) -> tuple[list[Comparison], list[str]]:
    """Compare the models of two finished runs: those of one label, or the only one of each.

    Args:
        first: the folder of A.
        second: the folder of B.
        metric: which score.
        models: labels in A and in B, where they are not to be found by themselves.
        method: the paired test.
        seed: for the permutation test.

    Returns:
        the comparisons, and what a reader should know about the two runs.

    Raises:
        RunError, DataError: a folder is no finished run, or nothing can be paired.
        UsageError: a model or the metric is not in both.
    """
    tables = [read_table(folder / RESULTS_FILE) for folder in (first, second)]
    for folder, (_, metrics) in zip((first, second), tables, strict=True):
        if metric not in metrics:
            raise UsageError(f"{folder}: has no scores {metric!r}{close_matches(metric, metrics)}")
    rows = [[row for row in table if not row["absent"] and row["leak"] != "certain"] for table, _ in tables]
    pairs = _models_to_pair(rows, models)
    found = compare([(rows[0], a, rows[1], b) for a, b in pairs], metric, method=method, seed=seed)
    if not found:
        raise DataError(f"{first} and {second} have no case, target, prompt and level in common that both scored")
    identities = [RunFolder(folder).identity() for folder in (first, second)]
    notes = [note for side, (table, _) in zip("AB", tables, strict=True) for note in _leak_notes(side, table)]
    if identities[0]["splits"] != identities[1]["splits"]:
        notes.append("the two runs have different splits: only the cases that both scored are compared")
    if identities[0]["config"]["seed"] != identities[1]["config"]["seed"]:
        notes.append("the two runs have different seeds: their random prompts differ")
    if identities[0]["config"]["metrics"][metric] != identities[1]["config"]["metrics"][metric]:
        raise DataError(f"{metric} was computed with other settings in {second} than in {first}")
    return found, notes


def _leak_notes(side: str, rows: Sequence[Row]) -> list[str]:
    """What of a run is no test, or may be none."""
    told = {
        "certain": "are left out: a model was trained on their cases",
        "suspected": "may be of cases that a model was trained on",
        "unknown": "are of a model that does not tell what it was trained on",
    }
    numbers = Counter(row["leak"] for row in rows if not row["absent"])
    return [f"{numbers[mark]} scores of {side} {words}" for mark, words in told.items() if numbers[mark]]


def _models_to_pair(rows: Sequence[Sequence[Row]], wanted: tuple[str | None, str | None]) -> list[tuple[str, str]]:
    found = [sorted({row["model"] for row in side if not row["model"].startswith(BOUNDS)}) for side in rows]
    for name, known in zip(wanted, found, strict=True):
        if name is not None and name not in known:
            raise UsageError(f"no model {name!r} in that run{close_matches(name, known)}")
    if wanted != (None, None):
        sides = [known if name is None else [name] for name, known in zip(wanted, found, strict=True)]
    else:
        shared = sorted(set(found[0]) & set(found[1]))
        if shared:
            return [(name, name) for name in shared]
        sides = found
    if any(len(side) != 1 for side in sides):
        raise UsageError(
            f"A has {', '.join(found[0])} and B has {', '.join(found[1])}: say which with --model-a and --model-b"
        )
    return [(sides[0][0], sides[1][0])]


def compare(
    sides: Iterable[tuple[Sequence[Row], str, Sequence[Row], str]], metric: str, *, method: Method, seed: int
) -> list[Comparison]:
    """Compare subjects, by dataset, prompt and level, with Holm's correction over all that comes out.

    Rows are paired by case, target, prompt and level; where one side's score is undefined, the pair is left out. The
    test goes by patients.

    Args:
        sides: rows and label of A, rows and label of B.
        metric: which score.
        method: the paired test.
        seed: for the permutation test.

    Raises:
        DataError: a case's reference differs between the sides: these are not the same data.
    """
    found: list[tuple[dict[str, Any], PairedTest | None]] = []
    for rows_a, a, rows_b, b in sides:
        for (dataset, prompt, level), pairs in sorted(_paired(rows_a, a, rows_b, b, metric).items()):
            scores = np.array([values for _, values in pairs])
            patients = [patient for patient, _ in pairs]
            test = None
            if len(set(patients)) > 1:
                test = paired_test(scores[:, 1], scores[:, 0], patients, method=method, seed=seed)
            facts = {
                "dataset": dataset,
                "prompt": prompt,
                "level": level,
                "a": a,
                "b": b,
                "n_rows": len(pairs),
                "n_patients": len(set(patients)),
                "means": (float(scores[:, 0].mean()), float(scores[:, 1].mean())),
                "difference": float((scores[:, 1] - scores[:, 0]).mean()) if test is None else test.median_difference,
            }
            found.append((facts, test))
    adjusted = iter(holm([test.p for _, test in found if test is not None]))
    return [
        Comparison(
            **facts,
            effect_size=None if test is None else test.effect_size,
            p=None if test is None else test.p,
            adjusted=None if test is None else next(adjusted),
        )
        for facts, test in found
    ]


def _paired(
    rows_a: Sequence[Row], a: str, rows_b: Sequence[Row], b: str, metric: str
) -> Mapping[tuple[str, str, str], list[tuple[str, tuple[float, float]]]]:
    """``(patient, (score of A, score of B))`` of every pair, by dataset, prompt and level."""
    others = {_place(row): row for row in rows_b if row["model"] == b}
    groups: dict[tuple[str, str, str], list[tuple[str, tuple[float, float]]]] = defaultdict(list)
    for row in rows_a:
        other = others.get(_place(row))
        if row["model"] != a or other is None:
            continue
        if row["reference_sha256"] != other["reference_sha256"]:
            raise DataError(
                f"{row['dataset']}/{row['case']}: the reference of {row['target']!r} is not the same in both; they "
                "were scored against different labels and cannot be compared"
            )
        if row[metric] is not None and other[metric] is not None:
            groups[row["dataset"], row["prompt"], row["level"]].append((row["patient"], (row[metric], other[metric])))
    return groups


def _place(row: Row) -> tuple[str, str, str, str, str]:
    return row["dataset"], row["case"], row["target"], row["prompt"], row["level"]
