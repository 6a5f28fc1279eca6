"""How sure a score is, and whether two models differ. Patients, not cases, are what was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from oncoseg_core import DataError

Float64 = npt.NDArray[np.float64]

LEAST_PATIENTS = 10
"""With fewer patients no interval is given: with seven, those of scores between 0 and 1 left that range."""

EXACT_PATIENTS = 500
"""Up to so many, Wilcoxon's test counts all ways (0.1 s); beyond, p is approximate: 0.008 too low if all are tied."""

DRAWN_TOGETHER = 1 << 18
"""Patients drawn at a time, over all draws: arrays of 2 MB stay in the cache."""

ROUNDING = 1e-6
"""Standard errors smaller than this share of the scores, or of the study's own error, are rounding: all were alike."""


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
    correlation, from -1 (the second is higher everywhere) to 1 (the first): Kerby 2014.
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
    because plain percentiles are too narrow for the 10 to 30 patients that a test split often has. The interval ends
    where the patients' own scores do: the mean of no draw lies outside of them.

    Of 1,000 simulated studies, 94 to 96 % of the 95 % intervals hold the truth where scores spread as Dice does. Where
    one patient in ten fails altogether, about 82 % (10 patients) and 93 % (30) do (both are tested), and of distances
    with a long tail still fewer than 95: what a study did not meet is in no draw.

    None with fewer than ``LEAST_PATIENTS`` patients; and where so many draws are of equal scores (nearly all patients
    have the same one, as in lesion recall) that an end would be one of those: they have no error to be measured by.

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
    off = sums - mean * counts  # ratio estimator: the error of the mean is that of these sums
    error = float(np.sqrt(patients / (patients - 1) * (off @ off)) / counts.sum())
    if error <= ROUNDING * np.abs(scores).max():
        return None
    parts = np.stack([off, counts, off * off, off * counts, counts * counts])
    moved, number, squares, products, sizes = _sums_of_draws(parts, draws, seed)
    moved /= number
    squares += moved * (moved * sizes - 2 * products)
    errors = np.sqrt(patients / (patients - 1) * np.maximum(squares, 0)) / number
    alike = errors <= ROUNDING * error
    studentised = np.where(alike, np.copysign(np.inf, moved), moved / np.where(alike, 1, errors))
    ends = np.quantile(studentised, ((1 - level) / 2, (1 + level) / 2), method="inverted_cdf")
    if not np.isfinite(ends).all():
        return None
    own = sums / counts
    return float(max(mean - ends[1] * error, own.min())), float(min(mean - ends[0] * error, own.max()))


def _sums_of_draws(parts: Float64, draws: int, seed: int) -> Float64:
    """Sums of values ``(values, patients)`` over the patients of each draw: ``(values, draws)``."""
    times = _times_drawn(draws, parts.shape[1], seed)
    together = max(1, DRAWN_TOGETHER // parts.shape[1])
    blocks = [parts @ times[start : start + together].T.astype(np.float64) for start in range(0, draws, together)]
    return np.concatenate(blocks, axis=1)


@lru_cache(maxsize=1)
def _times_drawn(draws: int, patients: int, seed: int) -> npt.NDArray[np.uint8]:
    """How often each patient is in each draw, ``(draws, patients)``: once on average, so that a byte is enough.

    The last is kept: all metrics of a table are of the same patients, and 10,000 of them take longer to draw than to
    add up.
    """
    rng = np.random.default_rng(seed)
    times = np.empty((draws, patients), dtype=np.uint8)
    together = max(1, DRAWN_TOGETHER // patients)
    for start in range(0, draws, together):
        block = times[start : start + together]
        drawn = rng.integers(0, patients, block.shape) + patients * np.arange(len(block))[:, None]
        block[:] = np.bincount(drawn.ravel(), minlength=block.size).reshape(block.shape)
    return times


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

    ``wilcoxon``: signed ranks, exact up to ``EXACT_PATIENTS``. ``permutation``: the mean difference with its signs
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
    p = _signed_ranks(moved, ranks) if method == "wilcoxon" else _permutation(moved, draws, seed)
    return PairedTest(method, len(differences), median, effect, p)


def _signed_ranks(differences: Float64, ranks: Float64) -> float:
    """Wilcoxon's p value: of all ways to give the ranks signs, the share that is as extreme, counted rank by rank.

    With ties too, where scipy approximates from 14 patients on: of discrete scores, such as lesion recall, it called up
    to one in nine comparisons significant that are not.
    """
    if len(differences) > EXACT_PATIENTS:
        return float(stats.wilcoxon(differences).pvalue)
    halves = np.rint(2 * ranks).astype(np.int64)  # tied ranks end in one half
    total = int(halves.sum())
    shares = np.zeros(total + 1)  # of the ways, by the sum of the positive ranks
    shares[0] = 1.0
    for half in halves:
        shares[half:] = (shares[half:] + shares[: total + 1 - half]) / 2
        shares[:half] /= 2
    off = np.abs(2 * np.arange(total + 1) - total)
    found = abs(2 * int(halves[differences > 0].sum()) - total)
    return min(1.0, float(shares[off >= found].sum()))


def _permutation(differences: Float64, draws: int, seed: int) -> float:
    if len(differences) == 1:  # both flips are as extreme; scipy refuses it
        return 1.0
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
    models = len(sums)
    totals = _sums_of_draws(np.concatenate([sums, np.bincount(owner)[None]]), draws, seed)
    means = (totals[:-1] / totals[-1]).round(12)  # equal models stay equal
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
