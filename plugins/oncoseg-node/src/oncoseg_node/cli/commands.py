"""``oncoseg node``: its commands. Light: what they need is imported when they run."""

from __future__ import annotations

import typer

from oncoseg_node.cli import check_command, retry_command, run_command, status_command, verify_command
from oncoseg_node.cli.demo_command import demo
from oncoseg_node.cli.explain_command import explain

app = typer.Typer(add_completion=False, no_args_is_help=True)
"""Each module beside this one has a command."""

for module in (run_command, check_command, status_command, retry_command, verify_command):
    app.add_typer(module.app)
app.command(epilog="Example: oncoseg node explain ./study --config node.yaml")(explain)
app.command(epilog="Example: oncoseg node demo")(demo)


@app.callback()
def node() -> None:
    """Receive series, contour them by protocol, send structure sets, and prove what was done."""
