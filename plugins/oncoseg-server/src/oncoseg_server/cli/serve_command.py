"""``oncoseg serve``. Light until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        serve_forever(settings, registry, progress, lambda line: say(line, err=True), demo=demo)
