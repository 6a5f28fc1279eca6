"""The report of a run: one page, grouped by where the prompts came from, that says what may be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from typing import Any

from oncoseg_benchmarks.report.floors import beaten_by_floors
from oncoseg_benchmarks.report.overlays import draw_rows, extreme_rows
from oncoseg_benchmarks.report.page import as_json, document, figure, folded, note, text
from oncoseg_benchmarks.report.plots import bland_altman, box_plot
from oncoseg_benchmarks.report.tables import (
    comparison_table,
    failure_table,
    published_table,
    ranking_table,
    score_table,
    skip_table,
    strata_tables,
    timing_table,
    title_of,
)
from oncoseg_benchmarks.run.run import Bench
from oncoseg_benchmarks.run.run_folder import REPORT_FILE
from oncoseg_benchmarks.run.weights import knows_nothing
from oncoseg_benchmarks.statistics.groups import MARKS, Section, marks, of_section, sections, strata, subjects
from oncoseg_benchmarks.table.rows import BOUNDS, Row
from oncoseg_core.system import atomic_write

MAY_COMPARE = (
    "What may be compared: rows of one table. Tables differ in where the prompts come from (nothing, a word, a box or "
    "clicks made from the reference) or in the level (a prompt on every labelled slice, or none to one for a whole "
    "volume): a Dice of 0.90 for prompted slices and one of 0.70 for a volume found without help are different "
    "quantities, and no average is taken over both."
)
MOST_BOXES = 12
"""Targets in a box plot that can still be read."""

CAUTION = (
    "Research software: no clinical clearance. Prompts made from the reference say where the object is; such scores do "
    "not measure finding it. What the base weights were trained on is not known here: public scans may be among it."
)


def write_report(bench: Bench, summary: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> None:
    """Write ``report.html``.

    Raises:
        StorageError: it cannot be written.
    """
    rows = [row for unit in units for row in unit["rows"]]
    page = document(f"OncoSeg benchmark {summary['name']}", _parts(bench, summary, units, rows))
    atomic_write(bench.folder.path / REPORT_FILE, page)


def _parts(
    bench: Bench, summary: Mapping[str, Any], units: Sequence[Mapping[str, Any]], rows: Sequence[Row]
) -> Iterator[str]:
    metric = bench.settings.statistics.metric
    yield f"<p>{text(what_was_done(summary))}</p>"
    yield note(MAY_COMPARE)
    yield note(CAUTION)
    for warning in (*warnings(summary), *beaten_by_floors(summary)):
        yield note(warning, "warning")
    marked = marks(rows)
    for section in sections(rows):
        yield f"<h2>Prompts: {text(section.title)}</h2>"
        for leak in (None, *MARKS):
            own = [row for row in of_section(rows, section) if marked[row["dataset"], row["case"]] == leak]
            groups = [group for group in _groups(summary, section) if group["leak"] == leak]
            yield from _section(bench, summary, own, groups, metric, MARKS.get(leak or ""))
    yield published_table(summary)
    if summary["comparisons"]:
        yield f"<h2>Are the models different? ({text(metric)})</h2>" + comparison_table(summary)
    if summary["ranking"]:
        yield f"<h2>How stable is the ranking?</h2>{ranking_table(summary)}"
    yield from _pictures(bench, rows, metric)
    yield f"<h2>Failures</h2>{failure_table(summary)}" if summary["failures"] else ""
    yield f"<h2>Not scored</h2>{skip_table(summary)}" if summary["skipped"] else ""
    yield f"<h2>Time and memory</h2>{timing_table(units)}"
    kept = ("cases_sha256", "splits", "models", "weights", "engines", "licences", "datasets", "commit", "versions")
    yield folded("What it was made with", as_json({key: summary[key] for key in kept if key in summary}))
    yield folded("Configuration", as_json(summary["config"]))


def what_was_done(summary: Mapping[str, Any]) -> str:
    """One sentence: models, cases, datasets and sides."""
    datasets = ", ".join(
        f"{each['name']} ({each['n_cases']} case{'s' * (each['n_cases'] != 1)}, {_which(each, summary['splits'])})"
        for each in summary["datasets"]
        if each["n_cases"]
    )
    return (
        f"{', '.join(summary['models'])} on {datasets}: {summary['n_rows']:,} scores of {summary['n_cases']:,} cases. "
        "What is averaged are scores of one target of one case; the spread is that between them, the interval is for "
        "the mean, by bootstrap over patients; of few patients, or of nearly equal scores, none is given. Undefined "
        "scores are in no mean."
    )


def _which(dataset: Mapping[str, Any], splits: Mapping[str, str]) -> str:
    """Of a dataset, the side that was scored; without one nothing is held out."""
    if dataset["side"] == "all":
        return "all labelled, without a split"
    return f"side {dataset['side']} of its {dataset['split']} split {splits[dataset['name']][:12]}"


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What a reader must know before a number is read."""
    told = [*_on_models(summary), *_on_datasets(summary)]
    if len(summary["environments"]) > 1:
        told.append(f"Scored with {len(summary['environments'])} sets of versions or machines: see summary.json.")
    for model, engines in summary["engines"].items():
        if len(engines) > 1:
            told.append(f"Model {model} was computed by {len(engines)} engines: {' | '.join(engines)}.")
    if summary["failures"]:
        told.append(f"{len(summary['failures'])} scorings failed and are in no table; they are listed below.")
    return told


