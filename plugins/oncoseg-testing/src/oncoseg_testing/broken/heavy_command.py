"""A command whose module imports at its top what only the command itself needs."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk
import typer

heavy = typer.Typer(add_completion=False)


@heavy.command(epilog="Example: oncoseg hello chest.nii.gz")
def hello(image: Path) -> None:
    """Say hello to an image."""
    typer.echo(f"hello {sitk.ReadImage(image).GetSize()}")
