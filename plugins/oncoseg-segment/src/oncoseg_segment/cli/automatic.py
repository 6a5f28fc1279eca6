"""``oncoseg segment`` with an automatic model. Light: what it needs is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oncoseg_core import Registry, UsageError
from oncoseg_core.cli import progress_bar, reserved_stdout
from oncoseg_segment.cli.options import export_settings, options_in_messages

OPTIONS: Mapping[str, str] = {
    "model": "--model",
    "structures": "--structure",
    "modality": "--modality",
    "overlaps": "--overlaps",
    "outputs": "--output",
    "overwrite": "--overwrite",
    "strict": "--strict",
    "export_settings": "--export-set",
}
"""How the command spells the fields that messages of the library name."""


def segment_without_prompts(
    registry: Registry,
    useless: Sequence[str],
    *,
    image: Path,
    model: str,
    model_set: Sequence[str],
    structures: Sequence[str] | None,
    image_set: Sequence[str] | None,
    modality: str | None,
    minimum_score: float | None,
    first_claims: bool,
    outputs: Sequence[str],
    export_set: Sequence[str],
    strict: bool,
    identify: bool,
    overwrite: bool,
) -> dict[str, Any]:
    """Segment with an automatic model, options as of the command; returns the manifest.

    Raises:
        UsageError: an option was given that such a model does not read (``useless``).
    """
    if useless:
        raise UsageError(
            f"{useless[0]} does nothing: {model!r} is an automatic model; --structure chooses what it segments, and "
            "--model-set sets what it reads"
        )
    from oncoseg_core.imaging import reader_settings
    from oncoseg_core.plugins import apply_overrides
    from oncoseg_segment.files.automatic_run import AutomaticRequest, segment_file_automatically

    with options_in_messages(OPTIONS), reserved_stdout(), progress_bar() as progress:
        request = AutomaticRequest(
            image=image,
            model=model,
            model_settings=apply_overrides({}, model_set, "--model-set", "folder=DIR"),
            structures=structures or None,
            modality=modality,
            minimum_confidence=minimum_score,
            overlaps="first" if first_claims else "keep",
            image_settings=reader_settings(registry, image, image_set, "--image-set") if image_set else {},
            outputs=outputs,
            export_settings=export_settings(export_set),
            strict=strict,
            identify=identify,
            overwrite=overwrite,
        )
        return segment_file_automatically(registry, request, progress)
