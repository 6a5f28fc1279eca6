"""The tables of the report, as HTML."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oncoseg_benchmarks.report.page import table, text
from oncoseg_benchmarks.statistics.groups import STRATA
from oncoseg_benchmarks.table.rows import BOUNDS

MOST_LISTED = 200
"""Failures and skips that a page lists; the summary has all."""


def title_of(metric: str, summary: Mapping[str, Any]) -> str:
    """A metric with its unit and its settings: an NSD without its tolerance says nothing."""
    unit = summary["metric_records"][metric]["unit"]
    values = summary["config"]["metrics"][metric]
    told = [] if unit == "1" else [unit]
    for key, value in values.items():
        words, in_mm, _ = key.partition("_mm")
        told.append(f"{words.replace('_', ' ')} {value}" + " mm" * bool(in_mm))
    return f"{metric} ({', '.join(told)})" if told else metric


def score_table(groups: Sequence[Mapping[str, Any]], metrics: Sequence[str], summary: Mapping[str, Any]) -> str:
    """Subjects by metrics: mean ± standard deviation, interval, median and quartiles, and how many are undefined."""
    clicks = any(group["noc_90"] is not None for group in groups)
    errors = any(group["false_positive_slices"] is not None for group in groups)
    titles = (title_of(metric, summary) for metric in metrics)
    head = ["model", "n", *(["missed", *titles, "pooled Dice", "pooled IoU"] if metrics else ["concept"])]
    head += (["NoC@90"] if clicks else []) + (["found on empty slices"] if errors else [])
    return table(head, [(_cells(group, metrics, clicks=clicks, errors=errors), _is_bound(group)) for group in groups])


def _cells(group: Mapping[str, Any], metrics: Sequence[str], *, clicks: bool, errors: bool) -> list[str]:
    patients = group["n_patients"]
    number = f"{group['n_rows']}<br><small>{patients} patient{'s' * (patients != 1)}</small>"
    cells = [_marked(group), number]
    if metrics:
        cells += [str(group["n_missed"]), *(score_cell(group["metrics"][metric]) for metric in metrics)]
        cells += [_number(group["pooled"]["dice"]), _number(group["pooled"]["iou"])]
    else:
        cells.append(text(group["value"]))
    if clicks:
        cells.append(_number(group["noc_90"], 1))
    if errors:
        found = group["false_positive_slices"]
        cells.append(
            "–" if found is None else f"{found['found']} of {found['asked']} ({found['found'] / found['asked']:.0%})"
        )
    return cells


def _marked(group: Mapping[str, Any]) -> str:
    return text(group["model"]) + (" †" if group["n_leaks"] else "")


def score_cell(found: Mapping[str, Any]) -> str:
    """Mean ± standard deviation; below, small: interval, median and quartiles, undefined."""
    if found["mean"] is None:
        return "–" + (f"<br><small>{found['undefined']} undefined</small>" if found["undefined"] else "")
    lines = [_number(found["mean"]) + ("" if found["std"] is None else f" ± {_number(found['std'])}")]
    if found["low"] is not None:
        lines.append(f"<small>CI {_number(found['low'])} to {_number(found['high'])}</small>")
    if found["n"] > 1:
        quartiles = f"{_number(found['q1'])}-{_number(found['q3'])}"
        lines.append(f"<small>median {_number(found['median'])} (IQR {quartiles})</small>")
    if found["undefined"]:
        lines.append(f"<small>{found['undefined']} undefined</small>")
    return "<br>".join(lines)


def strata_tables(groups: Sequence[Mapping[str, Any]], metrics: Sequence[str], summary: Mapping[str, Any]) -> str:
    """One table for each way to divide the cases; a way that divides nothing is left out."""
    parts = []
    for column in STRATA:
        own = [group for group in groups if group["by"] == column]
        if len({group["value"] for group in own}) < 2:
            continue
        ordered = sorted(own, key=lambda group: (group["value"], _is_bound(group), group["model"]))
        head = [column, "model", "n", *(title_of(metric, summary) for metric in metrics)]
        rows = [
            (
                [
                    text(group["value"]),
                    _marked(group),
                    str(group["n_rows"]),
                    *(score_cell(group["metrics"][metric]) for metric in metrics),
                ],
                _is_bound(group),
            )
            for group in ordered
        ]
        parts.append(f"<h4>By {text(column)}</h4>" + table(head, rows, text_columns=2))
    return "".join(parts)


def comparison_table(summary: Mapping[str, Any]) -> str:
    """Pairs of models: patients, means, the median difference, the effect, and both p values."""
    head = [
        "dataset",
        "prompt",
        "level",
        "A",
        "B",
        "patients",
        "mean A",
        "mean B",
        "median B - A",
        "effect",
        "p",
        "p (Holm)",
    ]
    rows = [
        (
            [
                *(text(each[key]) for key in ("dataset", "prompt", "level", "a", "b", "n_patients")),
                *(_number(mean) for mean in each["means"]),
                f"{each['difference']:+.3f}",
                "–" if each["effect_size"] is None else f"{each['effect_size']:+.2f}",
                *("–" if each[key] is None else f"{each[key]:.3g}" for key in ("p", "adjusted")),
            ],
            False,
        )
        for each in summary["comparisons"]
    ]
    settings = summary["config"]["statistics"]
    better = summary["metric_records"][settings["metric"]]["better"]
    words = (
        f"Paired {settings['test']} test, two-sided, by patients; effect: rank-biserial correlation, +1 where the "
        f"score of B is higher everywhere, and {better} is better. Holm's correction is for all rows of this table. "
        "Cases that a model was certainly trained on are left out."
    )
    return table(head, rows, text_columns=5) + f"<p><small>{text(words)}</small></p>"


def ranking_table(summary: Mapping[str, Any]) -> str:
    """How often each model takes each rank, when patients are drawn anew."""
    parts = []
    for each in summary["ranking"]:
        head = ["model", *(f"rank {number}" for number in range(1, len(each["models"]) + 1))]
        rows = [
            ([text(model), *(f"{share:.0%}" for share in shares)], False)
            for model, shares in zip(each["models"], each["shares"], strict=True)
        ]
        number = f"n = {each['n_rows']}, {each['n_patients']} patients"
        parts.append(f"<h4>{text(each['prompt'])}, {text(each['level'])} level, {number}</h4>{table(head, rows)}")
    words = "Shares of bootstrap draws of the patients, by the mean score: of a few patients they say little."
    return "".join(parts) + f"<p><small>{text(words)}</small></p>"


def published_table(summary: Mapping[str, Any]) -> str:
    """What others published on the datasets scored, and this run's models below it; empty where nothing is named."""
    rows = []
    for dataset in summary["datasets"]:
        if not (dataset["published"] and dataset["n_cases"]):
            continue
        told = dataset["published"]
        rows.append(
            (
                [
                    text(dataset["name"]),
                    text(told["source"]),
                    text(told["how"]),
                    "–",
                    _number(told["dice"]),
                    _number(told["iou"]),
                ],
                True,
            )
        )
        own = [group for group in summary["groups"] if (group["by"], group["value"]) == ("dataset", dataset["name"])]
        rows += [
            (
                [
                    text(dataset["name"]),
                    _marked(group),
                    text(f"{group['prompt']}, {group['level']} level"),
                    str(group["n_rows"]),
                    *(_number(group["metrics"].get(metric, {}).get("mean")) for metric in ("dice", "iou")),
                ],
                False,
            )
            for group in own
            if not (group["absent"] or _is_bound(group))
        ]
    if not rows:
        return ""
    words = (
        "Published elsewhere (grey), for orientation: with other cases, prompts or metrics than here, as far as the "
        "source tells. They enter no mean, test or ranking."
    )
    head = ["dataset", "whose", "how", "n", "mean Dice", "mean IoU"]
    return f"<h2>Published scores</h2>{table(head, rows, text_columns=3)}<p><small>{text(words)}</small></p>"


