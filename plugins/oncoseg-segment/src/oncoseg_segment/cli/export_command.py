"""``oncoseg export``: masks or structures on the series that they were drawn on. Light: no pydicom until it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oncoseg_core.cli import reserved_stdout, say, say_json
from oncoseg_segment.cli.options import export_settings, new_names, options_in_messages, with_options

OPTIONS = {
    "names": "--names",
    "outputs": "--output",
    "measurements": "--measurements",
    "overlaps": "--overlaps",
    "overwrite": "--overwrite",
    "strict": "--strict",
    "export_settings": "--export-set",
}
"""How the command spells the fields that messages of the library name."""

app = typer.Typer(add_completion=False)


class Overlap(StrEnum):
    """What becomes of voxels that several structures claim."""

    keep = "keep"
    first = "first"


@app.command(epilog="Example: oncoseg export mask.nii.gz --on ./CT --names 1=liver -o rtstruct=rs.dcm -o seg=seg.dcm")
def export(
    masks: Annotated[
        Path, typer.Argument(metavar="MASK", help="A label image (NIfTI, NRRD, MHA), RTSTRUCT or DICOM SEG.")
    ],
    on: Annotated[
        Path, typer.Option(help="The image that they belong to: a DICOM folder, zip or file, or an image file.")
    ],
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="[FORMAT=]FILE", help="A file to write; repeatable."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(metavar="1=NAME,2=NAME", help="What a label image's values mean; or OLD=NEW of structures."),
    ] = None,
    measurements: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write volumes, diameters and intensities there.")
    ] = None,
    image_set: Annotated[
        list[str] | None,
        typer.Option("--image-set", metavar="KEY=VALUE", help="How to read the image, such as series=3 of DICOM."),
    ] = None,
    mask_set: Annotated[
        list[str] | None,
        typer.Option("--mask-set", metavar="KEY=VALUE", help="How to read the masks, such as pixel_centre=true."),
    ] = None,
    export_set: Annotated[
        list[str] | None,
        typer.Option("--export-set", metavar="FORMAT.KEY=VALUE", help="An output's own, such as rtstruct.label=T."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the intensities are, such as ct; by default what the file tells.")
    ] = None,
    overlaps: Annotated[Overlap, typer.Option(help="Voxels of several structures: to all, or to the first.")] = (
        Overlap.keep
    ),
    made_by: Annotated[
        str | None, typer.Option("--made-by", metavar="TEXT", help="What made the masks, for the files' record.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Export nothing where there is a warning.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
    allow_broken_plugins: Annotated[
        bool, typer.Option("--allow-broken-plugins", help="Go on although a plugin failed to load.")
    ] = False,
) -> None:
    """Write masks on their series as RTSTRUCT, DICOM SEG or a label image, all outputs or none; measure and judge them.

    An RTSTRUCT or SEG has no place without its series, so --on is needed to read one too.
    """
    from oncoseg_core.cli import installed_registry

    registry = installed_registry()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_core.imaging import reader_settings
    from oncoseg_segment.files.export_masks import ExportRequest, export_masks

    with options_in_messages(OPTIONS):
        request = ExportRequest(
            masks=masks,
            on=on,
            outputs=output or (),
            names=new_names(names or ()),
            image_settings=reader_settings(registry, on, image_set, "--image-set") if image_set else {},
            mask_settings=reader_settings(registry, masks, mask_set, "--mask-set") if mask_set else {},
            export_settings=export_settings(export_set or ()),
            modality=modality,
            overlaps=overlaps.value,
            made_by=made_by,
            measurements=measurements,
            strict=strict,
            overwrite=overwrite,
        )
        with reserved_stdout():
            record = export_masks(registry, request)
    for finding in record["findings"]:
        say(f"{finding['level']}: {with_options(finding['message'], OPTIONS)}", err=True)
    if as_json:
        say_json(record)
        return
    for written in record["outputs"]:
        say(f"{written['format']}: {', '.join(one['file'] for one in written['files'])}")
        for note in written["notes"]:
            say(f"  {note}")
    for structure in record["structures"]:
        found = structure["measurements"]
        volume = "" if found["volume_ml"] is None else f", {found['volume_ml']:.4g} mL"
        say(f"structure: {structure['name']}, {found['voxels']} voxels{volume}")
