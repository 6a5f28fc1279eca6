"""``oncoseg serve``. Light until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="The server's settings.")] = None,
    host: Annotated[str | None, typer.Option(help="The address to bind to; 127.0.0.1 is this machine alone.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = None,
    model: Annotated[str | None, typer.Option(help="Serve this model alone, with its default settings.")] = None,
    folder: Annotated[Path | None, typer.Option(help="A folder of DICOM files to serve as one more source.")] = None,
    viewer: Annotated[bool | None, typer.Option("--viewer", help="Serve the viewer OHIF as well; npm fetches it.")] = None,
) -> None:
    """Answer prompts over HTTP beside a PACS: for OHIF, napari, Slicer and scripts."""
    from oncoseg_server.config.read import read_settings
    from oncoseg_server.web.run import run_server

    options = {"host": host, "port": port, "model": model, "folder": folder, "viewer": viewer}
    run_server(read_settings(config, options))
