"""``oncoseg structures``: check names by TG-263, list names and protocols. Light: tables are read when needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncoseg_core import UsageError
from oncoseg_core.cli import say, say_json

if TYPE_CHECKING:
    from oncoseg_structures.names.check import NameCheck
    from oncoseg_structures.protocol import Protocol

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Names of structures by TG-263, and the protocols of the node.\n\nExample: oncoseg structures check Lung_Lt",
)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("check")
def check(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Names of structures.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A text file with one name on each line; # begins a comment.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The names of a protocol that comes with it, or of a YAML file."),
    ] = None,
    json_wanted: _AsJson = False,
) -> None:
    """Say whether names are TG-263's, what is wrong, and which name is nearest. Exits 1 when one is not.

    Example: oncoseg structures check Parotid_L "Lt Parotid" SpinalCrd
    """
    from oncoseg_structures.names.check import check_name

    checks = [check_name(name) for name in _all_names(names or [], file, protocol)]
    if json_wanted:
        say_json([one.model_dump(mode="json") for one in checks])
    else:
        for one in checks:
            say(_line(one))
    if not all(one.ok for one in checks):
        raise typer.Exit(1)


@app.command("list")
def list_structures(
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The structures of a protocol or of a YAML file.")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="All primary names of TG-263.")] = False,
    json_wanted: _AsJson = False,
) -> None:
    """List the protocols; with --protocol the structures of one, with --names all primary names.

    Example: oncoseg structures list --protocol head-neck
    """
    from oncoseg_structures.names.table import primary_names
    from oncoseg_structures.reading import protocol_names, read_protocol

    if names and protocol is not None:
        raise UsageError("--names and --protocol list different things; give one of them")
    if names:
        primary = primary_names()
        if json_wanted:
            say_json([one.model_dump(mode="json") for one in primary])
        else:
            for one in primary:
                say(f"{one.name:<17}{one.reverse:<17}{one.term}".rstrip())
        return
    if protocol is not None:
        chosen = read_protocol(protocol)
        if json_wanted:
            say_json(chosen.model_dump(mode="json"))
        else:
            for line in _lines(chosen):
                say(line)
        return
    protocols = [read_protocol(name) for name in protocol_names()]
    if json_wanted:
        say_json([one.model_dump(mode="json") for one in protocols])
    else:
        for each in protocols:
            say(f"{each.name:<15}{len(each.structures):>3} structures, {each.modality}: {each.title}")


def _all_names(names: list[str], file: Path | None, protocol: str | None) -> list[str]:
    collected = list(names)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"--file {file}: {error.strerror or error}; expected a text file") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"--file {file}: not text in UTF-8; expected one name on each line") from error
        collected += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if protocol is not None:
        from oncoseg_structures.reading import read_protocol

        collected += [one.name for one in read_protocol(protocol).structures]
    if not collected:
        raise UsageError("no names to check; give names, --file FILE or --protocol NAME")
    return collected


def _line(one: NameCheck) -> str:
    if one.ok:
        return f"{one.name}: {one.category}"
    nearest = f"; nearest: {', '.join(one.nearest)}" if one.nearest else "; no name is near"
    return f"{one.name}: {one.problem}: {one.message}{nearest}"


def _lines(protocol: Protocol) -> list[str]:
    parts = f"; body part {' or '.join(protocol.body_parts)}" if protocol.body_parts else ""
    lines = [f"{protocol.name}: {protocol.title} ({protocol.modality}{parts})"]
    for one in protocol.structures:
        volume = f"{one.volume_ml[0]:g}-{one.volume_ml[1]:g} mL" if one.volume_ml is not None else ""
        colour = "#" + "".join(f"{part:02x}" for part in one.colour)
        head = f"{one.name:<17}{colour}  {one.interpreted_type:<9} {one.side or '':<6}"
        lines.append(f"{head}{volume:<14}{one.text or ''}".rstrip())
    return lines
