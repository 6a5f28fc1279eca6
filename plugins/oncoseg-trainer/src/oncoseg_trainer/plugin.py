"""What the trainer adds: the ``train`` command and the trackers that every run has."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, TrackerSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """The same as the program ``oncoseg-train``."""
    yield CommandSpec(
        name="train",
        factory="oncoseg_trainer.cli:app",
        summary="Adapt a model with LoRA: oncoseg train quickstart",
    )


@hookimpl
def oncoseg_trackers() -> Iterator[TrackerSpec]:
    """Metrics as lines of JSON, and a self-contained HTML report."""
    yield TrackerSpec(name="jsonl", factory="oncoseg_trainer.reporting.jsonl:JsonlTracker", summary="metrics.jsonl")
    yield TrackerSpec(name="html", factory="oncoseg_trainer.reporting.html_report:HtmlTracker", summary="report.html")