def failure_table(summary: Mapping[str, Any]) -> str:
    """What failed, and why."""
    keys = ("model", "dataset", "case", "target", "prompt", "level", "reason")
    return _listed(summary["failures"], keys)


def skip_table(summary: Mapping[str, Any]) -> str:
    """What was not asked for, and why: no failures."""
    return _listed(summary["skipped"], ("model", "dataset", "what", "reason"))


def _listed(entries: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    rows = [([text(entry[key]) for key in keys], False) for entry in entries[:MOST_LISTED]]
    more = f"<p>And {len(entries) - MOST_LISTED:,} more in summary.json.</p>" if len(entries) > MOST_LISTED else ""
    return table(keys, rows, text_columns=len(keys)) + more


def timing_table(units: Sequence[Mapping[str, Any]]) -> str:
    """By subject: the median first and next prompt of a case, the whole case, and memory."""
    by_model: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for unit in units:
        by_model[unit["model"]].append(unit)
    rows = []
    for model, own in by_model.items():
        first, following = ([u["latency"][key] for u in own if u["latency"].get(key)] for key in ("first", "next"))
        device = max((unit["peak_device_mb"] or 0 for unit in own), default=0)
        rows.append(
            (
                [
                    text(model),
                    str(len(own)),
                    *(f"{np.median(values):.3f}" if values else "–" for values in (first, following)),
                    f"{np.median([unit['seconds'] for unit in own]):.2f}",
                    text(max((unit["peak_memory_mb"] or 0 for unit in own), default=0) or None),
                    text(device or None),
                ],
                model.startswith(BOUNDS),
            )
        )
    head = ["model", "cases", "first prompt, s", "next prompt, s", "case, s", "peak memory, MB", "peak on device, MB"]
    words = (
        "Medians over cases; the first prompt on a slice includes its encoding. Peak memory is that of the whole "
        "process until then, with all that was loaded before."
    )
    return table(head, rows) + f"<p><small>{text(words)}</small></p>"


def _is_bound(group: Mapping[str, Any]) -> bool:
    return str(group["model"]).startswith(BOUNDS)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"
