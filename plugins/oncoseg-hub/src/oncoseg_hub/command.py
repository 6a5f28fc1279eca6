"""``oncoseg adapters``: what is on this machine, what comes from the hub, what goes there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from oncoseg_core.cli import SquareFit, say, say_json
from oncoseg_lora import HubName

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="LoRA adapters: list those here, pull from the Hugging Face hub, push there.\n\n"
    "Example: oncoseg adapters pull lab/lung-adapters/v2",
)

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TABLE_WIDTH = 160


@app.command("list")
def list_adapters(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Adapters that were not pulled, too.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """List the pulled adapters: model, base weights, data, mean score, size. Exits 1 when one is damaged.

    Example: oncoseg adapters list runs/quickstart/adapter
    """
    from rich.console import Console

    from oncoseg_hub.listing import rows, table

    found = rows(folders or [])
    damaged = [row for row in found if row["problem"] is not None]
    if as_json:
        say_json(found)
    elif not found:
        say("No adapter was pulled. `oncoseg adapters pull NAME` fetches one.")
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else TABLE_WIDTH)
        console.print(table(found))
        for row in damaged:
            say(f"{row['name']}: {row['problem']}")
    if damaged:
        raise typer.Exit(1)


@app.command()
def pull(
    reference: Annotated[
        str, typer.Argument(help="OWNER/REPOSITORY, OWNER/REPOSITORY/FOLDER, or latest, breast, liver, brain.")
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the default branch if omitted.")] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for it; the user's cache if omitted.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Fetch an adapter, check its hashes, keep it under its name. Only data is fetched, never code.

    Example: oncoseg adapters pull lab/lung-adapters/v2 --revision main
    """
    from oncoseg_hub.client import connect
    from oncoseg_hub.pull import pull as pull_adapter
    from oncoseg_hub.reference import parse_reference

    name, alias = parse_reference(reference)
    done = pull_adapter(connect(), name, alias=alias, revision=revision, into=into)
    if as_json:
        told = {**done.origin.model_dump(), "folder": str(done.folder), "was_there": done.was_there}
        say_json({**told, "model": done.manifest.model})
        return
    say(f"{done.origin.name} at {done.origin.revision[:12]}{' was there already' if done.was_there else ''}")
    say(f"folder: {done.folder}")
    say(f"model: {done.manifest.model}, base weights {done.manifest.base_weights_sha256}")
    called = done.folder if into is not None else (alias or done.origin.name)
    say(f"use it: oncoseg segment IMAGE --model {done.manifest.model} --adapter {called} --box X0,Y0,X1,Y1")


@app.command("import")
def import_peft(
    source: Annotated[Path, typer.Argument(help="A folder of PEFT: adapter_config.json, adapter_model.safetensors.")],
    destination: Annotated[Path, typer.Argument(help="A new folder for the adapter.")],
    model: Annotated[str, typer.Option(help="The model that it was trained for, such as sam3.")],
    modality: Annotated[list[str], typer.Option(help="A modality that it was trained on; may be repeated.")],
    fit: Annotated[
        SquareFit,
        typer.Option(help="How its images filled the model's square: Meta's and Hugging Face's stretch them."),
    ] = SquareFit.letterbox,
    model_set: Annotated[
        list[str] | None, typer.Option("--model-set", metavar="KEY=VALUE", help="A setting of the model: its weights.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Turn a plain LoRA adapter of PEFT into one of OncoSeg, and say what is not known of it. Nothing is dropped.

    Example: oncoseg adapters import peft-run lungs --model sam3 --modality ct --model-set weights=sam3.pt
    """
    from oncoseg_core import ModelSpec, NormalizerSpec, load_plugins
    from oncoseg_core.path import parts_of
    from oncoseg_core.plugins import apply_overrides, library_versions
    from oncoseg_lora import import_adapter

    registry = load_plugins()
    for part in (part for one in modality for part in parts_of(one)):
        registry.get(NormalizerSpec, part)
    built = registry.build(ModelSpec, model, apply_overrides({}, model_set or (), "--model-set", "weights=FILE"))
    versions = {**library_versions(), **registry.versions()}
    done = import_adapter(built, source, destination, modalities=modality, versions=versions, fit=fit.value)
    if as_json:
        say_json({"folder": str(destination), "model": model, "lora": done.settings.model_dump(), "notes": done.notes})
        return
    said = f"rank {done.settings.rank}, alpha {done.settings.alpha}, policy {done.settings.policy}"
    say(f"folder: {destination}")
    say(f"model: {model}, base weights {built.weights_sha256}, {done.n_layers} layers, {said}")
    for note in done.notes:
        say(f"- {note}")


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="The adapter's folder, as oncoseg-train writes it.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/REPOSITORY", help="Made when there is none.")],
    name: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="A folder in the repository, which then may hold several.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only into a private repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show, send nothing.")] = False,
) -> None:
    """Send an adapter to the hub: weights, manifest, the hashes of what it was trained on, and the card.

    Example: oncoseg adapters push runs/lungs/adapter lab/lung-adapters --name v2 --private
    """
    from oncoseg_hub.client import connect
    from oncoseg_hub.push import push as push_adapter
    from oncoseg_hub.push import to_send
    from oncoseg_hub.reference import parse_target

    target: HubName = parse_target(repository, name)
    contents = to_send(folder)
    for file, content in contents.items():
        say(f"{len(content):>12} bytes  {file}")
    if dry_run:
        say(f"Nothing was sent; it would go to {target.name}.")
        return
    done = push_adapter(connect(), contents, target, private=private, say=say)
    say(f"{done.name.name} at {done.revision[:12]}")
    say(f"page: {done.url}")
