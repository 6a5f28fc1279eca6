"""A node's doors and series for tests: synthetic CT of nobody, and a queue that only remembers."""

from pathlib import Path
from types import SimpleNamespace

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


class RememberingQueue:
    """Stands for the queue where only the way in is tested."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[str, str] = {}

    def add_instance(self, study_uid, series_uid, sop_uid, sha256, size):
        status = "new" if sop_uid not in self.known else "same" if self.known[sop_uid] == sha256 else "different"
        self.known.setdefault(sop_uid, sha256)
        images = self.folder / series_uid[-8:] / "images"
        images.mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(path=images / f"{sha256[:40]}.dcm", status=status, instances=len(self.known))

    @property
    def files(self) -> list[Path]:
        """All that is stored."""
        return sorted(self.folder.rglob("*.dcm"))
