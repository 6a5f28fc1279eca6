"""The held-out cases: checked before the run begins, and scored one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from oncoseg_core import BoolArray, Case, Metric, Volume
from oncoseg_core.data import labelled_slices
from oncoseg_core.inference import Predictor
from oncoseg_lora import Scan
from oncoseg_prompts.api import Prompting
from oncoseg_trainer.data.case_source import CaseSource
from oncoseg_trainer.data.sampling import LabelledSlices
from oncoseg_trainer.data.scored_cases import Row
from oncoseg_trainer.data.scoring import score_case
from oncoseg_trainer.distributed.interruption import AbandonedError, waiting_for


class _Place(NamedTuple):
    """Where a case is read, and which of its targets have a voxel."""

    source: CaseSource
    number: int
    targets: tuple[str, ...]


class HeldOut:
    """The cases that are scored, of all datasets.

    A target that is empty in a case is no object that a prompt could be made for: it is left out of that case's
    scores, and a case in which all are empty is not scored, but named in ``not_scored``.

    Args:
        sources: the held-out cases of each dataset, with the targets that occur in them.
        several: whether the run has several datasets, so that a case's id alone does not name it.

    Raises:
        DataError: a case cannot be taken, or a target is empty in all cases of a dataset.
    """

    def __init__(self, sources: Sequence[tuple[CaseSource, Sequence[str]]], *, several: bool) -> None:
        self._places: list[_Place] = []
        self.not_scored: list[str] = []
        self.scans: list[Scan] = []
        self._several = several
        for source, targets in sources:
            found = LabelledSlices.of(source, targets)
            for number in range(len(source)):
                case = source.record(number)
                own = {target.name for target in case.targets}
                present = tuple(
                    target for target, counts in zip(found.targets, found.counts, strict=True)
                    if target in own and counts[number]
                )  # fmt: skip
                self.scans.append(Scan(case.dataset, case.case_id, source.content_hash(number)))
                if present:
                    self._places.append(_Place(source, number, present))
                else:
                    self.not_scored.append(self.scans[-1].name if self._several else case.case_id)
            source.release()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[tuple[Case, Volume, dict[str, BoolArray]]]:
        return (self.load(number) for number in range(len(self)))

    def load(self, number: int) -> tuple[Case, Volume, dict[str, BoolArray]]:
        """A case, its image, and the masks of its targets that have a voxel."""
        place = self._places[number]
        volume, masks = place.source.load(place.number)
        return place.source.record(place.number), volume, {name: masks[name] for name in masks if name in place.targets}

    def score(
        self,
        numbers: Sequence[int],
        predictor: Predictor,
        prompting: Prompting,
        metrics: Mapping[str, Metric],
        seed: int,
        should_stop: Callable[[], bool],
        keep: Callable[[int, list[Row]], None],
        *,
        floors: bool = False,
    ) -> None:
        """Score some of the cases, and hand each one's number and rows to ``keep`` as soon as it is scored.

        Ends early when asked to stop: after a slice, or, where that takes long, in its midst. The case in hand is then
        not scored, unless that slice was its last. Rows name the dataset where the run has several; with ``floors``
        they hold the scores of masks without a model.
        """
        for number in numbers:
            record = self._places[number].source.record(self._places[number].number)
            try:
                with waiting_for(f"the scores of case {record.case_id!r}", may_be_left=True):
                    if should_stop():
                        return
                    case, volume, masks = self.load(number)
                    after_slice = _StopBetweenSlices(should_stop, masks)
                    scores = score_case(
                        predictor, case, volume, masks, prompting, metrics, seed, after_slice=after_slice, floors=floors
                    )
            except (_StoppedError, AbandonedError):
                return
            own = {"dataset": case.dataset} if self._several else {}
            keep(number, [{**own, **score.row()} for score in scores])


class _StoppedError(Exception):
    """Asked to stop, after a slice."""


class _StopBetweenSlices:
    """Looks after each slice of a case but the last whether to stop."""

    def __init__(self, should_stop: Callable[[], bool], masks: Mapping[str, BoolArray]) -> None:
        self._should_stop = should_stop
        target = list(masks)[-1]
        self._last = target, labelled_slices(masks[target])[-1]

    def __call__(self, target: str, index: int) -> None:
        if (target, index) != self._last and self._should_stop():
            raise _StoppedError
