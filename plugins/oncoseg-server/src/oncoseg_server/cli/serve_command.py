"""``oncoseg serve``. Light until it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oncoseg_core import UsageError

if TYPE_CHECKING:
    from oncoseg_server.config.settings import ServerSettings

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: oncoseg serve --demo --viewer")
def serve(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="The server's settings; options go before them.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address to bind to; by default 127.0.0.1, this computer alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; by default 8765, 0 takes any.")] = None,
    model: Annotated[str | None, typer.Option(help="Serve this model alone, with its default settings.")] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of DICOM files, as one more source.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Try models, sources and folders, one line each, and end; 1 if one fails.")
    ] = False,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Serve a real chest CT with a tumour too; the first time it is fetched."),
    ] = False,
    viewer: Annotated[
        bool, typer.Option("--viewer", help="Serve the viewer OHIF too; the first time npm fetches it.")
    ] = False,
    child: Annotated[
        bool,
        typer.Option(
            "--child",
            help="Serve the program that started this one: every model, any free port, address and token as JSON on "
            "standard output; ends with standard input.",
        ),
    ] = False,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|DIR", help="With --child: serve this adapter too, beside those that were pulled."),
    ] = None,
    allow_broken_plugins: Annotated[
        bool, typer.Option("--allow-broken-plugins", help="Go on although a plugin failed to load.")
    ] = False,
) -> None:
    """Answer prompts over HTTP beside a PACS: for OHIF, napari, Slicer and scripts."""
    from oncoseg_core.cli import installed_registry, progress_bar, say

    registry = installed_registry()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_server.config.read import read_settings

    if child:
        others = {
            "CONFIG.yaml": config, "--host": host, "--port": port, "--model": model, "--folder": folder,
            "--check": check or None, "--demo": demo or None, "--viewer": viewer or None,
        }  # fmt: skip
        _refuse([name for name, value in others.items() if value is not None])
        from oncoseg_server.web.child import serve_parent

        serve_parent(registry, adapter or ())
        return
    if adapter:
        raise UsageError("--adapter goes with --child; a server's adapters are in its CONFIG.yaml, under `models`")
    options = {"host": host, "port": port, "model": model, "folder": folder, "viewer": viewer or None}
    settings = read_settings(config, options)
    from oncoseg_server.web.check import lines_of
    from oncoseg_server.web.run import serve_forever
    from oncoseg_server.web.sources import opened_sources

    if check:
        with progress_bar() as progress, opened_sources(settings, registry, progress, demo=demo) as sources:
            sound = True
            for line in lines_of(settings, sources, registry):
                sound &= line.ok
                say(str(line))
        raise typer.Exit(0 if sound else 1)
    with progress_bar() as progress:
        serve_forever(settings, registry, progress, lambda url, _: say(_line(url, settings), err=True), demo=demo)


def _line(url: str, settings: ServerSettings) -> str:
    return f"serving at {url}{'/viewer/' if settings.viewer else ''} (Ctrl+C ends it)"


def _refuse(others: Sequence[str]) -> None:
    if others:
        raise UsageError(
            f"--child serves all models to the program that started it, and takes no {' and no '.join(others)}; leave "
            "that out, or --child"
        )
