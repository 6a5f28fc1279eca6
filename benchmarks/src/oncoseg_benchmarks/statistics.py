"""How sure a score is, and whether two models differ. Patients, not cases, are what was sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from oncoseg_core.errors import DataError

Float64 = npt.NDArray[np.float64]

LEAST_PATIENTS = 10
"""With fewer patients no interval is given: with seven, those of scores between 0 and 1 left that range."""


DRAWN_TOGETHER = 1 << 20
"""Patients drawn at a time, over all draws: 8 MB an array."""


class Description(NamedTuple):
    """Of the scores that are defined; None where there are too few for a value."""

    n: int
    mean: float | None
    std: float | None
    median: float | None
    q1: float | None
    q3: float | None


class PairedTest(NamedTuple):
    """Whether the scores of two models on the same cases differ.

    ``n`` are patients (the mean of a patient's cases counts once). ``effect_size`` is the matched-pairs rank-biserial
    correlation, from -1 (the second is better everywhere, if more is better) to 1 (the first): Kerby 2014.
    """

    method: str
    n: int
    median_difference: float
    effect_size: float
    p: float


def describe(values: Sequence[float | None]) -> Description:
    """Number, mean, standard deviation (n - 1), median and quartiles; undefined scores (None) are left out."""
    defined = np.array([value for value in values if value is not None], dtype=np.float64)
    if not defined.size:
        return Description(0, None, None, None, None, None)
    q1, median, q3 = (float(value) for value in np.percentile(defined, (25, 50, 75)))
    std = float(defined.std(ddof=1)) if defined.size > 1 else None
    return Description(int(defined.size), float(defined.mean()), std, median, q1, q3)


def bootstrap_interval(
    values: npt.ArrayLike, clusters: Sequence[str], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float] | None:
    """Confidence interval of the mean over cases, by drawing patients with all their cases anew (bootstrap-t).

    Each draw is studentised by its own standard error between patients (Efron and Tibshirani 1993, chapter 12.5),
    because plain percentiles are too narrow for the 10 to 30 patients that a test split often has. None with fewer
    than ``LEAST_PATIENTS`` patients.

    Args:
        values: one score per case, all defined.
        clusters: the patient of each case.
        level: of confidence.
        draws: how often patients are drawn.
        seed: of the draws.

    Raises:
        DataError: there are not as many patients as values, or a value is not finite.
    """
    scores = _finite(values)
    if len(clusters) != len(scores):
        raise DataError(f"{len(scores)} scores of {len(clusters)} patients; expected the patient of each score")
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = (np.bincount(owner, weights).astype(np.float64) for weights in (scores, None))
    patients = len(sums)
    if patients < LEAST_PATIENTS:
        return None
    mean = float(scores.mean())
    error = _standard_error(sums[None], counts[None])[0]
    if error == 0:
        return mean, mean
    blocks = []
    for drawn in _draws(draws, patients, seed):
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        errors = _standard_error(sums[drawn], counts[drawn])
        sound = errors > 1e-12 * error  # a draw of one patient only says nothing
        blocks.append((means[sound] - mean) / errors[sound])
    low, high = np.quantile(np.concatenate(blocks), ((1 - level) / 2, (1 + level) / 2))
    return float(mean - high * error), float(mean - low * error)


def _draws(draws: int, patients: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Patients drawn anew, ``(draws, patients)`` in all, a block at a time: 10,000 patients would take a gigabyte."""
    rng = np.random.default_rng(seed)
    together = max(1, DRAWN_TOGETHER // patients)
    for start in range(0, draws, together):
        yield rng.integers(0, patients, (min(together, draws - start), patients))


def _standard_error(sums: Float64, counts: Float64) -> Float64:
    """Of the mean over cases, from the patients' sums and counts ``(draws, patients)`` (ratio estimator)."""
    patients = sums.shape[1]
    total = counts.sum(axis=1)
    mean = sums.sum(axis=1) / total
    residuals = sums - mean[:, None] * counts
    return np.asarray(np.sqrt(patients / (patients - 1) * (residuals**2).sum(axis=1)) / total)


def paired_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    clusters: Sequence[str],
    *,
    method: Literal["wilcoxon", "permutation"] = "wilcoxon",
    draws: int = 10_000,
    seed: int = 0,
) -> PairedTest:
    """Test whether two models' scores on the same cases differ, two-sided, patient by patient.

    ``wilcoxon``: signed ranks, exact for few patients without ties. ``permutation``: the mean difference with its signs
    flipped at random, all flips where there are no more than ``draws``.

    Args:
        first: the first model's scores, one per case.
        second: the second's, in the same order.
        clusters: the patient of each case.
        method: which test.
        draws: random flips of the permutation test.
        seed: of the flips.

    Raises:
        DataError: the scores are not paired, or not finite.
    """
    one, other = _finite(first), _finite(second)
    if not len(one) == len(other) == len(clusters):
        raise DataError(f"{len(one)} and {len(other)} scores of {len(clusters)} patients; expected pairs")
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    differences = np.bincount(owner, one - other) / np.bincount(owner)
    moved = differences[differences != 0]
    median = float(np.median(differences))
    if not moved.size:
        return PairedTest(method, len(differences), median, 0.0, 1.0)
    ranks = stats.rankdata(np.abs(moved))
    effect = float(ranks @ np.sign(moved) / ranks.sum())
    p = float(stats.wilcoxon(moved).pvalue) if method == "wilcoxon" else _permutation(moved, draws, seed)
    return PairedTest(method, len(differences), median, effect, p)


def _permutation(differences: Float64, draws: int, seed: int) -> float:
    found = stats.permutation_test(
        (differences,),
        lambda sample, axis: np.mean(sample, axis=axis),
        permutation_type="samples",
        n_resamples=draws,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted for having tested several times (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


def ranking_stability(scores: npt.ArrayLike, clusters: Sequence[str], *, draws: int = 2000, seed: int = 0) -> Float64:
    """How often each model takes each rank by its mean, when patients are drawn anew: shares ``(models, ranks)``.

    Args:
        scores: ``(models, cases)``, more is better, all defined.
        clusters: the patient of each case.
        draws: how often patients are drawn.
        seed: of the draws.

    Models that tie share the ranks that they take up.

    Raises:
        DataError: there is not a patient for each case, or a score is not finite.
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if not np.isfinite(table).all() or table.shape[1] != len(clusters):
        raise DataError(f"scores {table.shape} of {len(clusters)} patients; expected finite (models, cases)")
    _, owner = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.stack([np.bincount(owner, row) for row in table])
    counts = np.bincount(owner)
    models, patients = sums.shape
    blocks = [sums[:, drawn].sum(axis=2) / counts[drawn].sum(axis=1) for drawn in _draws(draws, patients, seed)]
    means = np.concatenate(blocks, axis=1)
    shares = np.zeros((models, models))
    better = (means[:, None] < means[None]).sum(axis=1)
    level = (means[:, None] == means[None]).sum(axis=1)
    for model in range(models):
        for first, ties in zip(better[model], level[model], strict=True):
            shares[model, first : first + ties] += 1 / ties
    return shares / draws


def _finite(values: npt.ArrayLike) -> Float64:
    scores = np.asarray(values, dtype=np.float64).ravel()
    if not scores.size or not np.isfinite(scores).all():
        raise DataError("expected finite scores, at least one; leave undefined ones out, and tell how many they are")
    return scores
