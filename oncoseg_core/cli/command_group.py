"""A program with a default command: ``PROGRAM CONFIG`` runs it, ``PROGRAM COMMAND ...`` another one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

Overrides: TypeAlias = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated.")
]
AllowBroken: TypeAlias = Annotated[
    bool, typer.Option("--allow-broken-plugins", help="Go on although a plugin failed to load.")
]


class DefaultCommandGroup(TyperGroup):
    """Runs the command ``run`` unless the first word names another one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names; else ``run``, with all arguments."""
        if args[0] != "run" and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "", self.commands["run"], [argument for argument in args if argument]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave options to the commands; without arguments, ``run`` reports what is missing."""
        parsed: list[str] = super().parse_args(ctx, args or [""])
        return parsed


class SquareFit(StrEnum):
    """How a slice fills a model's square input: ``Fit``, as an option of a command."""

    letterbox = "letterbox"
    stretch = "stretch"


def default_command_app() -> typer.Typer:
    """An app whose command ``run`` needs no name."""
    return typer.Typer(
        cls=DefaultCommandGroup,
        add_completion=False,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )
