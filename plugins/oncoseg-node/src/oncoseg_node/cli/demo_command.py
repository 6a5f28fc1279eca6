"""``oncoseg node demo``: a node, a scanner and an archive on this machine, and a real CT."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_FOLDER = Path("runs/node-demo")


def demo(
    dest: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help=f"A new folder for all that it writes; by default {DEFAULT_FOLDER}."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The port that the node listens on; by default any free one.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the report in a browser.")] = False,
) -> None:
    """Contour a real chest CT by a node on this machine: no PACS, no settings. Fetches 34 MB the first time."""
    from oncoseg_core.cli import installed_registry, progress_bar, say
    from oncoseg_node.demo.run import run_demo

    with progress_bar() as progress:
        result = run_demo(installed_registry(), dest or free_folder(), progress, port=port)
    say("A chest CT went to a node by C-STORE. Its structure set came back by C-STORE, equal to the one written:")
    say(f"  {'structure':<18}{'decision':<12}{'ml':>10}{'confidence':>13}")
    for one in result.structures:
        volume = "-" if one.volume_ml is None else f"{one.volume_ml:,.1f}"
        confidence = "-" if one.confidence is None else f"{one.confidence:.2f}"
        say(f"  {one.name:<18}{one.decision:<12}{volume:>10}{confidence:>13}")
    say(f"structure set: {result.rtstruct}")
    say(f"settings: {result.settings}")
    say(f"report: {result.report}")
    if not no_open:
        import webbrowser

        webbrowser.open(result.report.as_uri())


def free_folder() -> Path:
    """The default folder, or with the next free number after it: what an earlier demonstration wrote stays."""
    numbered = (DEFAULT_FOLDER.with_name(f"{DEFAULT_FOLDER.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([DEFAULT_FOLDER], numbered) if not folder.exists())
