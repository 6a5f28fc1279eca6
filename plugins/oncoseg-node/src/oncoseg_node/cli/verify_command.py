"""``oncoseg node verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The node's settings.")]) -> None:
    """Check that the audit is as it was written: exit status 1 where a line was changed or is missing."""
    from oncoseg_core.cli import say
    from oncoseg_node.audit.audit import FOLDER
    from oncoseg_node.audit.chain import verify as verify_audit
    from oncoseg_node.config.read import read_settings

    verified = verify_audit(read_settings(config).data / FOLDER)
    say(f"{'intact' if verified.intact else 'BROKEN'}: {verified.message}")
    say(f"last sound line: {verified.last} {verified.sha256}")
    raise typer.Exit(0 if verified.intact else 1)
