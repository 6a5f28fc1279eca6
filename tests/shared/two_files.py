"""An exporter that writes a second file beside its own, and says so beforehand or does not."""

from __future__ import annotations

from oncoseg_core import Exporter, ExporterSpec, ExportReport, Settings
from oncoseg_core.imaging import write_segmentation
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent


class SecondFile(Settings):
    second: str = "legend.txt"


class Undeclared(Exporter[SecondFile]):
    Settings = SecondFile

    def export(self, segmentation, destination):
        other = destination.with_name(self.settings.second)
        write_segmentation(segmentation, destination)
        other.write_text("second")
        return ExportReport((destination, other))


class Declared(Undeclared):
    def files(self, destination):
        return (destination, destination.with_name(self.settings.second))


class Elsewhere(Undeclared):
    def files(self, destination):
        return (destination, destination.parent / "more" / "legend.txt")


def two_file_components():
    return [
        RegisteredComponent(
            "oncoseg_exporters",
            ExporterSpec(format=name, suffix=".nii.gz", factory=f"two_files:{factory}", summary="test"),
            Plugin("oncoseg-two", "1.0"),
        )
        for name, factory in (("declared", "Declared"), ("undeclared", "Undeclared"), ("elsewhere", "Elsewhere"))
    ]
