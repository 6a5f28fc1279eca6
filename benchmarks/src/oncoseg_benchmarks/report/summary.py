"""When all cases are done: the table, the summary, the report. Any process may do it; the result is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oncoseg_benchmarks.config.settings import BenchSettings
from oncoseg_benchmarks.report.report import write_report
from oncoseg_benchmarks.run.compare import pairs_within
from oncoseg_benchmarks.run.run import Bench
from oncoseg_benchmarks.run.run_folder import RESULTS_FILE, SUMMARY_FILE, TIMING_FILE
from oncoseg_benchmarks.statistics.groups import all_groups, of_section, sections, strata
from oncoseg_benchmarks.statistics.statistics import ranking_stability
from oncoseg_benchmarks.table.results import write_table, write_timing
from oncoseg_benchmarks.table.rows import BOUNDS, Row
from oncoseg_core.system import atomic_write, derived_seed, json_text
from oncoseg_lora import leak_rows


def finish(bench: Bench) -> dict[str, Any]:
    """Write ``results.csv``, ``timing.csv``, ``summary.json`` and ``report.html``; returns the summary.

    Raises:
        StorageError: one cannot be written.
    """
    units = [unit for unit in bench.units() if unit is not None]
    rows: list[Row] = [row for unit in units for row in unit["rows"]]
    metrics = list(bench.metrics)
    folder = bench.folder
    write_table(folder.path / RESULTS_FILE, rows, metrics)
    write_timing(folder.path / TIMING_FILE, units)
    summary = summarise_run(bench, units, rows)
    atomic_write(folder.path / SUMMARY_FILE, json_text(summary, indent=1) + "\n")
    write_report(bench, summary, units)
    return summary


def _engines(units: Sequence[Mapping[str, Any]], model: str) -> list[str]:
    """What computed a model's answers, each once: of several the numbers differ in the last digits."""
    return sorted({unit["engine"] for unit in units if unit["model"] == model and unit.get("engine")})


def summarise_run(bench: Bench, units: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> dict[str, Any]:
    """All that a reader needs to trust a number, and whoever wants to have it again."""
    settings = bench.settings
    models = [plan.label for plan, _ in bench.work() if not plan.is_reference]
    identity = bench.folder.identity()
    present = [row for row in rows if not row["absent"] and row["leak"] != "certain"]  # what is tested must be a test
    return {
        "name": settings.name,
        **identity,
        "environments": bench.folder.environments(),
        "weights": {label: bench.folder.weights(label) for label in models},
        "engines": {label: _engines(units, label) for label in models},
        "datasets": [
            {
                "name": choice.name,
                "side": choice.side,
                "split": None if choice.side == "all" else choice.chosen_split.how,
                "n_cases": sum(each.case.dataset == choice.name for each in bench.chosen.cases),
                "n_left_out": bench.chosen.left_out.get(choice.name, 0),
                "flags": bench.chosen.flags.get(choice.name, []),
                "published": None if choice.reference is None else choice.reference.model_dump(),
            }
            for choice in settings.datasets
        ],
        "metric_records": {
            name: {"unit": spec.unit, "better": spec.better, "summary": spec.summary}
            for name, (spec, _) in bench.metrics.items()
        },
        "n_cases": len(bench.chosen.cases),
        "n_rows": len(rows),
        "leaks": {label: leak_rows(leaks) for label, leaks in bench.leakage.leaks.items()},
        "adapters_that_do_not_tell": list(bench.leakage.unknown),
        "failures": [
            {"model": unit["model"], "dataset": unit["dataset"], "case": unit["case"], **failure}
            for unit in units
            for failure in unit["failures"]
        ],
        "skipped": [skip._asdict() for skip in bench.skips]
        + [
            {
                "model": unit["model"],
                "dataset": unit["dataset"],
                "what": f"{unit['case']} {skip['target']}".strip(),
                "reason": skip["reason"],
            }
            for unit in units
            for skip in unit["skipped"]
        ],
        "groups": list(all_groups(rows, list(bench.metrics), settings.statistics, settings.seed)),
        "comparisons": [
            each.values()
            for each in pairs_within(
                present, settings.statistics.metric, models, method=settings.statistics.test, seed=settings.seed
            )
        ],
        "ranking": _rankings(present, settings, bench.metrics[settings.statistics.metric][0].better),
    }


def _rankings(rows: Sequence[Row], settings: BenchSettings, better: str) -> list[dict[str, Any]]:
    """By section, how often each of more than two models takes each rank, over bootstrap draws of the patients."""
    found, metric = [], settings.statistics.metric
    for section in sections(rows):
        own = [row for row in of_section(rows, section) if not row["model"].startswith(BOUNDS)]
        models = strata(own, "model")
        if len(models) < 3:
            continue
        scores: dict[tuple[str, str, str], dict[str, float]] = {}
        patients = {}
        for row in own:
            place = (row["dataset"], row["case"], row["target"])
            patients[place] = row["patient"]
            if row[metric] is not None:
                scores.setdefault(place, {})[row["model"]] = row[metric]
        shared = sorted(place for place, by_model in scores.items() if len(by_model) == len(models))
        if not shared:
            continue
        matrix = np.array([[scores[place][model] for place in shared] for model in models])
        shares = ranking_stability(
            matrix if better == "higher" else -matrix,
            [patients[place] for place in shared],
            draws=settings.statistics.draws,
            seed=derived_seed(settings.seed, "ranking", section.prompt, section.level),
        )
        found.append(
            {
                "prompt": section.prompt,
                "level": section.level,
                "metric": metric,
                "n_rows": len(shared),
                "n_patients": len({patients[place] for place in shared}),
                "models": models,
                "shares": np.asarray(shares).tolist(),
            }
        )
    return found
