"""``python -m oncoseg_testing.broken [KIND]``: what the checks say of components that break a rule."""

from __future__ import annotations

from typing import Annotated

import typer

from oncoseg_core.cli import run_app, say
from oncoseg_testing.broken import KINDS, broken_examples

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m oncoseg_testing.broken normalizer")
def show(
    kind: Annotated[str | None, typer.Argument(metavar="[" + "|".join(KINDS) + "]", help="By default all.")] = None,
) -> None:
    """Check components that each break one rule, and print what the check says. Exits 1 when one is not caught."""
    missed = []
    for one in KINDS if kind is None else (kind,):
        for example in broken_examples(one):
            found = example.caught()
            if found is None:
                missed.append(f"{one} {example.name}")
                told = [f"NOT CAUGHT; expected the rule: {example.rule}"]
            else:
                told = [f"rule:    {found.rule}", f"example: {found.example}", f"found:   {found.found}"]
            for line in (f"{one} {example.name}", *(f"  {each}" for each in told), ""):
                say(line)
    if missed:
        say(f"not caught: {', '.join(missed)}", err=True)
        raise typer.Exit(1)


run_app(app)
