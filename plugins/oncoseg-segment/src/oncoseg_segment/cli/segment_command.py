"""``oncoseg segment``: its options, and what it prints. Light: what it needs is imported when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from oncoseg_core import UsageError
from oncoseg_core.cli import SquareFit, reserved_stdout, say, say_json
from oncoseg_segment.cli.options import export_settings, options_in_messages, with_options

OPTIONS = {
    "slice_index": "--slice",
    "slices": "--slices",
    "propagate": "--propagate",
    "units": "--units",
    "box": "--box",
    "point": "--point",
    "text": "--text",
    "exemplar": "--exemplar",
    "scribble": "--scribble",
    "lasso": "--lasso",
    "model": "--model",
    "structures": "--structure",
    "modality": "--modality",
    "fit": "--fit",
    "zoom": "--zoom",
    "zoom.context": "--zoom-set context=…",
    "minimum_score": "--minimum-score",
    "overlaps": "--overlaps",
    "outputs": "--output",
    "overwrite": "--overwrite",
    "strict": "--strict",
    "export_settings": "--export-set",
}
"""How the command spells the fields that messages of the library name."""


class Zoom(StrEnum):
    """When the model is shown a window around the object."""

    off = "off"
    auto = "auto"
    always = "always"


class Device(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class NumberFormat(StrEnum):
    """In what the model computes."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Units(StrEnum):
    """In what prompts are given."""

    voxel = "voxel"
    mm = "mm"


