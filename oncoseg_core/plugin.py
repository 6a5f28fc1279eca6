"""What the core itself provides through its own hooks: the formats that it reads, to write. Light."""

from __future__ import annotations

from collections.abc import Iterator

from oncoseg_core.hookspecs import hookimpl
from oncoseg_core.records import ExporterSpec


@hookimpl
def oncoseg_exporters() -> Iterator[ExporterSpec]:
    """One label image for all structures, in the formats of :mod:`oncoseg_core.image_io`."""
    for name, suffix, factory, title in (
        ("nifti", ".nii.gz", "NiftiExporter", "NIfTI-1"),
        ("nrrd", ".nrrd", "NrrdExporter", "NRRD"),
        ("mha", ".mha", "MhaExporter", "MetaImage"),
    ):
        yield ExporterSpec(
            format=name,
            suffix=suffix,
            factory=f"oncoseg_core.label_exporters:{factory}",
            summary=f"{title}: one label image, 1, 2, … for structures that do not overlap",
        )
