"""The curves of a run, as PNG bytes drawn with matplotlib; legible for eighteen steps and for a hundred thousand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from oncoseg_core.imaging import new_figure, png_bytes
from oncoseg_trainer.reporting.by_target import MEASURES, by_target, headline, loss_terms, mean, metric_title

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Told apart with any colour vision (Okabe and Ito, 2008); lines also differ in marker and style."""

EVENTS = {"score": "scored", "validation": "validation"}
"""Events that are one target of one case, and what these cases are called."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

MOST_POINTS = 300
"""Points of a line. More steps than these are put together, and drawn as their mean, smallest and largest."""

FARTHEST = 5
"""A loss so many times as high as nineteen in twenty is told in words: it would flatten all others."""

NAMED_TARGETS = 10
"""More targets in one panel are drawn without their names."""

Floats = npt.NDArray[np.float64]
ScoreRow = Mapping[str, Any]


class Line(NamedTuple):
    """Values over steps, ``together`` neighbours to a point: their middle, and smallest, mean and largest finite value.

    NaN where none is finite.
    """

    steps: Floats
    low: Floats
    mean: Floats
    high: Floats
    together: int


def thinned(steps: Floats, values: Floats) -> Line:
    """At most :data:`MOST_POINTS` points; values that are not finite count for nothing."""
    together = max(1, math.ceil(len(steps) / MOST_POINTS))
    parts = [slice(i, i + together) for i in range(0, len(steps), together)]
    finite = [values[part][np.isfinite(values[part])] for part in parts]
    low, mean, high = (
        np.array([f(part) if part.size else math.nan for part in finite]) for f in (np.min, np.mean, np.max)
    )
    return Line(np.array([steps[part].mean() for part in parts]), low, mean, high, together)


def draw_training(rows: Sequence[ScoreRow], resumed: Sequence[int] = ()) -> bytes | None:
    """The loss with its terms, and the other values of each step; None before the first step.

    Args:
        rows: of ``metrics.jsonl``. Of steps that are there twice, the later row counts.
        resumed: the steps after which the run was resumed.
    """
    train = sorted({row["step"]: row for row in rows if row["event"] == "train"}.values(), key=lambda row: row["step"])
    if not train:
        return None
    names = sorted({name for row in train for name in row})
    terms = list(loss_terms(dict.fromkeys(names, 0.0)))
    measures = [name for name in MEASURES if name in names]
    figure, panels = _panels(1 + len(measures))
    _draw_loss(panels[0], train, terms)
    for axes, name in zip(panels[1:], measures, strict=True):
        _draw_line(axes, train, name, COLOURS[0], "-", band=True)
        axes.set(title=MEASURES[name])
    for axes in panels:
        _finish(axes, _steps_per_epoch(train), resumed, "optimizer step")
    return png_bytes(figure)


def draw_scores(rows: Sequence[ScoreRow], resumed: Sequence[int] = ()) -> bytes | None:
    """The mean score of each target over the run; None where nothing was scored.

    Scored cases and those of validation have panels of their own, and so has each dataset.

    Args:
        rows: of ``metrics.jsonl``. Of cases that were scored twice at a step, the later row counts.
        resumed: the steps after which the run was resumed.
    """
    scored = {
        (row["event"], row.get("dataset", ""), row["step"], row["case"], row["target"]): row
        for row in rows
        if row["event"] in EVENTS
    }
    if not scored:
        return None
    metric = headline(list(scored.values()))
    groups: dict[tuple[str, str], list[ScoreRow]] = {}
    for (event, dataset, *_), row in sorted(scored.items(), key=lambda item: item[0]):
        groups.setdefault((event, dataset), []).append({k: v for k, v in row.items() if k != "dataset"})
    figure, panels = _panels(len(groups))
    per_epoch = _steps_per_epoch([row for row in rows if row["event"] == "train"])
    for axes, ((event, dataset), own) in zip(panels, groups.items(), strict=True):
        _draw_targets(axes, own, metric)
        axes.set(title=f"{metric_title(metric)} of the {EVENTS[event]} cases{' of ' * bool(dataset)}{dataset}")
        _finish(axes, per_epoch, resumed, "optimizer step (0: untouched model)")
    return png_bytes(figure)


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    """So many panels, two in a row."""
    columns = min(2, number)
    lines = math.ceil(number / columns)
    figure = new_figure(11, 4.2 * lines)
    figure.set_layout_engine("constrained", h_pad=0.1)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in panels[number:]:
        axes.set_axis_off()
    return figure, panels[:number]


def _draw_loss(axes: Axes, train: Sequence[ScoreRow], names: Sequence[str]) -> None:
    line = _draw_line(axes, train, "loss", "#000000", "-", band=True)
    for number, name in enumerate(names if len(names) > 1 else ()):
        _draw_line(axes, train, name, COLOURS[number % len(COLOURS)], ("--", "-.", ":")[number % 3], band=False)
    steps, values = _values(train, "loss")
    missing = steps[~np.isfinite(values)]
    if missing.size:
        axes.plot(
            missing,
            np.zeros_like(missing) + 0.02,
            "x",
            color="#c00000",
            transform=axes.get_xaxis_transform(),
            label=f"not finite ({missing.size} steps)",
        )
    means, highest = line.mean[np.isfinite(line.mean)], np.nanmax([*line.high, -math.inf])
    title = "training loss" if line.together == 1 else f"training loss: mean and range of {line.together} steps"
    if means.size and means.max() > 0:
        top = min(1.15 * means.max(), FARTHEST * np.percentile(means, 95))
        axes.set_ylim(min(0.0, float(means.min())), top)
        if highest > top:
            title += f"\n(highest {highest:.3g}, not shown)"
    axes.set(title=title)
    _legend(axes)


def _draw_line(axes: Axes, train: Sequence[ScoreRow], name: str, colour: str, style: str, *, band: bool) -> Line:
    line = thinned(*_values(train, name))
    axes.plot(line.steps, line.mean, color=colour, linestyle=style, linewidth=1.6, label=name)
    if band and line.together > 1:
        axes.fill_between(line.steps, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
    return line


def _draw_targets(axes: Axes, rows: Sequence[ScoreRow], metric: str) -> None:
    """A line per target; where there are many, faint ones and their mean."""
    steps = sorted({row["step"] for row in rows})
    at = {step: by_target([row for row in rows if row["step"] == step], metric) for step in steps}
    targets = sorted({target for scores in at.values() for target in scores})
    many = len(targets) > NAMED_TARGETS
    for number, target in enumerate(targets):
        cases = max(len(scores.get(target, ())) for scores in at.values())
        axes.plot(
            steps,
            [mean(at[step].get(target, [])) for step in steps],
            color="#9aa4ae" if many else COLOURS[number % len(COLOURS)],
            linewidth=0.8 if many else 1.8,
            linestyle=("-", "--", "-.", ":")[number // len(COLOURS) % 4],
            marker=None if many else MARKERS[number % len(MARKERS)],
            label=None if many else f"{target} ({cases} case{'s' * (cases != 1)})",
        )
    if many:
        means = [mean([mean(values) for values in at[step].values()]) for step in steps]
        axes.plot(steps, means, color="#000000", linewidth=2, marker="o", label=f"mean of {len(targets)} targets")
    if metric in {"dice", "iou"}:
        axes.set_ylim(0, 1)
    if targets:
        _legend(axes)


def _finish(axes: Axes, per_epoch: int | None, resumed: Sequence[int], label: str) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    for number, step in enumerate(resumed):
        axes.axvline(step, color="#6e7781", linestyle=":", linewidth=1.2, label="resumed" if number == 0 else None)
    if resumed and axes.get_legend() is not None:
        _legend(axes)
    if per_epoch:
        epochs = axes.secondary_xaxis(
            "top", functions=(lambda step: np.asarray(step) / per_epoch, lambda epoch: np.asarray(epoch) * per_epoch)
        )
        epochs.set_xlabel("epoch")
        epochs.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend(axes: Axes) -> None:
    """Below the panel, where it covers no curve."""
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize=9)


def _values(train: Sequence[ScoreRow], name: str) -> tuple[Floats, Floats]:
    steps = np.array([row["step"] for row in train], dtype=np.float64)
    return steps, np.array([row.get(name, math.nan) for row in train], dtype=np.float64)


def _steps_per_epoch(train: Sequence[ScoreRow]) -> int | None:
    """None as long as the first epoch is not known to be over."""
    if len({row["epoch"] for row in train}) < 2:
        return None
    return max(row["step"] for row in train if row["epoch"] == 0) if train[0]["epoch"] == 0 else None
