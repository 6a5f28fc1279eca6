"""``oncoseg datasets prepare``: read every case of a dataset once, into a store from which training reads slices."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oncoseg_core import ConfigError, load_plugins
from oncoseg_core.cli import reserved_stdout, say, say_json
from oncoseg_core.plugins import apply_overrides

if TYPE_CHECKING:
    from oncoseg_store import PreparationReport

NORMALIZERS = "normalizers"
SHOWN_SKIPS = 20


def prepare(
    name: Annotated[str, typer.Argument(help="The dataset; oncoseg datasets list shows them.")],
    root: Annotated[Path, typer.Argument(help="The dataset's folder, as it was downloaded.")],
    dest: Annotated[
        Path | None, typer.Option("--dest", metavar="DIR", help="The store's folder (default: prepared/NAME here).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the dataset, or of a modality: normalizers.ct.window=[-160,240]. May be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, each with one case in memory (default: one per core).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Prepare a dataset for training: read every case once and keep it so that a slice can be had at once.

    Can be stopped and run again at any time: finished cases are kept, changed ones made anew. A case that cannot be
    read is listed and left out, and the exit code is then 1.

    Example: oncoseg datasets prepare msd-liver /data/Task03_Liver --dest /fast/msd-liver
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from oncoseg_store import PreparationJob, prepare_dataset

    settings = apply_overrides({}, overrides or [])
    normalizers = _normalizers(settings.pop(NORMALIZERS, {}))
    job = PreparationJob(name, (dest or Path("prepared") / name).absolute(), settings, normalizers)
    started = time.monotonic()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with reserved_stdout(), Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("cases", total=None)
        report = prepare_dataset(
            load_plugins(),
            job,
            root,
            workers or os.cpu_count() or 1,
            lambda _what, done, total: bars.update(task, completed=done, total=total),
        )
    if as_json:
        say_json(_plain(report) | {"seconds": round(time.monotonic() - started, 3)})
    else:
        _print(report)
    if report.skipped:
        raise typer.Exit(1)


def _normalizers(given: Any) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(given, dict) or not all(isinstance(values, dict) for values in given.values()):
        raise ConfigError(f"--set {NORMALIZERS}: expected {NORMALIZERS}.MODALITY.KEY=VALUE")
    return given


def _plain(report: PreparationReport) -> dict[str, Any]:
    return {
        "folder": str(report.folder),
        "prepared": report.prepared,
        "kept": report.kept,
        "skipped": [skipped._asdict() for skipped in report.skipped],
        "bytes": report.bytes,
        "cut_across": report.across,
    }


def _print(report: PreparationReport) -> None:
    for skipped in report.skipped[:SHOWN_SKIPS]:
        say(f"skipped {skipped.case_id}: {skipped.reason}")
    if len(report.skipped) > SHOWN_SKIPS:
        say(f"skipped {len(report.skipped) - SHOWN_SKIPS} more (--json lists all)")
    if report.across:
        say(
            f"note: {len(report.across)} cases are stored with coarser spacing in the slice than across it, and are "
            f"cut along the stored z axis all the same; the first: {report.across[0]}"
        )
    say(
        f"prepared {report.prepared} cases, kept {report.kept}, skipped {len(report.skipped)}: "
        f"{report.folder} ({report.bytes / 1e6:.1f} MB)"
    )
