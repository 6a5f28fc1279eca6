"""``oncoseg datasets``: what there is, what a record says, whether a copy is sound, and making it ready."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from oncoseg_core import (
    Case,
    DataError,
    DatasetSpec,
    ImageReadError,
    NormalizerSpec,
    Registry,
    UsageError,
    load_plugins,
)
from oncoseg_core.cli import cell, reserved_stdout, say, say_json
from oncoseg_core.plugins import apply_overrides
from oncoseg_datasets.cli.listing import TABLE_WIDTH, as_json, chosen, in_full, markdown, table
from oncoseg_datasets.cli.prepare import prepare

if TYPE_CHECKING:
    from oncoseg_datasets.cli.checking import Report

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Datasets: what there is, whether a copy is sound, making it ready.\n\nExample: oncoseg datasets list",
)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_datasets(
    phase: Annotated[str | None, typer.Option(help="Only those of this phase of the paper, such as B or eval.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only those with images of this modality, such as ct.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the table for a README.")] = False,
    json_wanted: _AsJson = False,
) -> None:
    """List every dataset of every plugin: cases, targets, licence, access, where to get it.

    Example: oncoseg datasets list --phase B --modality ct
    """
    specs = chosen(load_plugins().specs(DatasetSpec), phase, modality)
    if json_wanted:
        say_json([as_json(spec) for spec in specs])
        return
    if as_markdown:
        for line in markdown(specs):
            say(line)
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(table(specs))
    if any(spec.doubts for spec in specs):
        say("† something in the record could not be checked: oncoseg datasets show NAME")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The dataset's slug; oncoseg datasets list shows them.")],
    json_wanted: _AsJson = False,
) -> None:
    """Show all that is known of a dataset: targets, overlaps with others, doubts.

    Example: oncoseg datasets show brats-gli
    """
    spec = load_plugins().get(DatasetSpec, name)
    if json_wanted:
        say_json(as_json(spec))
        return
    for line in in_full(spec):
        say(line)


@app.command("check")
def check_copy(
    name: Annotated[str, typer.Argument(help="The dataset's slug.")],
    root: Annotated[Path, typer.Argument(help="The folder that holds it, as it was unpacked.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the dataset; repeatable.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE.png", dir_okay=False, help="Draw up to 16 cases with their targets.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a preview that exists.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first cases; all are counted.")] = None,
    json_wanted: _AsJson = False,
) -> None:
    """Read every case of a copy and say what is wrong with which file. Exits 1 on errors.

    Example: oncoseg datasets check msd-liver /data/Task03_Liver --preview liver.png
    """
    if preview is not None and preview.exists() and not overwrite:
        raise UsageError(f"{preview} exists; give another name, or --overwrite to replace it")
    registry = load_plugins()
    spec = registry.get(DatasetSpec, name)
    with reserved_stdout():
        report = _report(registry, spec, root, preview, settings or [], limit)
    if json_wanted:
        say_json(report.as_json())
    else:
        _print(report)
        if preview is not None and preview.exists():
            say(f"preview: {preview}")
    if report.failed:
        raise typer.Exit(1)


app.command()(prepare)


def _report(
    registry: Registry, spec: DatasetSpec, root: Path, preview: Path | None, settings: Sequence[str], limit: int | None
) -> Report:
    """Read the cases of a copy and compare them with the record; draw them where a picture is wanted."""
    adapter = registry.build(DatasetSpec, spec.name, apply_overrides({}, settings))
    finite = frozenset(one.modality for one in registry.specs(NormalizerSpec) if not one.accepts_nan)
    from oncoseg_datasets.cli.checking import check, refused

    try:
        cases = list(adapter.discover(root))
    except (DataError, ImageReadError) as error:
        return refused(spec, root, error)
    to_read = [case for case in cases if case.fault is None][:limit]
    if preview is None:
        return check(adapter, spec, root, cases, _with_progress(to_read), finite, lambda *_: None)
    from oncoseg_datasets.cli.preview import Preview

    sheet = Preview(registry, to_read, preview)
    report = check(adapter, spec, root, cases, _with_progress(to_read), finite, sheet.add)
    sheet.write()
    return report


def _with_progress(cases: Sequence[Case]) -> Iterator[Case]:
    """The cases one by one, with a progress bar where a person looks."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=len(cases))
        for case in cases:
            yield case
            bar.advance(task)


def _print(report: Report) -> None:
    """The report for people: what was found, the targets, every problem on a line of its own, and counts by kind."""
    hidden = f" ({report.hidden} without label in its validation or test part)" if report.hidden else ""
    expected = "" if report.expected is None else f"; expected {report.expected}"
    say(f"{report.dataset} in {report.root}")
    bad = f"; cannot be used: {report.bad}" if report.bad else ""
    found = f"cases: {report.found}{hidden}{expected}; annotated: {report.annotated}{bad}"
    say(f"{found}; patients: {report.patients}")
    say("splits: " + ", ".join(f"{name} {number}" for name, number in report.splits.items()))
    shown = Table("target", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("annotated in", "empty in", "voxels"):
        shown.add_column(cell(column), justify="right")
    for name, count in report.targets.items():
        shown.add_row(*map(cell, (name, count.annotated, count.empty, f"{count.voxels:,}")))
    say(f"read: {report.read} cases")
    Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_WIDTH).print(shown)
    for problem in report.problems:
        case = "" if problem.case is None else f"{problem.case}: "
        say(f"{problem.severity}: {case}{problem.message}")
    for kind, number in report.counts().items():
        say(f"{kind}: {number}")
    errors = sum(problem.severity == "error" for problem in report.problems)
    say(f"{errors} errors, {len(report.problems) - errors} warnings")
