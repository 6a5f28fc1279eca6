"""A node's doors and series for tests: synthetic CT of nobody, and settings for it."""

from pathlib import Path

import numpy as np

from oncoseg_dicom import write_series
from oncoseg_node.config.settings import NodeSettings

PRIMARY = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "BodyPartExamined": "CHEST",
    "ConvolutionKernel": "B30f",
    "SeriesDescription": "Thorax 3.0",
}


def ct_series(folder: Path, slices: int = 12, *, side: int = 8, step: float = 3.0, attributes=None) -> list[Path]:
    """An axial CT of noise, ``side`` x ``side`` pixels, as a scanner would describe it."""
    voxels = np.random.default_rng(slices).integers(-1000, 1000, (slices, side, side)).astype(np.int16)
    origins = [(-10.0, -20.0, step * z) for z in range(slices)]
    return write_series(folder, voxels, origins, attributes=PRIMARY | (attributes or {}))


def node_settings(data: Path, **receive) -> NodeSettings:
    """A node with one rule, for CT of the chest."""
    return NodeSettings.model_validate(
        {
            "data": data,
            "receive": {"dicom": {"port": 0}} | receive,
            "rules": [
                {
                    "name": "thorax",
                    "when": {"Modality": {"equals": "CT"}, "BodyPartExamined": {"any_of": ["CHEST", "THORAX"]}},
                    "protocol": "thorax",
                    "models": ["thresholds"],
                }
            ],
            "models": {"thresholds": {"model": "ct-thresholds"}},
        }
    )


def stored_files(data: Path) -> list[Path]:
    """The images of all jobs."""
    return sorted(data.glob("jobs/*/images/*.dcm"))
