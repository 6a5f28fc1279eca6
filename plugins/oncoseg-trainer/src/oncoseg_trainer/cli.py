"""``oncoseg-train``: light until a configuration is really run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from oncoseg_core.command_line import run_app
from oncoseg_core.registry import load_plugins

if TYPE_CHECKING:
    from oncoseg_trainer.run import Outcome

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: oncoseg-train quickstart --set training.epochs=2 --set output=runs/short")
def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or a built-in name: quickstart, oncoseg-paper.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    allow_broken_plugins: Annotated[
        bool, typer.Option("--allow-broken-plugins", help="Train although a plugin failed to load.")
    ] = False,
) -> None:
    """Adapt a promptable model with LoRA, and score it before and after on held-out cases.

    Several processes: torchrun --nproc-per-node 4 -m oncoseg_trainer CONFIG
    """
    registry = load_plugins()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_trainer.run import train as run_training
    from oncoseg_trainer.settings import load_settings
    from oncoseg_trainer.terminal import Terminal

    settings = load_settings(config, overrides or [])
    outcome = run_training(settings, registry, resume=resume)
    terminal = Terminal(speaks=outcome.is_first)
    if outcome.summary is None:
        terminal.say(
            f"Stopped; what is done is saved. Go on with: {_resume_command(config, overrides or [], outcome)}"
            + (" --allow-broken-plugins" if allow_broken_plugins else "")
        )
        return
    terminal.scores(outcome.summary)
    terminal.say(f"Results: {outcome.folder}")


def _resume_command(config: str, overrides: list[str], outcome: Outcome) -> str:
    kept = [override for override in overrides if not override.startswith("output=")]
    changes = [f"--set {shlex.quote(override)}" for override in (*kept, f"output={outcome.folder}")]
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
    program = "oncoseg-train" if processes == "1" else f"torchrun --nproc-per-node {processes} -m oncoseg_trainer"
    return " ".join([program, shlex.quote(config), *changes, "--resume"])


def main() -> None:
    """Entry point of the program."""
    run_app(app)
