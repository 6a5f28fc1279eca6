"""``oncoseg new-plugin``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from oncoseg_core.cli import say

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: oncoseg new-plugin thermography --kind modality")
def new_plugin(
    name: Annotated[str, typer.Argument(help="The component's name, as users will write it, such as thermography.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="modality, dataset, prompt, loss, metric, reader, exporter, model or automatic."
        ),
    ],
    dest: Annotated[Path, typer.Option(help="The folder in which oncoseg-NAME/ is made.")] = Path(),
) -> None:
    """Write a plugin package that builds, installs and passes its own tests, for you to change."""
    from oncoseg_core.cli import installed_registry
    from oncoseg_testing.new_plugin import create_plugin

    folder = create_plugin(name, kind, dest, installed_registry())
    say(f"Wrote {folder}. Next:")
    say(f"  pip install -e {shlex.quote(f'{folder}[test]')}")
    say(f"  pytest {shlex.quote(str(folder))}")
    say("  oncoseg plugins")
