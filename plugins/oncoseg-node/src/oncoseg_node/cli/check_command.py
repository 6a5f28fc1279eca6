"""``oncoseg node check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the destinations; by default nothing is sent to them either.")
    ] = False,
) -> None:
    """Try everything that the node needs, one line each, and end: exit status 1 where something fails."""
    from oncoseg_core.cli import installed_registry, say
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.service.checks import lines_of

    sound = True
    for line in lines_of(read_settings(config), installed_registry(), destinations=not offline):
        sound &= line.ok
        say(str(line))
    raise typer.Exit(0 if sound else 1)
