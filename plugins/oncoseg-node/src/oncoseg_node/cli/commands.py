"""``oncoseg node``: its commands. Light: what they need is imported when they run."""

from __future__ import annotations

import typer

from oncoseg_node.cli.explain_command import explain

app = typer.Typer(add_completion=False, no_args_is_help=True)
"""Each module beside this one has a command: ``run``, ``check``, ``explain``, ``status``, ``retry``, ``verify``."""

app.command(epilog="Example: oncoseg node explain ./study --config node.yaml")(explain)


@app.callback()
def _group() -> None:
    """Keep `explain` a name of its own, whatever other commands there are."""
