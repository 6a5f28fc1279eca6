"""``oncoseg``: the core's commands and those that plugins add. ``--help`` imports nothing heavy."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from oncoseg_core import __version__
from oncoseg_core.cli.command_line import run_app
from oncoseg_core.cli.output import cell, reserved_stdout, say, say_json
from oncoseg_core.contract.answers import Provider, naming
from oncoseg_core.contract.errors import PluginError, UsageError
from oncoseg_core.contract.records import CommandSpec
from oncoseg_core.plugins.registry import Registry, load_factory, load_plugins
from oncoseg_core.system.output import printable


@lru_cache(maxsize=1)
def installed_registry() -> Registry:
    """The installed plugins, found once per process."""
    return load_plugins()


class PluginGroup(TyperGroup):
    """Lists the plugins' commands by their records, and imports one only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The core's commands, then the plugins', each sorted."""
        own = sorted(super().list_commands(ctx))
        return own + [s.name for s in installed_registry().specs(CommandSpec) if s.name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command for the list of help: a plugin's is its record's summary alone."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        spec = next((s for s in installed_registry().specs(CommandSpec) if s.name == cmd_name), None)
        return None if spec is None else TyperCommand(name=spec.name, short_help=printable(spec.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called; a plugin's is imported now."""
        name = args[0]
        names = [s.name for s in installed_registry().specs(CommandSpec)]
        if name in names and super().get_command(ctx, name) is None:
            component = installed_registry().component(CommandSpec, name)
            plugin_app = load_factory(component)
            if not isinstance(plugin_app, typer.Typer):
                raise PluginError(f"command {name!r} of {component.plugin}: its factory is no typer.Typer app")
            return name, _naming_its_plugin(typer.main.get_command(plugin_app), component.provider), args[1:]
        return super().resolve_command(ctx, args)


def _naming_its_plugin(command: Any, provider: Provider) -> Any:
    """The command, whose errors name who provides it; not typer's own, which end it or tell of wrong usage."""
    invoke = command.invoke
    usage = next(parent for parent in typer.BadParameter.__mro__ if parent.__name__ == "ClickException")

    def invoke_naming(ctx: Any) -> Any:
        with naming(provider, "the command", passing=(typer.Exit, typer.Abort, usage, BrokenPipeError)):
            return invoke(ctx)

    command.invoke = invoke_naming
    return command


app = typer.Typer(
    cls=PluginGroup,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="OncoSeg: adapt promptable segmentation models to cancer imaging. Research software, no clinical clearance.",
    epilog="Example: oncoseg samples fetch. Any command takes --debug for a traceback.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"oncoseg-core {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


plugins_app = typer.Typer(invoke_without_command=True, epilog="Example: oncoseg plugins --json")
app.add_typer(plugins_app, name="plugins", short_help="List every component, or show one.")


@plugins_app.callback()
def plugins(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List every component: kind, name, distribution, version, status. Exits 1 when a plugin failed."""
    if ctx.invoked_subcommand is not None:
        return
    registry = installed_registry()
    rows = [
        {
            "kind": component.spec.kind,
            "name": component.spec.component_name,
            "distribution": component.plugin.name,
            "version": component.plugin.version,
            "status": component.plugin.status,
            "summary": component.spec.summary,
        }
        for component in registry.components
    ]
    conflicts = registry.conflicts()
    unwell = [plugin for plugin in registry.plugins if plugin.cause]
    if as_json:
        others = [{"distribution": p.name, "version": p.version, "status": p.status, "cause": p.cause} for p in unwell]
        say_json({"components": rows, "plugins": others, "conflicts": conflicts})
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("kind", "name", "distribution", "version", "status")
        for row in sorted(rows, key=lambda row: (row["kind"], row["name"])):
            table.add_row(*(cell(row[key]) for key in ("kind", "name", "distribution", "version", "status")))
        Console(highlight=False).print(table)
        for plugin in unwell:
            say(f"{plugin}: {plugin.status}: {plugin.cause}")
        for conflict in conflicts:
            say(f"conflict: {conflict}")
    if conflicts or any(plugin.failed for plugin in unwell):
        raise typer.Exit(1)


@plugins_app.command("show", epilog="Example: oncoseg plugins show ct --image chest.nii.gz --set window=lung")
def show_component(
    name: Annotated[str, typer.Argument(help="The component's name, such as ct.")],
    kind: Annotated[str | None, typer.Option(help="Its kind, where several components have the name.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Draw what the normalizer does to this image, not to its own example.")
    ] = None,
    slice_index: Annotated[int | None, typer.Option("--slice", help="Which slice; the middle one by default.")] = None,
    channels: Annotated[str | None, typer.Option(metavar="I,J,K", help="Channels to show, by index or mode.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The PNG; by default NAME.png here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a PNG that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a component is and takes; of a normalizer, draw a slice and its histogram before and after to a PNG."""
    from pydantic_core import to_jsonable_python

    from oncoseg_core.cli.show_component import describe, find, picture_of
    from oncoseg_core.path.channels import parse_channels
    from oncoseg_core.plugins.configuration import apply_overrides
    from oncoseg_core.system.atomic import atomic_write

    component = find(installed_registry(), name, kind)
    target = output or Path(f"{name}.png")
    drawn = component.spec.kind == "normalizer"
    if not drawn and (image is not None or output is not None):
        raise UsageError(f"{name!r} is a {component.spec.kind}; only a normalizer is drawn: leave --image and --output")
    if drawn and target.exists() and (not overwrite or (image is not None and target.samefile(image))):
        raise UsageError(f"{target} exists; give another name (--output), or --overwrite to replace it")
    with reserved_stdout():
        told = describe(component)
        if drawn:
            chosen = None if channels is None else parse_channels(channels)
            values = apply_overrides({}, settings or [])
            png = picture_of(installed_registry(), component, image, slice_index, values, chosen)
            atomic_write(target, png)
            told["picture"] = str(target)
    if as_json:
        say_json(to_jsonable_python(told, fallback=str))
    else:
        for key, value in told.items():
            if value:
                say(f"{key}: {value}")


@app.command(short_help="Look at this machine, or at an image.", epilog="Example: oncoseg doctor --series ./CT")
def doctor(
    series: Annotated[
        Path | None, typer.Option(help="Look at this image instead: a DICOM folder or zip, or an image file.")
    ] = None,
    image_set: Annotated[
        list[str] | None, typer.Option("--image-set", metavar="KEY=VALUE", help="How to read it, such as series=3.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at versions, devices, plugins, weights and disk, or at a series. Exits 1 when something is wrong."""
    from oncoseg_core.cli.doctor import examine, examine_image

    if series is None and image_set:
        raise UsageError("--image-set says how to read the image of --series; give that too")
    registry = installed_registry()
    with reserved_stdout():
        findings = (
            examine(registry) if series is None else examine_image(registry, series, image_set or [], "--image-set")
        )
    if as_json:
        say_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.ok else 'BAD '} {finding.what}: {finding.found}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the program."""
    run_app(app, without_arguments=["--help"])
