"""``oncoseg node``: its commands. Light: what they need is imported when they run."""

from __future__ import annotations

import typer

from oncoseg_node.cli.check_command import check
from oncoseg_node.cli.demo_command import demo
from oncoseg_node.cli.explain_command import explain
from oncoseg_node.cli.retry_command import retry
from oncoseg_node.cli.run_command import run
from oncoseg_node.cli.status_command import status
from oncoseg_node.cli.verify_command import verify

app = typer.Typer(add_completion=False, no_args_is_help=True)
"""Each command is a module beside this one."""

app.command(epilog="Example: oncoseg node demo")(demo)
app.command(epilog="Example: oncoseg node run node.yaml")(run)
app.command(epilog="Example: oncoseg node check node.yaml")(check)
app.command(epilog="Example: oncoseg node explain ./study --config node.yaml")(explain)
app.command(epilog="Example: oncoseg node status node.yaml")(status)
app.command(epilog="Example: oncoseg node retry node.yaml 17")(retry)
app.command(epilog="Example: oncoseg node verify node.yaml")(verify)


@app.callback(epilog="Example: oncoseg node demo")
def node() -> None:
    """Receive series, contour them by protocol, send structure sets, and prove what was done."""
