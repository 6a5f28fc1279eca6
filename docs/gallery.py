"""Draws the pictures of the gallery: each modality before and after, on a real image where a package has one.

Two DICOM images come from the package pydicom-data, which nothing else of OncoSeg needs::

    pip install pydicom pydicom-data==1.0.0
    python docs/gallery.py
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from oncoseg_core import DatasetSpec, Geometry, Normalizer, NormalizerSpec, Registry, Volume, load_plugins
from oncoseg_core.cli import draw
from oncoseg_core.system import atomic_write

PICTURES = Path(__file__).parent / "images"
LYMPH_NODE = (slice(108, 328), slice(32, 608))
"""Rows and columns of the echoes: the letters around them are left out."""


def main() -> None:
    """Draw and write one PNG per modality."""
    registry = load_plugins()
    real = real_images(registry)
    for spec in registry.specs(NormalizerSpec):
        normalizer: Normalizer = registry.build(NormalizerSpec, spec.modality)
        if spec.modality in real:
            volume, index, origin = real[spec.modality]
            header = volume.headers[0] if volume.headers else {}
            calibrated = normalizer.calibrate(volume.voxels, header)
            volume = Volume(np.ascontiguousarray(calibrated), volume.geometry, spec.modality)
        else:
            example = normalizer.example()
            if example is None:
                continue
            volume = Volume(example, Geometry.from_parts(example.shape[1:]), spec.modality)
            index, origin = 0, "a generated image"
        atomic_write(PICTURES / f"gallery-{spec.modality}.png", draw(normalizer, spec, volume, index, origin))


def real_images(registry: Registry) -> dict[str, tuple[Volume, int, str]]:
    """By modality: a volume, a slice, and where it is from."""
    adapter = registry.build(DatasetSpec, "samples")
    cases = {case.case_id: case for case in adapter.discover(adapter.fetch(lambda *_: None))}
    chest = _dicom("RG1_UNCR.dcm")
    node = _dicom("US1_UNCR.dcm")
    return {
        "ct": (adapter.load(cases["lung2"])[0], 30, "scan lung2 of pyradiomics"),
        "mri": (adapter.load(cases["brain1"])[0], 12, "scan brain1 of pyradiomics"),
        "cxr": (chest, 0, "RG1_UNCR of pydicom-data, MONOCHROME1"),
        "ultrasound": (_cropped(node), 0, "US1_UNCR of pydicom-data, cropped"),
    }


def _dicom(name: str) -> Volume:
    (path,) = [file for file in metadata.files("pydicom-data") or () if file.name == name]
    dataset = pydicom.dcmread(path.locate())
    pixels: Any = dataset.pixel_array
    voxels = np.moveaxis(np.atleast_3d(pixels), -1, 0)[:, np.newaxis]
    header = {"PhotometricInterpretation": str(dataset.PhotometricInterpretation)}
    return Volume(np.ascontiguousarray(voxels), Geometry.from_parts(voxels.shape[1:]), "unknown", headers=(header,))


def _cropped(volume: Volume) -> Volume:
    rows, columns = LYMPH_NODE
    voxels = np.ascontiguousarray(volume.voxels[:, :, rows, columns])
    return Volume(voxels, Geometry.from_parts(voxels.shape[1:]), "unknown", headers=volume.headers)


if __name__ == "__main__":
    main()
