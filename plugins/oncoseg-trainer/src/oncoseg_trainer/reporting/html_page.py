"""The page of a run, as HTML text that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from oncoseg_core.system import json_text
from oncoseg_trainer.data.scoring import summarise
from oncoseg_trainer.reporting.by_target import by_target, metric_title
from oncoseg_trainer.reporting.curves import draw_scores, draw_training
from oncoseg_trainer.reporting.summary import FLOORS, cautions, held_out_words, prompt_words

MOST_PICTURES = 24
"""Pictures that a page holds, of about 150 kB each."""

OPEN_ROWS = 30
"""A longer table is folded away."""

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.35rem .8rem;border-bottom:1px solid #d0d7de;text-align:right}
td{white-space:nowrap}th.text,td.text{text-align:left}img{max-width:100%;height:auto}.wide{overflow-x:auto}
figure{margin:1.5rem 0}figcaption{color:#57606a}pre{background:#f6f8fa;padding:1rem;overflow:auto;font-size:13px}
.note,.warnings{background:#fff8c5;padding:.6rem 1rem;border-radius:6px}.warnings li{margin-left:1rem}
"""


class ReportPicture(NamedTuple):
    """A picture as trackers get it."""

    name: str
    png: bytes
    caption: str


@dataclass
class ReportPage:
    """What a page shows besides the metrics and the summary.

    ``resumes`` are the ``step`` after which, and the time ``at`` which the run was resumed; ``n_pictures`` counts also
    those that are not kept.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    resumes: Sequence[Mapping[str, Any]] = ()
    pictures: list[ReportPicture] = field(default_factory=list)
    n_pictures: int = 0


def page(report: ReportPage, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> str:
    """The whole page.

    Args:
        report: configuration, pictures, and when the run was resumed.
        rows: the lines of ``metrics.jsonl``.
        summary: of the finished run; None while it is under way.
    """
    title = f"OncoSeg run {report.config.get('name', '')}".strip()
    parts = [f"<h1>{html.escape(title)}</h1>"]
    if summary is None:
        last = max((row["step"] for row in rows), default=0)
        parts.append(_note(f"This run is not finished. The page shows it up to step {last:,}."))
    else:
        parts.append(f"<p>{html.escape(_what_was_done(summary))}</p>")
    parts.append(
        _note(
            "Research software: no clinical clearance. Scores hold for prompts made from the reference on slices that "
            "contain the object; they are no measure of finding it."
        )
    )
    if summary is not None:
        parts.extend(_note(caution) for caution in cautions(summary))
    told = [row["message"] for row in rows if row["event"] == "warning"]
    parts.append(_warnings([*told, *(summary["warnings"] if summary is not None else ())]))
    if summary is not None:
        parts.append(f"<h2>Scores on the {html.escape(held_out_words(summary))}</h2>")
        parts.extend((_target_table(summary), _case_table(summary)))
    parts.append(_curves(report, rows))
    if report.pictures:
        parts.append("<h2>Pictures</h2>")
        if report.n_pictures > len(report.pictures):
            parts.append(f"<p>The first {len(report.pictures)} of {report.n_pictures:,}.</p>")
        parts.extend(_figure(*picture) for picture in report.pictures)
    parts.append(_how_it_went(report, summary))
    parts.append(f"<h2>Configuration</h2>{_json(report.config)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _what_was_done(summary: Mapping[str, Any]) -> str:
    split, prompt, training, sampling = (summary[key] for key in ("split", "prompt", "training", "sampling"))
    slices = "labelled slices"
    if sampling["mode"] == "foreground":
        slices = f"slices an epoch ({sampling['foreground_share']:.0%} drawn with the target, the others any)"
    return (
        f"{summary['model']['name']} adapted with LoRA policy {summary['model']['policy']!r} "
        f"({summary['model']['trainable_parameters']:,} of {summary['model']['parameters']:,} parameters) on "
        f"{training['n_samples']} {slices} of {split['n_train_cases']} cases in {training['steps']} steps; "
        f"scored on {split['n_score_cases']} cases of other patients, {summary['n_slices']} labelled slices, "
        f"{prompt_words(prompt)}, made from the reference ({json_text(prompt['settings'])})."
    )


def _warnings(lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in dict.fromkeys(lines))
    return f'<div class="warnings"><b>Warnings during the run</b><ul>{items}</ul></div>'


def _target_table(summary: Mapping[str, Any]) -> str:
    """Mean and standard deviation over cases, of each target."""
    metrics, floors = list(summary["zero_shot"]["mean"]), list(summary.get("floors", ()))
    head = _head(metrics, floors)
    before = {m: by_target(summary["zero_shot"]["cases"], m) for m in metrics}
    after = {m: by_target(summary["adapted"]["cases"], m) for m in metrics}
    targets = sorted({target for m in metrics for target in (*before[m], *after[m])})
    body = ""
    for target in targets:
        pairs = [(summarise(before[m].get(target, [])), summarise(after[m].get(target, []))) for m in metrics]
        cases = max(int(pair[1]["n_cases"] or 0) for pair in pairs)
        body += f'<tr><td class="text">{html.escape(target)}</td><td>{cases}</td>'
        own = [row for row in summary["adapted"]["cases"] if target in by_target([row], metrics[0])]
        body += "".join(
            _cells(*pair, [summarise([row["floors"][floor][m] for row in own]) for floor in floors])
            for m, pair in zip(metrics, pairs, strict=True)
        )
        body += "</tr>"
    means = [(summary["zero_shot"]["mean"][m], summary["adapted"]["mean"][m]) for m in metrics]
    body += f'<tr><th class="text">all together</th><th>{max(int(pair[1]["n_cases"]) for pair in means)}</th>'
    body += "".join(
        _cells(*pair, [summary["floors"][floor][m] for floor in floors]) for m, pair in zip(metrics, means, strict=True)
    )
    body += "</tr>"
    return (
        f"<details{' open' * (len(targets) <= OPEN_ROWS)}><summary>Each target ({len(targets)}): mean ± standard "
        'deviation over its cases</summary><div class="wide"><table><tr><th class="text">target</th><th>scores</th>'
        f"{head}</tr>{body}</table></div></details>"
    )


def _case_table(summary: Mapping[str, Any]) -> str:
    metrics, floors = list(summary["zero_shot"]["mean"]), list(summary.get("floors", ()))
    head = _head(metrics, floors)
    body = ""
    for before, after in zip(summary["zero_shot"]["cases"], summary["adapted"]["cases"], strict=True):
        case = f"{before['dataset']}/{before['case']}" if "dataset" in before else before["case"]
        body += f'<tr><td class="text">{html.escape(case)}</td><td class="text">{html.escape(before["target"])}</td>'
        body += f"<td>{before['n_slices']}</td>"
        body += "".join(
            _cells({"mean": before[m]}, {"mean": after[m]}, [{"mean": after["floors"][floor][m]} for floor in floors])
            for m in metrics
        )
        body += "</tr>"
    number = len(summary["adapted"]["cases"])
    return (
        f"<details{' open' * (number <= OPEN_ROWS)}><summary>Each case ({number:,} rows)</summary>"
        f'<div class="wide"><table><tr><th class="text">case</th><th class="text">target</th><th>slices</th>{head}</tr>'
        f"{body}</table></div></details>"
    )


def _head(metrics: Sequence[str], floors: Sequence[str]) -> str:
    """The columns of each metric: before, after, the change, and the masks that contain no model."""
    beside = "".join(f"<th>{html.escape(FLOORS[floor])}</th>" for floor in floors)
    return "".join(
        f"<th>{html.escape(metric_title(m))} before</th><th>after</th><th>change</th>{beside}" for m in metrics
    )


def _cells(before: Mapping[str, Any], after: Mapping[str, Any], floors: Sequence[Mapping[str, Any]]) -> str:
    """Before, after, the change and the floors; a dash where the metric is not defined."""
    change = "–"
    if before["mean"] is not None and after["mean"] is not None:
        change = f"{after['mean'] - before['mean']:+.3f}"
    beside = "".join(f"<td>{_score(floor)}</td>" for floor in floors)
    return f"<td>{_score(before)}</td><td>{_score(after)}</td><td>{change}</td>{beside}"


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "–"
    spread = "" if score.get("std") is None else f" ± {score['std']:.3f}"
    return f"{score['mean']:.3f}{spread}"


def _curves(report: ReportPage, rows: Sequence[Mapping[str, Any]]) -> str:
    resumed = [resume["step"] for resume in report.resumes]
    figures = ""
    scores, training = draw_scores(rows, resumed), draw_training(rows, resumed)
    if scores is not None:
        figures += _figure("scores", scores, "Mean over the scored cases of each target, as the dataset names it.")
    if training is not None:
        figures += _figure("training", training, "What each optimizer step reported.")
    return f"<h2>Curves</h2>{figures}" if figures else ""


def _how_it_went(report: ReportPage, summary: Mapping[str, Any] | None) -> str:
    said = [f"Resumed after step {resume['step']:,} ({resume['at']})." for resume in report.resumes]
    if summary is not None:
        said.append(
            f"{summary['loading']['wait_fraction']:.1%} of the training time was spent waiting for data "
            f"({summary['loading']['workers']} workers a process, {summary['training']['processes']} processes)."
        )
    items = "".join(f"<li>{html.escape(line)}</li>" for line in said)
    details = "" if summary is None else f"<p>Seconds:</p>{_json(summary['seconds'])}{_json(summary['versions'])}"
    return f"<h2>How it went</h2><ul>{items}</ul>{details}" if said else ""


def _note(text: str) -> str:
    return f'<p class="note">{html.escape(text)}</p>'


def _json(values: Mapping[str, Any]) -> str:
    return f"<pre>{html.escape(json_text(dict(values), indent=2))}</pre>"


def _figure(name: str, png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
