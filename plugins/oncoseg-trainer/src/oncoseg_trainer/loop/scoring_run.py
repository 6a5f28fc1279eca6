"""A run's scores: each case is written down when it is scored, and a stop loses the case in hand alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from oncoseg_trainer.data.held_out import HeldOut
from oncoseg_trainer.data.scored_cases import Row, ScoredCases, scores_key
from oncoseg_trainer.loop.components import RunParts
from oncoseg_trainer.loop.health import named_failures
from oncoseg_trainer.reporting.trackers import Trackers

Stop = Callable[[], bool]


class StoppedError(Exception):
    """The run was asked to stop; the text says where, and what is saved."""


class ScoringRun(RunParts):
    """A run that can score cases.

    Attributes:
        scored_in: the folder in which scored cases are written down.
    """

    scored_in: Path

    def averaged(self) -> AbstractContextManager[None]:
        """The weights that are scored: while the block runs, their average is in the model, where one is kept."""
        return nullcontext() if self.average is None else self.average.in_place()

    def score(
        self,
        what: str,
        cases: HeldOut,
        trackers: Trackers,
        should_stop: Stop,
        event: str = "score",
        *,
        floors: bool = False,
    ) -> list[dict[str, Any]]:
        """Score cases, shared out over the processes; rows in the order of the cases, the same on every process.

        Each case is written down when it is scored, and not scored again when the run is resumed.

        Raises:
            StoppedError: stopped between two slices, on any process.
        """
        with self.terminal.progress() as progress, named_failures(self.settings), self.averaged():
            scored = ScoredCases(self.scored_in, self._scores_key(event, floors=floors), self.processes, len(cases))
            mine, before = scored.mine, scored.n_scored
            if before:
                self.terminal.say(f"scoring, {what}: {before} of {len(cases)} cases were scored before")

            def keep(number: int, rows: list[Row]) -> None:
                scored.keep(number, rows)
                progress(f"scoring, {what}", mine.index(number) + 1, len(mine))

            cases.score(
                mine,
                self.predictor(),
                self.score_prompting,
                self.metrics,
                self.settings.seed,
                should_stop,
                keep,
                floors=floors,
            )
            rows = [row for case in scored.collect() for row in case]
        if self.processes.any(should_stop()) or scored.n_scored < len(cases):
            raise StoppedError(
                f"while scoring ({what}): {scored.n_scored} of {len(cases)} cases are scored and saved, and "
                f"{self.state.step} of {self.total_steps} steps"
            )
        for row in rows:
            trackers.metrics(self.state.step, {"event": event, **row})
        return rows

    def _scores_key(self, event: str, *, floors: bool) -> str:
        """Tells scores apart: by the weights and all else that may change between the parts of a run."""
        versions = json.dumps([self.versions.get(kind) for kind in ("plugins", "libraries")], sort_keys=True)
        return scores_key(
            self.trainable,
            event,
            f"floors {floors}",
            self.model.weights_sha256,
            self.state.data_hash,
            self.state.split_hash,
            versions,
        )
