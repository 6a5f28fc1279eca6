"""The ``html`` tracker: one self-contained page with the scores, the curves and the pictures."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from typing import Any

from oncoseg_core.atomic import atomic_write
from oncoseg_core.interfaces import Tracker
from oncoseg_trainer.jsonl import METRICS_FILE, read_metrics
from oncoseg_trainer.pictures import draw_curves
from oncoseg_trainer.summary import cautions, held_out_words

REPORT_FILE = "report.html"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0}
th,td{padding:.35rem .8rem;border-bottom:1px solid #d0d7de;text-align:right}
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}img{max-width:100%;height:auto}
figure{margin:1.5rem 0}figcaption{color:#57606a}pre{background:#f6f8fa;padding:1rem;overflow:auto;font-size:13px}
.note{background:#fff8c5;padding:.6rem 1rem;border-radius:6px}
"""


class HtmlTracker(Tracker):
    """Collects the pictures and writes ``report.html`` when the run ends; curves are drawn from ``metrics.jsonl``."""

    def __init__(self, settings: Any = None, *, run_directory: Any) -> None:
        super().__init__(settings, run_directory=run_directory)
        self._config: Mapping[str, Any] = {}
        self._figures: list[str] = []

    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:  # noqa: ARG002
        """Remember the configuration."""
        self._config = config

    def image(self, name: str, png: bytes, caption: str) -> None:
        """Keep a picture for the page."""
        self._figures.append(_figure(name, png, caption))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the page."""
        metrics = self.run_directory / METRICS_FILE
        curves = ""
        if metrics.exists():
            caption = "Training loss and held-out Dice. The held-out scores steer nothing: no epoch is chosen by them."
            curves = _figure("curves", draw_curves(read_metrics(metrics)), caption)
        title = f"OncoSeg run {summary['name']}"
        page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(_what_was_done(summary))}</p>
<p class="note">Research software: no clinical clearance. Scores hold for prompts made from the reference on slices
that contain the object; they are no measure of finding it.</p>
{"".join(f'<p class="note">{html.escape(caution)}</p>' for caution in cautions(summary))}
<h2>Scores on the {html.escape(held_out_words(summary))}</h2>{_score_table(summary)}
<h2>Pictures</h2>{"".join(self._figures)}
<h2>Curves</h2>{curves}
<h2>How it was made</h2><pre>{html.escape(json.dumps(summary["seconds"], indent=2))}
{html.escape(json.dumps(summary["versions"], indent=2))}</pre>
<h2>Configuration</h2><pre>{html.escape(json.dumps(dict(self._config), indent=2))}</pre></body></html>
"""
        atomic_write(self.run_directory / REPORT_FILE, page)


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
        f"one {prompt['name']} per slice made from the reference ({json.dumps(prompt['settings'])})."
    )


def _score_table(summary: Mapping[str, Any]) -> str:
    metrics = list(summary["zero_shot"]["mean"])
    head = "".join(f"<th>{m} before</th><th>{m} after</th><th>change</th>" for m in metrics)
    body = ""
    for before, after in zip(summary["zero_shot"]["cases"], summary["adapted"]["cases"], strict=True):
        body += f"<tr><td>{html.escape(before['case'])}</td><td>{html.escape(before['target'])}</td>"
        body += f"<td>{before['n_slices']}</td>"
        body += "".join(_cells(before[m], after[m]) for m in metrics) + "</tr>"
    body += f"<tr><th>mean</th><th></th><th>{summary['n_slices']}</th>"
    body += "".join(
        _cells(summary["zero_shot"]["mean"][m]["mean"], summary["adapted"]["mean"][m]["mean"]) for m in metrics
    )
    body += "</tr>"
    return f"<table><tr><th>case</th><th>target</th><th>slices</th>{head}</tr>{body}</table>"


def _cells(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "<td>–</td><td>–</td><td>–</td>"
    return f"<td>{before:.3f}</td><td>{after:.3f}</td><td>{after - before:+.3f}</td>"


def _figure(name: str, png: bytes, caption: str) -> str:
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{html.escape(name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
