"""What this distribution provides. Every ``oncoseg`` command loads this module, so it imports records only."""

from collections.abc import Iterator

from oncoseg_core import ExporterSpec, hookimpl

SPEC = ExporterSpec(
    format="newname",
    suffix=".nrrd",
    factory="oncoseg_newname.exporter:NewnameExporter",
    summary="NRRD with one layer per target, which may overlap",
)


@hookimpl
def oncoseg_exporters() -> Iterator[ExporterSpec]:
    """The exporter."""
    yield SPEC
