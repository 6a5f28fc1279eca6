"""Draws ``benchmark-results.md`` from ``benchmarks/results``, so that no number is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oncoseg_benchmarks.config.prompt_settings import PER_LESION
from oncoseg_benchmarks.statistics.groups import MARKS

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
METRICS = ("dice", "nsd", "hd95")
RECORDS = ("bench_samples", "bench_samples_adapted")

TITLES = "| model | n | Dice | NSD | HD95, mm | missed | pooled Dice |\n|---|---|---|---|---|---|---|"
SOME_SLICES = (
    "Of `brain2` and `breast1` only three slices of a larger lesion are annotated: what a model follows beyond them "
    "counts as wrong here, right or not."
)

HEAD = """# Recorded benchmarks

Drawn by `docs/benchmark_results.py` from the files in `benchmarks/results`. [Benchmarks](benchmarks.md) says how to
read the tables.
"""


def page() -> str:
    """The whole page."""
    records = [json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in RECORDS]
    parts = [HEAD, *(part for record in records for part in _parts(record)), *_with_and_without(*records)]
    return "\n".join(parts).rstrip() + "\n"


def _with_and_without(untouched: dict[str, Any], adapted: dict[str, Any]) -> list[str]:
    """Whether the adapter helps, on the cases that it has not seen and may not have seen."""
    dice = [
        {
            (row["dataset"], row["case"], row["target"]): row["dice"]
            for row in record["found"]["rows"]
            if (row["prompt"].removesuffix(PER_LESION), row["level"]) == ("gt-box+2px", "slice")
            and ":" not in row["model"]
            and not row["leak"]
        }
        for record in (untouched, adapted)
    ]
    shared = sorted(dice[0].keys() & dice[1].keys())
    means = [sum(scores[place] for place in shared) / len(shared) for scores in dice]
    lines = ["## Does the quickstart's adapter help where it has seen nothing?\n"]
    lines.append("Prompts: gt-box+2px, slice level; the two runs above. Dice of each target:\n")
    lines.append("| dataset | case | target | untouched | adapted | difference |\n|---|---|---|---|---|---|")
    for place in shared:
        before, after = (scores[place] for scores in dice)
        lines.append(f"| {' | '.join(place)} | {before:.3f} | {after:.3f} | {after - before:+.3f} |")
    better = sum(dice[1][place] > dice[0][place] for place in shared)
    lines.append(
        f"\nMean of {len(shared)}: {means[0]:.3f} and {means[1]:.3f}, {means[1] - means[0]:+.3f}; {better} of "
        f"{len(shared)} are better. So few patients prove nothing; they show what to expect of a quickstart."
    )
    return lines


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
        if level == "volume":
            parts.append(f"{SOME_SLICES}\n")
        own = [group for group in found["groups"] if (group["prompt"], group["level"]) == (prompt, level)]
        for leak in (None, *MARKS):
            alike = [group for group in own if group["leak"] == leak]
            if alike and leak:
                parts.append(f"\nThe same of {MARKS[leak]}:\n")
            if alike:
                parts += [TITLES, *map(_group, alike)]
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
    marked = " †" if group["leak"] and ":" not in group["model"] else ""
    cells = [group["model"] + marked, f"{group['n_rows']} ({patients} patient{'s' * (patients != 1)})"]
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
