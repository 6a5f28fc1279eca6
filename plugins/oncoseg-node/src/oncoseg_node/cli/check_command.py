"""``oncoseg node check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(epilog="Example: oncoseg node check node.yaml")
def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")],
    send: Annotated[
        bool, typer.Option("--send", help="Ask the destinations too, and not only read what the file says of them.")
    ] = False,
) -> None:
    """Try everything that the node needs, one line each, and end; exit status 1 where something fails."""
    from oncoseg_core.cli import installed_registry, say
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.service.checks import lines_of

    sound = True
    for line in lines_of(read_settings(config), installed_registry(), send=send):
        sound &= line.ok
        say(str(line))
    raise typer.Exit(0 if sound else 1)
