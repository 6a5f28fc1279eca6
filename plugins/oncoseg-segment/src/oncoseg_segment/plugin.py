"""What this distribution provides. Light: no torch."""

from collections.abc import Iterator

from oncoseg_core import CommandSpec, hookimpl


@hookimpl
def oncoseg_commands() -> Iterator[CommandSpec]:
    """``oncoseg segment``, ``oncoseg export`` and ``oncoseg export-model``."""
    yield CommandSpec(
        name="segment",
        factory="oncoseg_segment.cli.segment_command:app",
        summary="Segment structures on an image, volume or DICOM series with a promptable model",
    )
    yield CommandSpec(
        name="export",
        factory="oncoseg_segment.cli.export_command:app",
        summary="Write masks or structures on their DICOM series as RTSTRUCT or SEG",
    )
    yield CommandSpec(
        name="export-model",
        factory="oncoseg_segment.cli.export_model_command:app",
        summary="Write a model with its adapter as ONNX files for a Triton server",
    )
