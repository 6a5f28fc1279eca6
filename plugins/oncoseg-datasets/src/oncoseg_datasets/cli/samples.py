"""``oncoseg samples``: bring the real sample scans to this machine, and list them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from oncoseg_core import UsageError
from oncoseg_core.cli import cell, say, say_json
from oncoseg_core.system import printable
from oncoseg_datasets.sources.manifest import SOURCES, SampleFile
from oncoseg_datasets.sources.pinned import copy_from, is_right
from oncoseg_datasets.sources.samples import fetch_sources, samples_directory

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The real sample scans: pinned, hash-checked, kept in the user's cache.\n\nExample: oncoseg samples fetch",
)

_Destination = Annotated[
    Path | None,
    typer.Option("--dest", metavar="DIR", file_okay=False, help="The folder of the files (default: the user's cache)."),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def fetch(
    destination: _Destination = None,
    origin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Take the archives or files from this folder, not from the network.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of --dest that have a sample's name and other content.")
    ] = False,
    as_json: _AsJson = False,
) -> None:
    """Download the sample scans (46 MB) and check them; files that are there and right are kept.

    A file of the user's cache whose content is not the sample's is replaced.

    Example: oncoseg samples fetch --dest scans
    """
    folder = destination or samples_directory()
    altered = [file.name for source in SOURCES for file in source.files if _state(folder, file) == "altered"]
    if altered and destination is not None and not overwrite:
        raise UsageError(
            f"{folder / altered[0]} exists and is not the sample; give another folder, or --overwrite to replace it"
        )
    if origin is not None:
        written = copy_from(origin, SOURCES, folder)
    else:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
            tasks: dict[str, TaskID] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(printable(what), total=total)
                bars.update(tasks[what], completed=done)

            written = fetch_sources(SOURCES, folder, show)
    _report(folder, {file.name for file in written}, as_json)


@app.command("list")
def list_samples(destination: _Destination = None, as_json: _AsJson = False) -> None:
    """List the sample files and whether each is there and right.

    Example: oncoseg samples list --json
    """
    _report(destination or samples_directory(), set(), as_json)


def _report(folder: Path, fetched: set[str], as_json: bool) -> None:
    """Print every sample file and its state in ``folder``; ``fetched`` are the names written just now."""
    rows = [
        (file, source, "fetched" if file.name in fetched else _state(folder, file))
        for source in SOURCES
        for file in source.files
    ]
    if as_json:
        files = [
            {
                "file": file.name,
                "source": source.requirement,
                "licence": source.licence,
                "bytes": file.size,
                "sha256": file.sha256,
                "state": state,
            }
            for file, source, state in rows
        ]
        say_json({"folder": str(folder), "files": files})
        return
    table = Table("file", "source", "licence", "bytes", "state", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.columns[3].justify = "right"
    for file, source, state in rows:
        table.add_row(*map(cell, (file.name, source.package, source.licence, file.size, state)))
    Console().print(table)
    say(f"folder: {folder}")


def _state(folder: Path, file: SampleFile) -> str:
    if not (folder / file.name).is_file():
        return "missing"
    return "present" if is_right(folder, file) else "altered"
