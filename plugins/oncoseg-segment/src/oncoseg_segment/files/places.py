"""One image and the files that are made of it: where each goes, once nothing is in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oncoseg_core import Registry
from oncoseg_core.imaging import RecognisedPath
from oncoseg_segment.files.export import Destinations, destinations
from oncoseg_segment.files.outputs import require_free


@dataclass(frozen=True, kw_only=True)
class FileRequest:
    """One image, and where its structures go.

    ``outputs`` are ``FILE`` or ``FORMAT=FILE``; ``export_settings`` are by format. ``strict``: export nothing where
    there is a warning. ``identify``: real paths in the manifest. ``inputs`` are further files that were read to make
    this request, which no output may replace.
    """

    image: Path
    image_settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    export_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strict: bool = False
    identify: bool = False
    overwrite: bool = False
    inputs: Sequence[Path] = ()


@dataclass(frozen=True)
class Places:
    """Where everything is written."""

    structures: Destinations
    manifest: Path
    preview: Path
    planned: Sequence[tuple[Path, str]]
    inputs: Sequence[Path]

    def stale(self) -> str:
        """What a refusal adds: outputs of an earlier run that are still there."""
        old = [output.path.name for output in self.structures.outputs if output.path.exists()]
        return f"; from an earlier run there is still {', '.join(old)}" if old else ""


def places_of(registry: Registry, request: FileRequest, image_file: RecognisedPath) -> Places:
    """Where everything goes, once it is sure that nothing is in the way.

    Raises:
        UsageError, ConfigError: an output or a setting cannot be meant, or a file is in the way.
    """
    default = f"{_stem(request.image)}_mask.nii.gz" if image_file.spec is None else "series_mask.nii.gz"
    structures = destinations(
        registry, request.outputs or [default], image_file, request.image_settings, request.export_settings
    )
    first = structures.outputs[0].path
    manifest, preview = (first.with_name(f"{_stem(first)}{suffix}") for suffix in (".json", ".png"))
    planned = [*structures.files(), (manifest, "the manifest"), (preview, "the preview")]
    inputs = [request.image, *request.inputs]
    require_free(planned, inputs, overwrite=request.overwrite)
    return Places(structures, manifest, preview, planned, inputs)


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (".nii.gz", path.suffix):
        if suffix and name.lower().endswith(suffix.lower()):
            return name[: -len(suffix)]
    return name
