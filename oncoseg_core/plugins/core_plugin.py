"""What the core itself provides through its own hooks: the formats that it reads, to write. Light."""

from __future__ import annotations

from collections.abc import Iterator

from oncoseg_core.contract.hookspecs import hookimpl
from oncoseg_core.contract.records import ExporterSpec


@hookimpl
def oncoseg_exporters() -> Iterator[ExporterSpec]:
    """One label image for all structures, in the formats of :mod:`oncoseg_core.imaging.formats`."""
    for name, suffix, factory, title in (
        ("nifti", ".nii.gz", "NiftiExporter", "NIfTI-1"),
        ("nrrd", ".nrrd", "NrrdExporter", "NRRD"),
        ("mha", ".mha", "MhaExporter", "MetaImage"),
    ):
        yield ExporterSpec(
            format=name,
            suffix=suffix,
            factory=f"oncoseg_core.imaging.label_images:{factory}",
            summary=f"{title}: one label image, 1, 2, … for structures that do not overlap",
        )