class Overlap(StrEnum):
    """What becomes of voxels that several structures claim."""

    keep = "keep"
    first = "first"
    highest_score = "highest-score"


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: oncoseg segment chest.nii.gz --model litemedsam --box 120,200,180,260 --slice 31")
def segment(
    image: Annotated[
        Path, typer.Argument(help="NIfTI, NRRD, MHA/MHD, PNG, JPEG or TIFF; a DICOM folder, zip or file.")
    ],
    model: Annotated[str, typer.Option(help="The model's name; oncoseg plugins lists them.")],
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X0,Y0,[Z0,]X1,Y1[,Z1]",
            help="Around the object, in pixels of the stored slice, y down; Z0 and Z1 are slices, both included.",
        ),
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y[,Z]", help="A click on it, on slice Z; repeatable.")
    ] = None,
    negative_point: Annotated[
        list[str] | None, typer.Option("--negative-point", metavar="X,Y[,Z]", help="A click beside it; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="What to look for, such as 'lung tumour'.")
    ] = None,
    exemplar: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="Around one example of what to look for; repeatable."),
    ] = None,
    negative_exemplar: Annotated[
        list[str] | None,
        typer.Option("--negative-exemplar", metavar="X0,Y0,X1,Y1", help="Around what is not meant; repeatable."),
    ] = None,
    scribble: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,X,Y,...[@Z]", help="A line over it, on slice Z; repeatable.")
    ] = None,
    negative_scribble: Annotated[
        list[str] | None,
        typer.Option("--negative-scribble", metavar="X,Y,X,Y,...[@Z]", help="A line beside it; repeatable."),
    ] = None,
    lasso: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,X,Y,...[@Z]", help="Its outline, on slice Z; it closes itself.")
    ] = None,
    units: Annotated[
        Units, typer.Option(help="Of the numbers above; mm: patient coordinates (LPS), always with z.")
    ] = Units.voxel,
    slice_index: Annotated[
        int | None, typer.Option("--slice", help="Index along the stored z axis, from 0; needless for one slice.")
    ] = None,
    slices: Annotated[
        str | None, typer.Option(metavar="A:B|all", help="The same prompt on several slices; A and B included.")
    ] = None,
    propagate: Annotated[
        bool, typer.Option("--propagate", help="Follow the object from --slice through the volume, both ways.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="The structure's name; by default the text, or 'object'.")] = None,
    structure: Annotated[
        list[str] | None,
        typer.Option("--structure", metavar="NAME", help="Of an automatic model, which takes no prompts; repeatable."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Several structures at once, in place of the options above."),
    ] = None,
    overlaps: Annotated[
        Overlap, typer.Option(help="Voxels of several structures: to all, to the first, or to the surest there.")
    ] = Overlap.keep,
    minimum_score: Annotated[
        float | None,
        typer.Option("--minimum-score", metavar="S", help="Leave out structures that the model is less sure of."),
    ] = None,
    propagate_set: Annotated[
        list[str] | None, typer.Option("--propagate-set", metavar="KEY=VALUE", help="How, such as tracker=own.")
    ] = None,
    zoom: Annotated[Zoom, typer.Option(help="Show the model a window around a small object.")] = Zoom.auto,
    zoom_set: Annotated[
        list[str] | None, typer.Option("--zoom-set", metavar="KEY=VALUE", help="How, such as expected_mm=12.")
    ] = None,
    model_set: Annotated[
        list[str] | None, typer.Option("--model-set", metavar="KEY=VALUE", help="The model's own, as weights=FILE.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the model runs; auto is CUDA if there is one.")] = Device.auto,
    precision: Annotated[NumberFormat, typer.Option(help="In what the model computes.")] = NumberFormat.fp32,
    image_set: Annotated[
        list[str] | None,
        typer.Option("--image-set", metavar="KEY=VALUE", help="The image format's own, such as series=3 of DICOM."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the intensities are, such as ct; else what the file tells or is sure.")
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="I,J,K", help="Which channels to take, by index or mode, of an image with more than three."
        ),
    ] = None,
    fit: Annotated[
        SquareFit | None,
        typer.Option(help="Pad a slice to the model's square, or stretch it; by default as the adapter was trained."),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="A LoRA adapter: its folder, as oncoseg-train writes it, or the name of a pulled one."),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="[FORMAT=]FILE",
            help="The structures' file; repeatable; by default IMAGE_mask.nii.gz here. Beside the first go a manifest "
            "(.json) and a preview (.png).",
        ),
    ] = None,
    export_set: Annotated[
        list[str] | None,
        typer.Option("--export-set", metavar="FORMAT.KEY=VALUE", help="An output format's own, as rtstruct.label=T."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Export nothing where there is a warning.")] = False,
    identify: Annotated[
        bool, typer.Option("--identify", help="Put real paths in the manifest, which may name the patient.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs, manifest and preview that exist.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
    allow_broken_plugins: Annotated[
        bool, typer.Option("--allow-broken-plugins", help="Go on although a plugin failed to load.")
    ] = False,
) -> None:
    """Segment what prompts ask for, or what an automatic model finds, and write it in the image's own geometry."""
    from oncoseg_core.cli import installed_registry

    registry = installed_registry()
    if not allow_broken_plugins:
        registry.require_sound()
    from oncoseg_segment.cli.automatic import segment_without_prompts
    from oncoseg_segment.cli.prompt_options import PromptOptions
    from oncoseg_segment.engine.automatic import is_automatic
    from oncoseg_segment.prompts.prompt_file import read_prompts

    options = PromptOptions(
        boxes=box or (),
        points=point or (),
        negative_points=negative_point or (),
        texts=text or (),
        exemplars=exemplar or (),
        negative_exemplars=negative_exemplar or (),
        scribbles=scribble or (),
        negative_scribbles=negative_scribble or (),
        lassos=lasso or (),
        slice_index=slice_index,
        slices=slices,
        propagate=propagate,
        target=target,
        units=units.value,
    )
    if is_automatic(registry, model):
        useless = {
            "a prompt": options.given or prompts is not None,
            "--adapter": adapter,
            "--fit": fit,
            "--channels": channels,
            "--overlaps highest-score": overlaps is Overlap.highest_score,
            "--propagate-set": propagate_set,
            "--zoom": zoom is not Zoom.auto or zoom_set,
            "--device": device is not Device.auto,
            "--precision": precision is not NumberFormat.fp32,
        }
        manifest = segment_without_prompts(
            registry,
            [option for option, given in useless.items() if given],
            image=image,
            model=model,
            model_set=model_set or (),
            structures=structure,
            image_set=image_set,
            modality=modality,
            minimum_score=minimum_score,
            first_claims=overlaps is Overlap.first,
            outputs=output or (),
            export_set=export_set or (),
            strict=strict,
            identify=identify,
            overwrite=overwrite,
        )
        _show(manifest, as_json=as_json)
        return
    if structure:
        raise UsageError(
            f"--structure is for automatic models; {model!r} is asked by --box, --point, --text and others"
        )
    if prompts is not None and options.given:
        raise UsageError(
            "--prompts FILE says all of what to segment; leave --box, --point, --text, --exemplar, --scribble, "
            "--lasso, --slice, --slices, --propagate, --target and --units out"
        )
    with options_in_messages(OPTIONS):
        structures = (options.structure(),) if prompts is None else read_prompts(prompts)

    from oncoseg_core.cli import progress_bar
    from oncoseg_core.imaging import reader_settings
    from oncoseg_core.path import parse_channels
    from oncoseg_core.plugins import apply_overrides
    from oncoseg_segment.engine.settings import SegmentSettings
    from oncoseg_segment.files.run import SegmentRequest, segment_file

    settings = SegmentSettings(
        model=model,
        model_settings=apply_overrides({}, model_set or (), "--model-set", "weights=FILE"),
        adapter=adapter,
        modality=modality,
        channels=None if channels is None else parse_channels(channels),
        fit=None if fit is None else fit.value,
        device=device.value,
        precision=precision.value,
        zoom=_zoom(zoom, zoom_set or ()),
        propagation=_propagation(propagate_set or (), follows=any(one.propagate for one in structures)),
        overlaps=overlaps.value,
        minimum_score=minimum_score,
    )
    with options_in_messages(OPTIONS), reserved_stdout(), progress_bar() as progress:
        request = SegmentRequest(
            image=image,
            structures=structures,
            settings=settings,
            image_settings=reader_settings(registry, image, image_set, "--image-set") if image_set else {},
            outputs=output or (),
            export_settings=export_settings(export_set or ()),
            strict=strict,
            identify=identify,
            overwrite=overwrite,
            inputs=() if prompts is None else (prompts,),
        )
        manifest = segment_file(registry, request, progress)
    _show(manifest, as_json=as_json)


def _show(manifest: Mapping[str, Any], *, as_json: bool) -> None:
    """Print findings and what a person wants to know at once, or the whole manifest."""
    for finding in manifest["findings"]:
        say(f"{finding['level']}: {with_options(finding['message'], OPTIONS)}", err=True)
    if as_json:
        say_json(manifest)
        return
    for line in _lines(manifest):
        say(with_options(line, OPTIONS))


def _zoom(zoom: Zoom, texts: Sequence[str]) -> Any:
    """How to zoom; None for not at all.

    Raises:
        UsageError: a setting is wrong, or nothing would read it.
    """
    from oncoseg_core.path import ZoomSettings
    from oncoseg_core.plugins import apply_overrides, validate

    if zoom is Zoom.off:
        if texts:
            raise UsageError("--zoom-set does nothing without --zoom auto or --zoom always")
        return None
    values = apply_overrides({}, texts, "--zoom-set", "expected_mm=12")
    return validate(ZoomSettings, {**values, "when": zoom.value}, "--zoom-set")


def _propagation(texts: Sequence[str], *, follows: bool) -> Any:
    """How structures are followed.

    Raises:
        UsageError: a setting is wrong, or nothing would read it.
    """
    from oncoseg_core.plugins import apply_overrides, validate
    from oncoseg_segment.engine.propagation import PropagationSettings

    if texts and not follows:
        raise UsageError("--propagate-set does nothing without --propagate")
    values = apply_overrides({}, texts, "--propagate-set", "minimum_score=0.7")
    return validate(PropagationSettings, values, "--propagate-set")


def _lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to know at once; the manifest has the rest."""
    for output in manifest["outputs"]:
        yield f"{output['format']}: {', '.join(one['file'] for one in output['files'])}"
        yield from (f"  {note}" for note in output["notes"])
    if manifest["preview"] is not None:
        yield f"preview: {manifest['preview']}"
    for structure in manifest["structures"]:
        yield f"structure: {structure['name']}"
        if structure["left out"] is not None:
            yield f"  left out: {structure['left out']}"
        hidden = {"name", "number", "left out", "per slice", "voxels given to others", "measurements", "prompt"}
        yield from (f"  {key}: {value}" for key, value in structure.items() if key not in hidden and value is not None)
        diameters = structure["measurements"]["diameters"]
        if diameters is not None:
            longest, perpendicular = diameters["longest"]["mm"], diameters["perpendicular"]["mm"]
            yield f"  longest diameter: {longest:.1f} x {perpendicular:.1f} mm on slice {diameters['slice']}"
    yield f"weights: {manifest['model']['weights']}"
    yield f"modality: {manifest['modality']}"
    if "device" in manifest:
        yield f"device: {manifest['device']}"
