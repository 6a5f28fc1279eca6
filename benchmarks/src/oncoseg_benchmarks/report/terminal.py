"""The table of a finished run on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from oncoseg_benchmarks.report.floors import beaten_by_floors
from oncoseg_benchmarks.run.compare import Comparison
from oncoseg_benchmarks.run.run_folder import REPORT_FILE, RESULTS_FILE
from oncoseg_benchmarks.run.weights import knows_nothing
from oncoseg_benchmarks.statistics.groups import MARKS
from oncoseg_benchmarks.table.rows import BOUNDS
from oncoseg_core.cli import cell, say

SHOWN_METRICS = 3
"""Columns of a narrow terminal; the report has all, and which there are is said below the tables."""

SHOWN_SKIPS = 5

COUNTED = "n: one for each target of each case; mean ± standard deviation over these."


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """One table per kind of prompt and level, then failures, and where the rest is."""
    console = Console(highlight=False)
    metrics = list(summary["metric_records"])[:SHOWN_METRICS]
    groups = [group for group in summary["groups"] if group["by"] == "all" and not group["absent"]]
    for key in dict.fromkeys((group["prompt"], group["level"], group["leak"]) for group in groups):
        prompt, level, leak = key
        table = Table(title=cell(f"{prompt}, {level} level" + (f": {MARKS[leak]}" if leak else "")))
        for title in ("model", "n", *(_title(metric, summary) for metric in metrics)):
            table.add_column(cell(title), no_wrap=True)
        for group in groups:
            if (group["prompt"], group["level"], group["leak"]) == key:
                scores = (_score(group["metrics"][metric]) for metric in metrics)
                table.add_row(*map(cell, (group["model"] + " †" * bool(group["n_leaks"]), group["n_rows"], *scores)))
        console.print(table)
    several = len({(group["prompt"], group["level"], group["leak"]) for group in groups}) > 1
    say(COUNTED + " Tables are not to be compared." * several)
    for line in _below_the_tables(summary):
        say(line)
    for failure in summary["failures"]:
        where = " ".join(str(failure[key]) for key in ("model", "dataset", "case", "target", "prompt") if failure[key])
        say(f"failed: {where}: {failure['reason']}")
    for line in _on_models(summary):
        say(line)
    say(f"Results: {folder}, to be read: {folder / REPORT_FILE}")


def _on_models(summary: Mapping[str, Any]) -> Iterator[str]:
    """Models whose scores mean nothing, and those that may not be used commercially."""
    for model, weights in summary["weights"].items():
        if knows_nothing(weights):
            yield f"MODEL {model} HAS RANDOM WEIGHTS: ITS SCORES MEAN NOTHING"
    for model, licence in summary.get("licences", {}).items():
        if licence and licence["notice"]:
            yield f"Model {model}: {licence['notice']}"


def _below_the_tables(summary: Mapping[str, Any]) -> Iterator[str]:
    """Which scores the tables leave out, which say nothing of the models, and what was not scored."""
    others = list(summary["metric_records"])[SHOWN_METRICS:]
    if others:
        yield f"Also scored: {', '.join(others)}. They are in {REPORT_FILE} and {RESULTS_FILE}."
    yield from beaten_by_floors(summary)
    yield from _not_scored(summary["skipped"])


def _not_scored(skipped: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each reason, with the first that it is told of: a hundred cases without a target are one line."""
    by_reason: dict[str, list[str]] = {}
    for skip in skipped:
        if not str(skip["model"]).startswith(BOUNDS):
            by_reason.setdefault(skip["reason"], []).append(
                " ".join(str(skip[key]) for key in ("model", "dataset", "what") if skip[key])
            )
    for reason, told in list(by_reason.items())[:SHOWN_SKIPS]:
        yield f"not scored: {told[0]}{f' and {len(told) - 1} more' if len(told) > 1 else ''}: {reason}"
    if len(by_reason) > SHOWN_SKIPS:
        yield f"not scored: more, for {len(by_reason) - SHOWN_SKIPS} other reasons, is listed in the report"


def print_comparisons(found: Sequence[Comparison], metric: str, notes: Sequence[str]) -> None:
    """One line per dataset, prompt and level."""
    for each in found:
        tested = "too few for a test"
        if each.p is not None:
            tested = f"p = {each.p:.3g} ({each.adjusted:.3g} by Holm), effect {each.effect_size:+.2f}"
        say(
            f"{each.dataset}, {each.prompt}, {each.level} level: {metric} {each.means[0]:.3f} ({each.a}) and "
            f"{each.means[1]:.3f} ({each.b}), median difference {each.difference:+.3f}, {each.n_patients} "
            f"patient{'s' * (each.n_patients != 1)}: "
            f"{tested}"
        )
    for note in notes:
        say(f"Note: {note}.")


def _title(metric: str, summary: Mapping[str, Any]) -> str:
    unit = summary["metric_records"][metric]["unit"]
    return metric if unit == "1" else f"{metric} ({unit})"


def _score(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    return f"{found['mean']:.3f}" + ("" if found["std"] is None else f" ± {found['std']:.3f}")
