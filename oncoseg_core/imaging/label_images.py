"""All structures as one label image, in the formats that the core reads: NIfTI, NRRD, MHA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from oncoseg_core.contract.errors import UsageError
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.interfaces import Exporter, ExportReport
from oncoseg_core.contract.volume import Segmentation
from oncoseg_core.imaging.formats import require_even, write_segmentation


def numbers_of(segmentation: Segmentation) -> str:
    """Which number of a label image is which structure, for whoever reads the report."""
    numbers = ", ".join(f"{number} is {name!r}" for number, name in enumerate(segmentation.masks, start=1))
    return f"the label image's numbers: {numbers}"


class _LabelExporter(Exporter):
    """Writes masks as the numbers 1, 2, … in their order."""

    suffixes: ClassVar[tuple[str, ...]]

    def check(self, names: Sequence[str], geometry: Geometry) -> None:
        """Whether the grid is one that a label image can say; any names will do, since they are not written.

        Raises:
            GeometryError: it is not.
        """
        del names
        require_even(geometry, f"a mask in {self.suffixes[-1].removeprefix('.')}")

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write one label image, read it back and compare; the report says which number is which structure.

        Raises:
            DataError: masks overlap, which one label image cannot hold.
            GeometryError: the slices are unevenly spaced or tilted, which these formats cannot say.
            StorageError: it cannot be written, or does not read back the same.
            UsageError: the destination's suffix is that of another format.
        """
        if not destination.name.lower().endswith(self.suffixes):
            raise UsageError(f"{destination}: expected a name that ends with {' or '.join(self.suffixes)}")
        write_segmentation(segmentation, destination)
        return ExportReport((destination,), (numbers_of(segmentation),))


class NiftiExporter(_LabelExporter):
    """NIfTI-1, compressed where the name ends with ``.gz``."""

    suffixes = (".nii.gz", ".nii")


class NrrdExporter(_LabelExporter):
    """NRRD, compressed."""

    suffixes = (".nrrd",)


class MhaExporter(_LabelExporter):
    """MetaImage in one file, compressed."""

    suffixes = (".mha",)
