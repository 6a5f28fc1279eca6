"""``oncoseg export-model``: a model with its adapter as ONNX files for a Triton server. Light until it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oncoseg_core.cli import reserved_stdout, say, say_json
from oncoseg_segment.cli.options import options_in_messages

OPTIONS = {"output": "OUTPUT", "adapter": "--adapter", "format": "--format", "model_settings": "--model-set"}
"""How the command spells the fields that messages of the library name."""

app = typer.Typer(add_completion=False)


class Layout(StrEnum):
    """What is written: a Triton model repository, or the ONNX files alone."""

    triton = "triton"
    onnx = "onnx"


@app.command(name="export-model", epilog="Example: oncoseg export-model litemedsam ./repository --adapter ./my-adapter")
def export_model_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name, such as litemedsam.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder to write; it must not be there yet.")],
    adapter: Annotated[
        str | None, typer.Option(metavar="FOLDER|NAME", help="An adapter, merged into the weights that are written.")
    ] = None,
    layout: Annotated[
        Layout, typer.Option("--format", help="A Triton model repository, or the ONNX files alone.")
    ] = Layout.triton,
    model_set: Annotated[
        list[str] | None, typer.Option("--model-set", metavar="KEY=VALUE", help="The model's own, as weights=FILE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    allow_broken_plugins: Annotated[
        bool, typer.Option("--allow-broken-plugins", help="Go on although a plugin failed to load.")
    ] = False,
) -> None:
    """Write a model as ONNX files with their configuration for a Triton server; all or nothing, over nothing."""
    from oncoseg_core.cli import installed_registry

    registry = installed_registry()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_core.plugins import apply_overrides
    from oncoseg_segment.files.model_repository import ModelExport, export_model

    with options_in_messages(OPTIONS):
        settings = apply_overrides({}, model_set or (), "--model-set", "weights=FILE")
        with reserved_stdout():
            written = export_model(registry, ModelExport(model, output, settings, adapter, layout.value))
    if as_json:
        say_json(written)
        return
    say(f"written: {written['output']}")
    for one in written["files"]:
        say(f"{one['name']}: {one['sha256']}")
