"""Which slice comes when: an epoch is a sequence of (case, target, slice) that the seed and the epoch alone decide.

A sampler knows how many slices of each case hold each target, in columns of numbers; which slices these are is looked
up when a sample is made. So a sample costs the same however many cases there are, and no list of all slices exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, ConfigError, DataError, close_matches
from oncoseg_core.system import derived_generator
from oncoseg_trainer.config.data_settings import ForegroundSampling, LabelledSampling
from oncoseg_trainer.data.case_source import CaseSource, Counts


class Draw(NamedTuple):
    """One sample of an epoch.

    ``number`` names it within its epoch. ``dataset`` and ``case`` are numbers. The slice is the ``nth`` of those that
    hold the target, or, where that is None, the one at ``place`` in [0, 1) along the case. ``repeat`` tells apart the
    draws of one slice within an epoch; None where each comes once.
    """

    number: int
    dataset: int
    case: int
    target: str
    nth: int | None
    place: float = 0.0
    repeat: int | None = None


class Sampler(Protocol):
    """The order of samples. ``len`` is that of an epoch."""

    def __len__(self) -> int: ...

    def draw(self, epoch: int, position: int) -> Draw:
        """The sample at a position of an epoch, whoever asks and in whatever order."""


@dataclass(frozen=True, eq=False)
class LabelledSlices:
    """How many slices of each case of a dataset hold each target: ``counts`` ``(target, case)``.

    ``annotated`` ``(target, case)`` says where the target was looked for, found or not.
    """

    targets: tuple[str, ...]
    counts: Counts
    annotated: BoolArray

    @classmethod
    def of(
        cls, source: CaseSource, targets: Sequence[str], annotated: Sequence[Sequence[str]] | None = None
    ) -> LabelledSlices:
        """Count them; ``annotated`` are the targets of each case (those it has, when omitted).

        Raises:
            DataError: a target has no voxel in any of the cases.
        """
        counts = [source.slice_counts(target) for target in targets]
        for target, each in zip(targets, counts, strict=True):
            if not each.any():
                refuse_empty(source, target, [name for name in targets if name != target])
        table = np.array(counts, dtype=np.int64).reshape(len(targets), len(source))
        known = table > 0
        if annotated is not None:
            known |= np.array([[target in own for own in annotated] for target in targets], dtype=bool)
        return cls(tuple(targets), table, known)


def refuse_empty(source: CaseSource, target: str, others: Sequence[str]) -> None:
    """Say that a target is empty in all cases of a side that have it annotated, and how to go on without it.

    Raises:
        DataError: always; it names the label of the first.
    """
    annotated = [
        case for case in map(source.record, range(len(source))) if target in {each.name for each in case.targets}
    ]
    where = f"of {len(source)} cases on this side of {annotated[0].dataset!r}"
    kept = f"keep {', '.join(others)}" if others else "there is no other target"
    raise DataError(
        f"{' '.join(map(str, annotated[0].labels))}: the label holds no voxel of {target!r}"
        + (f", nor do those of {len(annotated) - 1} other cases" if len(annotated) > 1 else "")
        + f": {where}, {len(annotated)} have it annotated and 0 show it. If it is too rare for a side, leave it out of "
        f"data.targets ({kept}), or split otherwise; else the file or the label values of the dataset are wrong"
    )


class LabelledSampler:
    """Every labelled slice once in an epoch: a permutation by the seed and the epoch.

    Args:
        datasets: their labelled slices.
        seed: the run's.
    """

    def __init__(self, datasets: Sequence[LabelledSlices], seed: int) -> None:
        self._datasets = list(datasets)
        self._seed = seed
        # Slices are numbered by dataset, case, target and place; `ends` is where each (case, target) ends.
        self._ends = np.cumsum(np.concatenate([each.counts.T.reshape(-1) for each in datasets]))
        self._dataset_ends = np.cumsum([each.counts.size for each in datasets])
        self._order: tuple[int, Counts] = (-1, np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def draw(self, epoch: int, position: int) -> Draw:
        """The sample at a position of an epoch."""
        if self._order[0] != epoch:
            self._order = (epoch, derived_generator(self._seed, "order", epoch).permutation(len(self)))
        number = int(self._order[1][position])
        pair = int(np.searchsorted(self._ends, number, side="right"))
        nth = number - (int(self._ends[pair - 1]) if pair else 0)
        dataset = int(np.searchsorted(self._dataset_ends, pair, side="right"))
        within = pair - (int(self._dataset_ends[dataset - 1]) if dataset else 0)
        case, target = divmod(within, len(self._datasets[dataset].targets))
        return Draw(number, dataset, case, self._datasets[dataset].targets[target], nth)


class ForegroundSampler:
    """Slices drawn at random, with replacement.

    For sample ``i``, counted from the run's first:

    1. the dataset d, with a probability in proportion to ``n_d ** (1 / temperature)``, where ``n_d`` are its labelled
       slices (those of each target counted). At 1 it is as if the slices of all were put together; the higher, the more
       alike the datasets. A dataset that is named in ``shares`` has that probability instead, and the others share what
       is left.
    2. the target, number ``i modulo k`` of the dataset's k targets: they take turns.
    3. with probability ``foreground_share`` a case, each alike of those that have a slice with the target, and one of
       these slices, each alike;
    4. otherwise any slice of a case, each alike, of these same cases. Prompts that do not point at the object can also
       ask for it where it is not: then all cases in which the target is annotated take part here, empty or not.

    So, where prompts point at the object, a slice of a case of depth z with f labelled slices has the chance ``share /
    f`` (if it is labelled) plus ``(1 - share) / z``, given its case. Every draw is derived from the seed, the epoch and
    the position.

    Args:
        datasets: their labelled slices.
        settings: the shares.
        seed: the run's.
        points_at_object: whether prompts need the object in the case.
        names: of the datasets, where ``settings.shares`` names any.

    Raises:
        ConfigError: a share is of no dataset that is trained on, or the shares leave too much or too little.
    """

    def __init__(
        self,
        datasets: Sequence[LabelledSlices],
        settings: ForegroundSampling,
        seed: int,
        *,
        points_at_object: bool = True,
        names: Sequence[str] = (),
    ) -> None:
        self._datasets = list(datasets)
        self._share = settings.foreground_share
        self._seed = seed
        sizes = np.array([each.counts.sum() for each in datasets], dtype=np.float64)
        fixed = _fixed_shares(settings.shares, names, len(datasets))
        free = np.isnan(fixed)
        left = 1 - float(fixed[~free].sum())
        self.probabilities = fixed
        if free.any():
            weights = (sizes[free] / sizes[free].sum()) ** (1 / settings.temperature)
            self.probabilities[free] = left * weights / weights.sum()
        own = sizes[free].sum() / left if free.any() else sizes.sum()
        self._length = settings.samples_per_epoch or round(own)
        self._ends = np.cumsum(self.probabilities)[:-1]
        self._with_target = [[np.flatnonzero(row) for row in each.counts] for each in datasets]
        self._anywhere = (
            self._with_target
            if points_at_object
            else [[np.flatnonzero(row) for row in each.annotated] for each in datasets]
        )

    def __len__(self) -> int:
        return self._length

    def draw(self, epoch: int, position: int) -> Draw:
        """The sample at a position of an epoch."""
        rng = derived_generator(self._seed, "draw", epoch, position)
        dataset = int(np.searchsorted(self._ends, rng.random(), side="right"))
        slices = self._datasets[dataset]
        target = (epoch * self._length + position) % len(slices.targets)
        cases, anywhere = self._with_target[dataset][target], self._anywhere[dataset][target]
        if rng.random() < self._share:
            case = int(cases[rng.integers(len(cases))])
            nth, place = int(rng.integers(slices.counts[target, case])), 0.0
        else:
            case = int(anywhere[rng.integers(len(anywhere))])
            nth, place = None, float(rng.random())
        return Draw(position, dataset, case, slices.targets[target], nth, place, position)


def _fixed_shares(shares: Mapping[str, float], names: Sequence[str], n_datasets: int) -> npt.NDArray[np.float64]:
    """The share of each dataset that has one, NaN for the others."""
    for name in shares:
        if name not in names:
            raise ConfigError(f"sampling.shares.{name}: no such dataset is trained on{close_matches(name, names)}")
    fixed = np.array([shares.get(name, np.nan) for name in names] or [np.nan] * n_datasets)
    total = sum(shares.values())
    if np.isnan(fixed).any():
        if total >= 1:
            raise ConfigError(f"sampling.shares: add up to {total:g}, which leaves nothing for the other datasets")
    elif abs(total - 1) > 1e-6:
        raise ConfigError(f"sampling.shares: name every dataset and add up to {total:g}, not to 1")
    return fixed


def build_sampler(
    datasets: Sequence[LabelledSlices],
    settings: LabelledSampling | ForegroundSampling,
    seed: int,
    *,
    points_at_object: bool = True,
    names: Sequence[str] = (),
) -> Sampler:
    """The sampler that the settings ask for; ``names`` are the datasets'."""
    if isinstance(settings, ForegroundSampling):
        return ForegroundSampler(datasets, settings, seed, points_at_object=points_at_object, names=names)
    return LabelledSampler(datasets, seed)
