"""Box plots of the scores and Bland-Altman plots of the volumes: PNG bytes, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oncoseg_core.imaging import new_figure, png_bytes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart with any kind of colour blindness."""

GREYS = ("#5b626a", "#9aa1a9", "#c5cad0")
MARKERS = {"floor": "s", "ceiling": "^"}

PANELS_ACROSS = 3


def box_plot(scores: Mapping[str, Mapping[str, Sequence[float]]], metric: str, models: Sequence[str]) -> bytes:
    """Scores of each target, one box per model, each case as a point beside.

    Args:
        scores: by target and model.
        metric: with its unit, for the axis.
        models: in their order; floors and ceilings are grey.
    """
    targets = list(scores)
    width = 0.8 / len(models)
    figure = new_figure(min(16.0, max(7.0, 2.2 + 0.3 * len(targets) * len(models))), 4.6)
    axes = figure.subplots()
    for number, model in enumerate(models):
        colour = _colour(model, number)
        label: str | None = model
        for place, target in enumerate(targets):
            values = np.array(scores[target].get(model, ()), dtype=float)
            if not values.size:
                continue
            at = place + (number - (len(models) - 1) / 2) * width
            if values.size > 2:
                drawn = axes.boxplot([values], positions=[at], widths=width * 0.8, showfliers=False, manage_ticks=False)
                for line in (*drawn["boxes"], *drawn["whiskers"], *drawn["caps"], *drawn["medians"]):
                    line.set_color(colour)
            spread = np.linspace(-0.25, 0.25, values.size) * width if values.size > 1 else np.zeros(1)
            marker = MARKERS.get(model.partition(":")[0], "o")
            axes.plot(at + spread, np.sort(values), marker, ms=4, alpha=0.8, color=colour, label=label)
            label = None
    axes.set_xticks(range(len(targets)), targets, rotation=20 if len(targets) > 3 else 0)
    axes.set_ylabel(metric)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return png_bytes(figure)


def bland_altman(volumes: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Difference against mean of predicted and reference volume in mL, one panel per model, on one pair of axes.

    The lines are the mean difference and 1.96 standard deviations around it (Bland and Altman, Lancet 1986).
    """
    across = min(len(volumes), PANELS_ACROSS)
    down = -(-len(volumes) // across)
    figure = new_figure(4.6 * across, 4.2 * down)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(volumes) :]:
        axes.set_axis_off()
    for number, (axes, (model, pairs)) in enumerate(zip(panels.flat, volumes.items(), strict=False)):
        predicted, reference = np.array(pairs, dtype=float).T
        middle, difference = (predicted + reference) / 2, predicted - reference
        found = f"{difference.mean():+.3g}"
        axes.plot(middle, difference, "o", ms=5, alpha=0.7, color=_colour(model, number))
        axes.axhline(0, color="#c5cad0", lw=0.8)
        axes.axhline(difference.mean(), color="#1b1f24", lw=1.2)
        if difference.size > 1:
            limits = [difference.mean() + sign * 1.96 * difference.std(ddof=1) for sign in (-1, 1)]
            found += " ({:+.3g} to {:+.3g})".format(*limits)
            for limit in limits:
                axes.axhline(limit, color="#1b1f24", lw=1, ls="--")
        axes.set_xscale("log" if middle.min() > 0 and middle.max() > 20 * middle.min() else "linear")
        axes.set_title(f"{model} (n = {difference.size})\n{found} mL", fontsize=11)
        axes.set_xlabel("mean of both volumes, mL")
        axes.tick_params(labelbottom=True)  # also where the panel below is none
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel("predicted - reference, mL")
    return png_bytes(figure)


def _colour(model: str, number: int) -> Any:
    return GREYS[number % len(GREYS)] if ":" in model else COLOURS[number % len(COLOURS)]
