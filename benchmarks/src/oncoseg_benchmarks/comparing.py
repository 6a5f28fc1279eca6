"""Pairing the scores of two subjects on the same cases, and testing whether one is better."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from oncoseg_benchmarks.rows import Row
from oncoseg_benchmarks.statistics import PairedTest, holm, paired_test
from oncoseg_core.errors import DataError

Method = Literal["wilcoxon", "permutation"]


@dataclass(frozen=True)
class Comparison:
    """Two subjects on one kind of prompt, level and dataset: patients paired, and what the test says.

    ``difference`` is the median over the patients (of their means) of B minus A, ``means`` are over the paired rows. ``adjusted`` is the p
    value after Holm's correction for all comparisons that were made together; both are None with fewer than two
    patients.
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
                f"{row['dataset']}/{row['case']}: the reference of {row['target']!r} is not the same in both; they were "
                "scored against different labels and cannot be compared"
            )
        if row[metric] is not None and other[metric] is not None:
            groups[row["dataset"], row["prompt"], row["level"]].append((row["patient"], (row[metric], other[metric])))
    return groups


def _place(row: Row) -> tuple[str, str, str, str, str]:
    return row["dataset"], row["case"], row["target"], row["prompt"], row["level"]
