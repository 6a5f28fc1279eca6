"""How a training run is doing, seen while it goes on: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Group
from rich.live import Live
from rich.progress import Progress as Bars
from rich.table import Table

from oncoseg_core.cli import cell
from oncoseg_core.plugins import peak_memory_mb
from oncoseg_trainer.reporting.by_target import MEASURES, by_target, headline, loss_terms, mean, metric_title

WINDOW = 50
"""Steps over which pace and loss are averaged: a single step says little, and the first ones are slow."""

SHOWN_TARGETS = 12
"""More targets than these are shown by their mean."""

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_DRAWINGS = 0.25
SHARE_OF_TIME = 0.008
"""At most so much of the run's time goes into drawing: what takes long is drawn less often."""


class Step(NamedTuple):
    """One optimizer step: what it reports, its images, and the seconds that it took and waited for data."""

    values: Mapping[str, float]
    samples: int
    seconds: float
    waited: float


class Figures:
    """What is known of a run under way, as text.

    Args:
        total: steps of the whole run.
        per_epoch: steps of an epoch.
    """

    def __init__(self, total: int, per_epoch: int) -> None:
        self.total = total
        self._per_epoch = per_epoch
        self._number = 0
        self._recent: deque[Step] = deque(maxlen=WINDOW)
        self._scores: tuple[int, str, dict[str, float]] | None = None

    def step(self, number: int, step: Step) -> None:
        """Step ``number`` (from 1) was taken."""
        self._number = number
        self._recent.append(step)

    def scored(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Cases were scored after that many steps."""
        metric = headline(rows)
        means = {target: mean(values) for target, values in sorted(by_target(rows, metric).items())}
        self._scores = (number, metric_title(metric), means)

    def rows(self) -> list[tuple[str, str]]:
        """Every figure under its name."""
        rows = [("step", f"{self._place()}, {self._left()} to go")]
        if self._recent:
            rows.append((f"loss (last {len(self._recent)})" if len(self._recent) > 1 else "loss", self._loss()))
        if self._scores is not None:
            number, metric, _ = self._scores
            rows.append((metric, f"{self._score()} (after step {number:,})"))
        rows.append(("pace", ", ".join([*self._pace(), *self._measures()])))
        rows.append(("memory", _memory()))
        return rows

    def line(self) -> str:
        """The same in one line."""
        parts = [self._place(), f"loss {self._loss()}"]
        if self._scores is not None:
            parts.append(f"{self._scores[1]} {self._score()}")
        return ", ".join([*parts, *self._measures(), *self._pace(), f"{self._left()} to go"])

    def _place(self) -> str:
        epochs = -(-self.total // self._per_epoch)
        epoch = max(0, self._number - 1) // self._per_epoch + 1
        return f"step {self._number:,} of {self.total:,}, epoch {epoch} of {epochs}"

    def _left(self) -> str:
        """Time for the remaining steps at the recent pace; scoring comes on top."""
        if not self._recent:
            return "unknown time"
        return _duration((self.total - self._number) * sum(s.seconds for s in self._recent) / len(self._recent))

    def _loss(self) -> str:
        names = loss_terms(self._recent[-1].values)
        terms = [f"{name} {mean([s.values.get(name, math.nan) for s in self._recent]):.4f}" for name in names]
        loss = f"{mean([s.values.get('loss', math.nan) for s in self._recent]):.4f}"
        return f"{loss} = {' + '.join(terms)}" if terms else loss

    def _score(self) -> str:
        means = self._scores[2] if self._scores is not None else {}
        if not means:
            return "not defined for any case"
        if len(means) > SHOWN_TARGETS:
            return f"{mean(list(means.values())):.3f}, mean of {len(means)} targets"
        return ", ".join(f"{target} {value:.3f}" for target, value in means.items())

    def _measures(self) -> list[str]:
        values = self._recent[-1].values if self._recent else {}
        return [f"{title} {values[name]:.3g}" for name, title in MEASURES.items() if name in values]

    def _pace(self) -> list[str]:
        seconds = sum(s.seconds for s in self._recent)
        if not seconds:
            return []
        images = sum(s.samples for s in self._recent) / seconds
        return [
            f"{images:,.{0 if images >= 100 else 1}f} images/s",
            f"data wait {sum(s.waited for s in self._recent) / seconds:.0%}",
        ]


class TrainingView:
    """What the training loop tells of itself. Shows nothing; the base of those that do."""

    def __init__(self, figures: Figures, clock: Callable[[], float] = time.monotonic) -> None:
        self._figures = figures
        self._clock = clock
        self._next = -math.inf

    def step(self, number: int, values: Mapping[str, float], *, samples: int, seconds: float, waited: float) -> None:
        """Optimizer step ``number`` (from 1) was taken.

        Args:
            number: of the step.
            values: ``loss`` and its terms, and any of :data:`MEASURES`.
            samples: images in it, of all processes.
            seconds: it took.
            waited: seconds of these that were spent waiting for data.
        """
        self._figures.step(number, Step(values, samples, seconds, waited))
        self.refresh()

    def scored(self, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Cases were scored after that many steps; ``rows`` as trackers get them."""
        self._figures.scored(number, rows)
        self.refresh()

    def refresh(self) -> None:
        """Draw, if it is time."""


class PlainView(TrainingView):
    """Says a line every half minute: for logs and pipes."""

    def __init__(
        self, figures: Figures, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(figures, clock)
        self._say = say
        self._next = clock() + SECONDS_BETWEEN_LINES

    def step(self, number: int, values: Mapping[str, float], *, samples: int, seconds: float, waited: float) -> None:
        """As above; the last step is said in any case."""
        super().step(number, values, samples=samples, seconds=seconds, waited=waited)
        if number == self._figures.total:
            self._say("training: done")

    def refresh(self) -> None:
        """Say a line, if the last is long ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + SECONDS_BETWEEN_LINES
            self._say(self._figures.line())


class TableView(TrainingView):
    """A table that is drawn anew up to four times a second, with the bars of what else goes on below it.

    Attributes:
        bars: drawn below; to be refreshed with :meth:`refresh`.
    """

    def __init__(self, figures: Figures, live: Live, bars: Bars, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(figures, clock)
        self._live = live
        self.bars = bars
        self._training = bars.add_task("training", total=figures.total)

    def step(self, number: int, values: Mapping[str, float], *, samples: int, seconds: float, waited: float) -> None:
        """As above, and the bar goes on."""
        self.bars.update(self._training, completed=number)
        super().step(number, values, samples=samples, seconds=seconds, waited=waited)

    def refresh(self, *, now: bool = False) -> None:
        """Draw, if it is time or must be."""
        started = self._clock()
        if not now and started < self._next:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in self._figures.rows():
            table.add_row(cell(name), cell(text))
        self._live.update(Group(table, self.bars.get_renderable()), refresh=True)
        ended = self._clock()
        self._next = ended + max(SECONDS_BETWEEN_DRAWINGS, (ended - started) / SHARE_OF_TIME)


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} d {clock}" if days else clock


def _memory() -> str:
    parts = []
    held = _held_now_mb()
    if held is not None:
        parts.append(f"{held / 1024:.1f} GB")
    peak = peak_memory_mb()
    if peak is not None:
        parts.append(f"{peak / 1024:.1f} GB at most")
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        parts.append(f"GPU {torch.cuda.max_memory_allocated() / 2**30:.1f} GB at most")
    return ", ".join(parts) or "unknown"


def _held_now_mb() -> float | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123 - a few times a second
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return None
