"""``oncoseg-train``: light until a configuration is really run."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from oncoseg_core import load_plugins
from oncoseg_core.cli import AllowBroken, Overrides, default_command_app, run_app

if TYPE_CHECKING:
    from oncoseg_trainer.loop.run import TrainingOutcome

FIGURES = (
    ("backward transfer", "backward_transfer"),
    ("forgetting", "forgetting"),
    ("gain over the untouched model", "gain_over_untouched"),
)


app = default_command_app()


@app.command(name="run", epilog="Example: oncoseg-train quickstart --set training.epochs=2 --set output=runs/short")
def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or a built-in name: quickstart, oncoseg-paper.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    allow_broken_plugins: AllowBroken = False,
) -> None:
    """Adapt a promptable model with LoRA, and score it before and after on held-out cases.

    Several processes: torchrun --nproc-per-node 4 -m oncoseg_trainer CONFIG

    Many datasets, one after the other: oncoseg-train chain --help
    """
    registry = load_plugins()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_trainer.config.settings import load_settings
    from oncoseg_trainer.loop.run import train as run_training
    from oncoseg_trainer.reporting.terminal import Terminal

    settings = load_settings(config, overrides or [])
    outcome = run_training(settings, registry, resume=resume)
    terminal = Terminal(speaks=outcome.is_first)
    if outcome.summary is None:
        terminal.say(
            f"Stopped {outcome.stopped}. Go on with: {_resume_command(config, overrides or [], outcome)}"
            + (" --allow-broken-plugins" if allow_broken_plugins else "")
        )
        return
    terminal.scores(outcome.summary)
    terminal.say(f"Results: {outcome.folder}")


@app.command(epilog="Example: oncoseg-train chain oncoseg-chain --set data_root=/data --skip-absent")
def chain(
    chain: Annotated[str, typer.Argument(help="A YAML file, or the name of a built-in chain: oncoseg-chain.")],
    overrides: Overrides = None,
    skip_absent: Annotated[
        bool, typer.Option("--skip-absent", help="Leave out the datasets that are not there.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Delete results that a change has made stale, and train anew.")
    ] = False,
    allow_broken_plugins: AllowBroken = False,
) -> None:
    """Train on many datasets, one after the other, and measure what is forgotten.

    Give the same command again to go on after a stop or a crash.
    """
    from oncoseg_trainer.chain.settings import load_chain

    settings = load_chain(chain, overrides or [])
    registry = load_plugins()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_trainer.chain.run import run_chain
    from oncoseg_trainer.reporting.terminal import Terminal

    outcome = run_chain(settings, registry, skip_absent=skip_absent, redo=redo)
    terminal = Terminal(speaks=outcome.is_first)
    if outcome.matrix is None:
        terminal.say("Stopped; what is done is saved. Give the same command again to go on.")
        return
    last = outcome.matrix["rows"][-1]
    parts = [f"{what} {last[key]:+.3f}" for what, key in FIGURES if last[key] is not None]
    terminal.say(f"After {last['task']}: average Dice {last['average']:.3f}; {', '.join(parts)}.")
    for caution in outcome.matrix["cautions"]:
        terminal.say(caution)
    means = "".join(f" ({caution.partition(':')[0]})" for caution in outcome.matrix["cautions"])
    terminal.say(f"Results: {outcome.folder}{means}")


def _resume_command(config: str, overrides: list[str], outcome: TrainingOutcome) -> str:
    kept = [override for override in overrides if not override.startswith("output=")]
    changes = [f"--set {shlex.quote(override)}" for override in (*kept, f"output={outcome.folder}")]
    processes, nodes = (os.environ.get(f"{name}_WORLD_SIZE", "1") for name in ("LOCAL", "GROUP"))
    if nodes != "1":
        where = f"--nnodes {nodes} --nproc-per-node {processes} --rdzv-backend c10d --rdzv-endpoint HOST:PORT"
        program = f"torchrun {where} -m oncoseg_trainer"
    elif processes != "1":
        program = f"torchrun --nproc-per-node {processes} -m oncoseg_trainer"
    else:
        program = "oncoseg-train"
    return " ".join([program, shlex.quote(config), *changes, "--resume"])


def main() -> None:
    """Entry point of the program."""
    run_app(app)
