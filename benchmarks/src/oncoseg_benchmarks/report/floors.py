"""Where a floor is as good as every model: a score that says nothing of the models there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oncoseg_benchmarks.table.rows import BOUNDS

FLOOR = BOUNDS[0]


def beaten_by_floors(summary: Mapping[str, Any]) -> Iterator[str]:
    """A line for each kind of prompt and level with the scores by which a floor is as good as the best model."""
    groups = [group for group in summary["groups"] if group["by"] == "all" and not group["absent"]]
    for key in dict.fromkeys((group["prompt"], group["level"], group["leak"]) for group in groups):
        own = [group for group in groups if (group["prompt"], group["level"], group["leak"]) == key]
        found: dict[str, list[str]] = {}
        for metric, record in summary["metric_records"].items():
            sign = 1 if record["better"] == "higher" else -1
            models = [sign * mean for mean in _means(own, metric, floors=False).values()]
            floors = {label: sign * mean for label, mean in _means(own, metric, floors=True).items()}
            best = max(floors, key=lambda label: floors[label], default=None)
            if best is not None and models and floors[best] >= max(models):
                found.setdefault(best, []).append(metric)
        for floor, metrics in found.items():
            prompt, level, _ = key
            yield (
                f"{floor} contains no model and is as good as the best one by {', '.join(metrics)} ({prompt}, {level} "
                "level): these scores say nothing of the models here."
            )


def _means(groups: list[Mapping[str, Any]], metric: str, *, floors: bool) -> dict[str, float]:
    """The defined means by label: of the floors, or of the models."""
    return {
        group["model"]: group["metrics"][metric]["mean"]
        for group in groups
        if group["metrics"][metric]["mean"] is not None
        and (group["model"].startswith(FLOOR) if floors else not group["model"].startswith(BOUNDS))
    }
