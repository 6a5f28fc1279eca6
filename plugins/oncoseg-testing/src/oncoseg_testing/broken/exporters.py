"""Exporters that each break one rule; :class:`Nifti` breaks none."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from oncoseg_core import BoolArray, Exporter, ExportReport, Geometry, Registry, Segmentation, StorageError, Volume
from oncoseg_core.imaging import read_masks, write_segmentation
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.exporters import check_exporter


def check(broken: type[Exporter]) -> None:
    """Check a class in a folder that goes."""
    with tempfile.TemporaryDirectory() as folder:
        check_exporter(broken(), Path(folder), suffix=".nii.gz", read_back=read_back)


def read_back(path: Path, image: Volume) -> dict[str, BoolArray]:
    """The masks of a label image."""
    return read_masks(Registry(), path, image).masks


EXAMPLES = BrokenExamples("exporter", check)


class Nifti(Exporter):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        write_segmentation(segmentation, destination)
        return ExportReport((destination,))


@EXAMPLES.breaks("refused with StorageError")
class RawError(Exporter):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        destination.write_bytes(b"x")
        return ExportReport((destination,))


@EXAMPLES.breaks("refused with StorageError")
class Silent(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        try:
            return super().export(segmentation, destination)
        except StorageError:
            return ExportReport((destination,))


@EXAMPLES.breaks("names the destination")
class Elsewhere(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        return super().export(segmentation, destination.with_name("other.nii.gz"))


@EXAMPLES.breaks("and no others")
class Littering(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        destination.with_name("temporary").write_bytes(b"x") if destination.parent.is_dir() else None
        return super().export(segmentation, destination)


@EXAMPLES.breaks("nothing is left behind")
class LitteringWhenRefused(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        if not destination.parent.is_dir():
            (destination.parent.parent / "half").write_bytes(b"x")
        return super().export(segmentation, destination)


class TwoFiles(Nifti):
    second = "legend.txt"

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        report = super().export(segmentation, destination)
        other = destination.with_name(self.second)
        other.write_text("1 liver tumour")
        return ExportReport((*report.files, other))


@EXAMPLES.breaks("all else that is written")
class UndeclaredFile(TwoFiles):
    pass


@EXAMPLES.breaks("takes the place of the manifest")
class InPlaceOfTheManifest(TwoFiles):
    second = "mask.json"

    def files(self, destination: Path) -> tuple[Path, ...]:
        return (destination, destination.with_name(self.second))


@EXAMPLES.breaks("not empty")
class EmptyFile(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        report = super().export(segmentation, destination)
        destination.write_bytes(b"")
        return report


@EXAMPLES.breaks("names the destination")
class NoReport(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        super().export(segmentation, destination)
        return None  # type: ignore[return-value]


@EXAMPLES.breaks("does not change it")
class ClearingMasks(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        report = super().export(segmentation, destination)
        for mask in segmentation.masks.values():
            mask[:] = False
        return report


@EXAMPLES.breaks("the same masks, in the same place")
class Flipped(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        masks = {name: np.ascontiguousarray(mask[:, ::-1]) for name, mask in segmentation.masks.items()}
        return super().export(replace(segmentation, masks=masks), destination)


@EXAMPLES.breaks("the same masks, in the same place")
class OtherWayAround(Nifti):
    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        affine = segmentation.geometry.affine.copy()
        affine[:2] *= -1  # as if LPS were RAS
        return super().export(
            replace(segmentation, geometry=Geometry(segmentation.geometry.shape, affine)), destination
        )
