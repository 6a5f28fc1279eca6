"""What a run says on the terminal: tables and bars where there is one, plain lines where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from oncoseg_core import Progress
from oncoseg_core.cli import cell
from oncoseg_core.system import printable
from oncoseg_trainer.reporting.progress_table import Figures, PlainView, TableView, TrainingView
from oncoseg_trainer.reporting.summary import FLOORS, cautions, held_out_words, prompt_words

METRIC_WIDTH = len("0.123 → 0.123 +0.000") + 2
"""Columns of characters that a metric takes: a table that is too narrow would cut its numbers."""


class Terminal:
    """Speaks for the first process; the others keep silent."""

    def __init__(self, *, speaks: bool = True) -> None:
        self.console = Console(quiet=not speaks, highlight=False)
        # What can be drawn over; FORCE_COLOR makes rich take a file for one.
        self._draws = speaks and self.console.file.isatty() and not self.console.is_dumb_terminal
        self._done: set[str] = set()
        self._table: TableView | None = None

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(cell(line), soft_wrap=True)

    @contextmanager
    def training(self, total: int, per_epoch: int) -> Iterator[TrainingView]:
        """What the training loop tells its steps: a live table where it can be drawn, else a line now and then.

        There are ``total`` steps. Meanwhile :meth:`progress` draws below the table.
        """
        figures = Figures(total, per_epoch)
        if not self._draws:
            yield PlainView(figures, self.say)
            return
        with Live(console=self.console, auto_refresh=False) as live:
            self._table = TableView(figures, live, _bars(self.console))
            try:
                yield self._table
                self._table.refresh(now=True)
            finally:
                self._table = None

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """A ``progress(what, done, total)`` function that draws a bar for each ``what``, or a line when it is done."""
        if not self._draws:
            yield self._plain
            return
        tasks: dict[str, TaskID] = {}
        if self._table is not None:
            yield partial(_advance, self._table.bars, tasks, self._table.refresh)
            for task in tasks.values():  # the table goes on without them
                self._table.bars.remove_task(task)
            return
        with _bars(self.console) as bars:
            yield partial(_advance, bars, tasks, lambda: None)

    def _plain(self, what: str, done: int, total: int) -> None:
        if done == total and what not in self._done:
            self._done.add(what)
            self.say(f"{what}: done")

    def scores(self, summary: Mapping[str, Any]) -> None:
        """The closing table: every held-out case before and after, and how the scores were taken."""
        every = list(summary["zero_shot"]["mean"])
        metrics = every[: _that_fit(summary, self.console.width)]
        title = (
            f"{summary['model']['name']} on the {held_out_words(summary)}, before → after adaptation, and the change"
        )
        table = Table(title=cell(title), box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in ("case", "target"):
            table.add_column(cell(heading), no_wrap=True)
        for heading in ("slices", *metrics):
            table.add_column(cell(heading), justify="right", no_wrap=True)
        before, after = summary["zero_shot"], summary["adapted"]
        for one, other in zip(before["cases"], after["cases"], strict=True):
            changes = (_change(one[m], other[m]) for m in metrics)
            table.add_row(*map(cell, (one["case"], one["target"], one["n_slices"], *changes)))
        table.add_section()
        for name, slices in (("mean", str(summary["n_slices"])), ("std", "")):
            pairs = [(before["mean"][m][name], after["mean"][m][name]) for m in metrics]
            cases = f"{summary['split']['n_score_cases']} cases"
            table.add_row(*map(cell, (name, cases, slices, *(_change(*p) for p in pairs))))
        floors = summary.get("floors", {})
        if floors:
            table.add_section()
        for name, means in floors.items():
            values = (means[m]["mean"] for m in metrics)
            scores = ("–" if v is None else f"{v:.3f}" for v in values)
            table.add_row(*map(cell, (FLOORS[name], "no model", "", *scores)))
        self.console.print(table)
        if len(every) > len(metrics):
            self.say(f"Also scored: {', '.join(every[len(metrics) :])}. They are in report.html and summary.json.")
        for caution in cautions(summary):
            self.say(caution)
        leaked = any(leak["certain"] for leak in summary["leakage"]["found"])
        trained_on = "" if leaked else " (no case or patient id of it was trained on)"
        prompt = summary["prompt"]
        self.say(
            f"Split: {summary['split']['score_split']}{trained_on}, hash "
            f"{summary['split']['hash'][:12]}. Prompt: {prompt_words(prompt)}, made from the "
            f"reference ({', '.join(f'{k} {v}' for k, v in prompt['settings'].items())})."
        )


def _that_fit(summary: Mapping[str, Any], width: int) -> int:
    """How many metrics a terminal of that width has room for beside case, target and slices; one at least."""
    cases = summary["zero_shot"]["cases"]
    longest = sum(max((len(str(row[key])) for row in cases), default=0) for key in ("case", "target"))
    return max(1, (width - max(longest, len("box itself no model")) - len("slices") - 8) // METRIC_WIDTH)


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "–"
    return f"{before:.3f} → {after:.3f} {after - before:+.3f}"


def _bars(console: Console) -> Bars:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=console)


def _advance(
    bars: Bars, tasks: dict[str, TaskID], refresh: Callable[[], None], what: str, done: int, total: int
) -> None:
    if what not in tasks:
        tasks[what] = bars.add_task(printable(what), total=total)
    bars.update(tasks[what], completed=done, total=total)
    refresh()
