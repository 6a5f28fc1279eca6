"""Draws ``benchmark-results.md`` from ``benchmarks/results``, so that no number is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
METRICS = ("dice", "nsd", "hd95")
RECORDS = ("bench_samples", "bench_samples_adapted")

HEAD = """# Recorded benchmarks

Drawn by `docs/benchmark_results.py` from the files in `benchmarks/results`. [Benchmarks](benchmarks.md) says how to
read the tables.
"""


def page() -> str:
    """The whole page."""
    records = [json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in RECORDS]
    return "\n".join([HEAD, *(part for record in records for part in _parts(record))]).rstrip() + "\n"


def _parts(record: dict[str, Any]) -> list[str]:
    found, versions = record["found"], record["versions"]
    weights = ", ".join(f"{label} `{each['weights_sha256'][:12]}`" for label, each in found["weights"].items())
    machine = versions["machine"]
    torch = versions["libraries"]["torch"]
    made_with = (
        f"{record['date']}, {machine['cores']} cores of {machine['processor']}, torch {torch}; weights: {weights}."
    )
    cost = (
        f"It took {found['seconds']:,} s ({found['cpu_seconds']:,} s of processor time; load: {found['load']}) and "
        f"{found['peak_mb']:,} MB."
    )
    tolerance = found["config_metrics"]["nsd"]["tolerance_mm"]
    what = (
        "Mean ± standard deviation over the targets, 95 % interval of the mean by bootstrap over patients. "
        f"NSD at {tolerance} mm."
    )
    parts = [f"## {record['command']}\n", f"{made_with} {cost}\n", f"{what}\n"]
    for prompt, level in dict.fromkeys((group["prompt"], group["level"]) for group in found["groups"]):
        parts.append(f"### Prompts: {prompt}, {level} level\n")
        parts.append("| model | n | Dice | NSD | HD95, mm | missed | pooled Dice |\n|---|---|---|---|---|---|---|")
        parts += [_group(group) for group in found["groups"] if (group["prompt"], group["level"]) == (prompt, level)]
        parts.append("\nDice of each target:\n")
        parts.append("| dataset | case | target | slices asked | model | the box itself |\n|---|---|---|---|---|---|")
        parts += _targets([row for row in found["rows"] if (row["prompt"], row["level"]) == (prompt, level)])
        parts.append("")
    if any(row.get("leak") for row in found["rows"]):
        parts.append(
            "† the adapter was trained on this case, or on a dataset that is declared to share images with its own.\n"
        )
    return parts


def _group(group: dict[str, Any]) -> str:
    patients = group["metrics"]["dice"]["n_patients"]
    cells = [group["model"] + (" †" if group.get("leak") else ""), f"{group['n_rows']} ({patients} patients)"]
    cells += [_score(group["metrics"][metric]) for metric in METRICS]
    cells += [str(group["n_missed"]), f"{group['pooled']['dice']:.3f}"]
    return f"| {' | '.join(cells)} |"


def _score(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "undefined"
    interval = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"{found['mean']:.3f} ± {found['std']:.3f}{interval}"


def _targets(rows: list[dict[str, Any]]) -> list[str]:
    by_place: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_place.setdefault((row["dataset"], row["case"], row["target"]), {})[row["model"]] = row
    lines = []
    for place, own in sorted(by_place.items()):
        (model,) = [row for label, row in own.items() if ":" not in label]
        seen = "†" if model.get("leak") else ""
        cells = [*place, str(model["slices"]), f"{model['dice']:.3f}{seen}", f"{own['floor:box']['dice']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    (DOCS / "benchmark-results.md").write_text(page(), encoding="utf-8")
