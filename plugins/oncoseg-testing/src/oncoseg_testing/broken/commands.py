"""Commands that each break one rule; ``sound`` breaks none."""

from __future__ import annotations

import typer

from oncoseg_core import CommandSpec
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.commands import check_command


def check(broken: str, module: str = "commands") -> None:
    """Check the app of that name in a module beside this one."""
    check_command(command(broken, module))


def command(name: str, module: str = "commands") -> CommandSpec:
    """The record of an app in a module beside this one."""
    return CommandSpec(name="hello", factory=f"oncoseg_testing.broken.{module}:{name}", summary="Say hello")


EXAMPLES = BrokenExamples("command", check)


def hello(name: str = "world") -> None:
    """Say hello."""
    typer.echo(f"hello {name}")


sound = typer.Typer(add_completion=False)
sound.command(epilog="Example: oncoseg hello --name you")(hello)

silent = typer.Typer(add_completion=False)
silent.command(epilog="Nothing here.")(hello)
EXAMPLES.breaks("shows an example")("silent")

EXAMPLES.breaks("--help imports none of", module="heavy_command")("heavy")

empty = typer.Typer()
EXAMPLES.breaks("--help ends with exit code 0")("empty")

EXAMPLES.breaks("the factory is a typer.Typer app")("hello")
EXAMPLES.breaks("the factory is a typer.Typer app")("missing")

lenient = typer.Typer(add_completion=False)
lenient.command(
    epilog="Example: oncoseg hello", context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)(hello)
EXAMPLES.breaks("an unknown option ends with exit code 2")("lenient")
