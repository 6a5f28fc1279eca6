"""The ``html`` tracker: one self-contained page with the scores, the curves and the pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from oncoseg_core import Tracker
from oncoseg_core.system import atomic_write, json_text
from oncoseg_trainer.reporting.html_page import MOST_PICTURES, ReportPage, ReportPicture, page
from oncoseg_trainer.reporting.jsonl import METRICS_FILE, read_metrics

REPORT_FILE = "report.html"
RESUMES_FILE = "resumes.json"

SECONDS_BETWEEN_PAGES = 1800.0
"""How old the page of a run under way may get. Drawing takes a few seconds."""


class HtmlTracker(Tracker):
    """Writes ``report.html``, at checkpoints now and then and when the run ends; curves are those of ``metrics.jsonl``.

    ``resumes.json`` keeps where and when the run was resumed.
    """

    def __init__(self, settings: Any = None, *, run_directory: Any) -> None:
        super().__init__(settings, run_directory=run_directory)
        self._report = ReportPage()
        self._written = time.monotonic()

    def start(self, config: Mapping[str, Any], resumed_step: int | None) -> None:
        """Remember the configuration, and that the run was resumed."""
        path = self.run_directory / RESUMES_FILE
        resumes: list[dict[str, Any]] = []
        if resumed_step is not None:
            resumes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            resumes.append({"step": resumed_step, "at": datetime.now(UTC).isoformat(timespec="seconds")})
            atomic_write(path, json_text(resumes) + "\n")
        self._report = ReportPage(config=config, resumes=resumes)

    def image(self, name: str, png: bytes, caption: str) -> None:
        """Keep a picture for the page; of very many only the first."""
        self._report.n_pictures += 1
        if len(self._report.pictures) < MOST_PICTURES:
            self._report.pictures.append(ReportPicture(name, png, caption))

    def checkpoint(self, step: int, path: Any) -> None:  # noqa: ARG002
        """Write the page of the unfinished run, if the last one is old."""
        if time.monotonic() - self._written >= SECONDS_BETWEEN_PAGES:
            self._write(None)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the page."""
        self._write(summary)

    def _write(self, summary: Mapping[str, Any] | None) -> None:
        metrics = self.run_directory / METRICS_FILE
        rows = read_metrics(metrics) if metrics.exists() else []
        atomic_write(self.run_directory / REPORT_FILE, page(self._report, rows, summary))
        self._written = time.monotonic()