def _on_models(summary: Mapping[str, Any]) -> Iterator[str]:
    for model, weights in summary["weights"].items():
        if knows_nothing(weights):
            yield f"Model {model} has random weights: its scores mean nothing."
    for model, leaks in summary["leaks"].items():
        certain = [leak for leak in leaks if leak["certain"]]
        if certain:
            yield f"{model} was trained on what is scored here: {_named(certain)}. Such scores are no test."
        suspected = [leak for leak in leaks if not leak["certain"]]
        if suspected:
            yield f"{model} may have been trained on what is scored here: {_named(suspected)}."
    for model in summary["adapters_that_do_not_tell"]:
        yield f"{model} does not tell what it was trained on: nobody can say whether its scores are a test."


def _on_datasets(summary: Mapping[str, Any]) -> Iterator[str]:
    used = sorted({each["side"] for each in summary["datasets"] if each["n_cases"]})
    if len(used) > 1:
        yield f"The datasets were scored on different sides ({', '.join(used)}): the rows over all of them mix these."
    for each in summary["datasets"]:
        if each.get("n_left_out"):
            yield f"{each['n_left_out']} cases of {each['name']} were left out on request: see Not scored."
        if each.get("flags"):
            yield f"{each['name']} was read with {', '.join(each['flags'])}."


def _named(leaks: Sequence[Mapping[str, Any]]) -> str:
    first = "; ".join(f"{leak['scored']} ({leak['how']})" for leak in leaks[:5])
    return first + (f"; and {len(leaks) - 5} more" if len(leaks) > 5 else "")


def _groups(summary: Mapping[str, Any], section: Section) -> list[Mapping[str, Any]]:
    return [g for g in summary["groups"] if (g["prompt"], g["level"]) == (section.prompt, section.level)]


def _section(
    bench: Bench,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    groups: Sequence[Mapping[str, Any]],
    metric: str,
    title: str | None,
) -> Iterator[str]:
    """Of cases that are all as much of a test as each other: tables, plots, and what was found that is in no image."""
    yield f"<h3>{text(title[0].upper() + title[1:])}</h3>" if title and groups else ""
    present = [group for group in groups if not group["absent"]]
    if present:
        yield score_table([group for group in present if group["by"] == "all"], list(bench.metrics), summary)
        yield from _plots(rows, title_of(metric, summary), metric)
        divided = strata_tables(present, list(bench.metrics), summary)
        yield folded("By dataset, target, category, size and modality", divided)
    absent = [group for group in groups if group["absent"] and group["by"] == "target"]
    if absent:
        yield "<h3>Concepts that are in no image</h3>" + score_table(absent, [], summary)


def _plots(rows: Sequence[Row], title: str, metric: str) -> Iterator[str]:
    models = [model for model in subjects(rows) if model != "floor:nothing"]
    by_target: dict[str, dict[str, list[float]]] = {target: defaultdict(list) for target in strata(rows, "target")}
    for row in rows:
        if row[metric] is not None:
            by_target[row["target"]][row["model"]].append(row[metric])
    if len(by_target) > MOST_BOXES:
        yield note(f"No box plot of {len(by_target)} targets; the tables below have them.")
    else:
        picture = box_plot(by_target, title, models)
        yield figure(
            f"{metric} by target", picture, f"{metric} of each target: a point per case, and boxes of three or more."
        )
    volumes = _volumes(rows)
    if volumes:
        words = (
            "Volumes of each case's target, predicted minus reference: the mean (line, and above each panel) and the "
            "limits of agreement, 1.96 standard deviations around it (dashed, and in brackets)."
        )
        yield figure("Bland-Altman plot of volumes", bland_altman(volumes), words)


def _volumes(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """``(predicted, reference)`` in mL of each model's rows, where the image tells millimetres."""
    found: dict[str, list[tuple[float, float]]] = {
        model: [] for model in subjects(rows) if not model.startswith(BOUNDS)
    }
    for row in rows:
        if row["voxel_mm3"] is not None and row["model"] in found:
            ml = row["voxel_mm3"] / 1000
            found[row["model"]].append((row["predicted_voxels"] * ml, row["reference_voxels"] * ml))
    return {model: pairs for model, pairs in found.items() if pairs}


def _pictures(bench: Bench, rows: Sequence[Row], metric: str) -> Iterator[str]:
    better = bench.metrics[metric][0].better
    chosen, titles = [], []
    for section, model in product(sections(rows), subjects(rows)):
        own = [row for row in of_section(rows, section) if row["model"] == model and not model.startswith(BOUNDS)]
        extremes = extreme_rows(own, metric, better, bench.settings.pictures)
        chosen += extremes
        titles += [f"Worst and best of {model}: {section.title}"] * len(extremes)
    drawn = draw_rows(bench, chosen, metric)
    for title, numbers in groupby(sorted(drawn), key=titles.__getitem__):
        yield f"<h2>{text(title)}</h2>" + "".join(figure(*drawn[number]) for number in numbers)
