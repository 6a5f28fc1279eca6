"""Writes a segmentation as one NRRD file."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from oncoseg_core import (
    DataError,
    Exporter,
    ExportReport,
    ImageReadError,
    Segmentation,
    Settings,
    StorageError,
)
from oncoseg_core.imaging import read_volume
from oncoseg_core.system import atomic_path


class NewnameSettings(Settings):
    """``compress``: whether the voxels are compressed (gzip)."""

    compress: bool = True


class NewnameExporter(Exporter[NewnameSettings]):
    """One component per target and voxel, 0 or 1, so that targets may overlap.

    The names stand in the header, as ``target_0``, ``target_1``, … in the order of the components.
    """

    Settings = NewnameSettings

    def export(self, segmentation: Segmentation, destination: Path) -> ExportReport:
        """Write the file, read it back, and compare.

        Raises:
            DataError: there is no mask to write.
            StorageError: it cannot be written, or does not read back the same.
        """
        if not segmentation.masks:
            raise DataError(f"cannot write {destination}: the segmentation has no mask; expected at least one")
        layers = np.stack([mask.astype(np.uint8) for mask in segmentation.masks.values()])
        image = sitk.GetImageFromArray(np.moveaxis(layers, 0, -1), isVector=True)
        image.SetSpacing(segmentation.geometry.spacing[::-1])
        image.SetOrigin(segmentation.geometry.origin)
        image.SetDirection(segmentation.geometry.direction.ravel().tolist())
        for number, name in enumerate(segmentation.masks):
            image.SetMetaData(f"target_{number}", name)
        with atomic_path(destination) as temporary:
            try:
                sitk.WriteImage(image, temporary, useCompression=self.settings.compress)
                written = read_volume(temporary, "mask")
            except (RuntimeError, ImageReadError) as error:
                raise StorageError(
                    f"cannot write {destination}: it does not read back; the disk may be full"
                ) from error
            segmentation.geometry.require_same_grid(written.geometry, "the segmentation", str(destination))
            if not np.array_equal(written.voxels, layers) or _names(temporary) != list(segmentation.masks):
                raise StorageError(f"cannot write {destination}: it does not read back the same; the disk may be full")
        return ExportReport((destination,))


def _names(file: Path) -> list[str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.ReadImageInformation()
    count = reader.GetNumberOfComponents()
    return [reader.GetMetaData(f"target_{number}") for number in range(count)]
