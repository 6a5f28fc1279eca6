"""The forgetting matrix for people: a heat map with its numbers, as PNG, and as a page of its own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from string import Template

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from oncoseg_core.imaging import new_figure, png_bytes, texts_as_written
from oncoseg_trainer.chain.forgetting import ForgettingMatrix

COLOURS = mpl.colormaps["Blues"]
"""One hue, light to dark, in which order is seen with any colour vision and in print."""

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Forgetting: $name</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c2733; }
h1 { font-size: 1.4rem; } figure { margin: 1rem 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; } p { max-width: 50rem; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #d5dde5; }
th:first-child, td:first-child { text-align: left; }
</style></head><body>
<h1>Forgetting: $name</h1>
$cautions<p>Dice on small frozen validation sets after each task of the chain: the mean over a dataset's cases,
of each over its targets. The model was prompted on every labelled slice, from the reference: the score says how well
an object is outlined that somebody points at. Framed: after the task that first trained on the dataset.</p>
<figure>$picture</figure>
<table><thead><tr><th>after task</th><th>average</th><th>backward transfer</th><th>forgetting</th>
<th>gain over the untouched model</th></tr></thead><tbody>$rows</tbody></table>
<p>Average: over the datasets trained on so far. Backward transfer: the mean change of the earlier ones since their own
task; below 0 is forgetting (Lopez-Paz and Ranzato, 2017). Forgetting: the mean loss of the earlier ones against the
best score they ever had (Chaudhry et al., 2018).</p>
<ul>$notes</ul>
</body></html>
""")


def draw_png(matrix: ForgettingMatrix, name: str, cautions: Sequence[str] = ()) -> bytes:
    """The heat map as a picture, with the first words of each caution."""
    return png_bytes(_figure(matrix, ": ".join([name, *(caution.partition(":")[0] for caution in cautions)])))


def draw_html(matrix: ForgettingMatrix, name: str, not_scored: Sequence[str], cautions: Sequence[str] = ()) -> str:
    """The heat map and its figures as a page that loads nothing from elsewhere.

    Args:
        matrix: the scores.
        name: the chain's.
        not_scored: datasets that have no column, since their held-out cases have no masks.
        cautions: what a reader must know before a number is read.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "oncoseg"}):  # text as text, the same each time
        texts_as_written(_figure(matrix, "")).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    picture = buffer.getvalue()
    rows = "".join(
        f"<tr><td>{escape(row.task)}</td>"
        + "".join(
            f"<td>{_number(value, signed=signed)}</td>"
            for value, signed in (
                (matrix.average(number), False),
                (matrix.backward_transfer(number), True),
                (matrix.forgetting(number), True),
                (matrix.gain(number), True),
            )
        )
        + "</tr>"
        for number, row in enumerate(matrix.rows, start=1)
    )
    notes = [f"{column.name}: {note}" for column in matrix.columns for note in column.notes]
    notes += [f"{column}: not scored, its held-out cases have no masks" for column in not_scored]
    return _PAGE.substitute(
        name=escape(name),
        cautions="".join(f"<p><strong>{escape(caution)}</strong></p>\n" for caution in cautions),
        picture=picture[picture.index("<svg") :],
        rows=rows,
        notes="".join(f"<li>{escape(note)}</li>" for note in notes),
    )


def _figure(matrix: ForgettingMatrix, title: str) -> Figure:
    columns, names = matrix.columns, ["untouched model", *(row.task for row in matrix.rows)]
    figure: Figure = new_figure(3.4 + 0.62 * max(len(columns), 3), 2.1 + 0.42 * len(names), dpi=110)
    axes = figure.subplots()
    for across, column in enumerate(columns):
        scores: list[float | None] = [matrix.untouched[column.name]]
        scores += [
            row.scores[column.name] if number >= column.row else None for number, row in enumerate(matrix.rows, 1)
        ]
        for down, score in enumerate(scores):
            face = "#f2f4f6" if score is None else COLOURS(0.08 + 0.87 * score)
            axes.add_patch(Rectangle((across, down), 1, 1, facecolor=face, edgecolor="white", linewidth=1))
            if score is not None:
                ink = "white" if score > 0.55 else "#1c2733"
                axes.text(across + 0.5, down + 0.5, f"{score:.2f}", ha="center", va="center", color=ink, fontsize=9)
        if column.row < len(names):
            place = (across + 0.04, column.row + 0.04)
            axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor="#d1495b", linewidth=1.8))
    axes.set(xlim=(0, max(len(columns), 1)), ylim=(len(names), 0), ylabel="after task")
    axes.set_xticks(
        [across + 0.5 for across in range(len(columns))],
        [f"{column.name}{' *' if column.notes else ''} ({column.n_cases})" for column in columns],
        rotation=35,
        ha="left",
        rotation_mode="anchor",
        fontsize=9,
    )
    axes.set_yticks([down + 0.5 for down in range(len(names))], names, fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    said = ["Dice on (n) frozen validation cases", "framed: after the dataset's own task"]
    said += ["*: leakage, no test or suspected"] if any(column.notes for column in columns) else []
    axes.set_xlabel(("\n" if len(columns) < 10 else "; ").join(said), fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _number(value: float | None, *, signed: bool) -> str:
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"
