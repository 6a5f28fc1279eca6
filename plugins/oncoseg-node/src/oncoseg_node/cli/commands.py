"""``oncoseg node``: its commands. Light: what they need is imported when they run."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)
"""Each module beside this one has a command: ``run``, ``check``, ``explain``, ``status``, ``retry``, ``verify``."""
