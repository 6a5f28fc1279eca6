"""What this distribution provides. Light: no pydicom, no highdicom."""

from collections.abc import Iterator

from oncoseg_core import ExporterSpec, ReaderSpec, hookimpl


@hookimpl
def oncoseg_readers() -> Iterator[ReaderSpec]:
    """DICOM series as images; RTSTRUCT and SEG as structures."""
    yield ReaderSpec(
        format="dicom",
        suffixes=(".dcm", ".zip"),
        factory="oncoseg_dicom.reader:DicomReader",
        summary="DICOM series from a folder, zip or file; structures from RTSTRUCT and DICOM SEG",
    )


@hookimpl
def oncoseg_exporters() -> Iterator[ExporterSpec]:
    """Structures on the series that they were drawn on."""
    yield ExporterSpec(
        format="rtstruct",
        suffix=".dcm",
        needs_source=True,
        factory="oncoseg_dicom.rtstruct.write:RTStructExporter",
        summary="DICOM RT Structure Set: contours along the voxels' edges, for planning systems",
    )
    yield ExporterSpec(
        format="seg",
        suffix=".dcm",
        needs_source=True,
        factory="oncoseg_dicom.seg.write:SegExporter",
        summary="DICOM Segmentation: the voxels themselves, with coded anatomy, for archives",
    )
