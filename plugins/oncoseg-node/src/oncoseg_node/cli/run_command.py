"""``oncoseg node run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")]) -> None:
    """Run the node until it is ended by Ctrl+C or SIGTERM."""
    from oncoseg_core.cli import say
    from oncoseg_node.config.read import read_settings
    from oncoseg_node.service.node import run as run_node
    from oncoseg_node.work.quiet import quiet_logs

    settings = read_settings(config)
    quiet_logs()
    run_node(settings, lambda line: say(line, err=True))
