"""Structures without a prompt."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from oncoseg_core import AutomaticModel, AutomaticResult, DataError, Progress, Settings, Volume

from oncoseg_newname.plugin import SPEC


class NewnameSettings(Settings):
    """``above``: Hounsfield units that bone exceeds."""

    above: float = 250.0


class Newname(AutomaticModel[NewnameSettings]):
    """Bone, and whatever else is as dense: contrast agent, metal."""

    Settings = NewnameSettings
    spec = SPEC

    def __init__(self, settings: NewnameSettings | None = None) -> None:
        super().__init__(settings)
        what_decides = Path(__file__).read_bytes() + self.settings.model_dump_json().encode()
        self.weights_sha256 = hashlib.sha256(what_decides).hexdigest()

    def segment(self, volume: Volume, structures: Sequence[str], progress: Progress) -> AutomaticResult:
        """A mask ``(z, y, x)`` for each structure asked for; an empty one says that it is not there.

        Raises:
            DataError: the image has several channels.
        """
        if len(volume.voxels) != 1:
            raise DataError(f"{volume.name}: has {len(volume.voxels)} channels; expected one")
        masks = {}
        for done, name in enumerate(structures, start=1):
            masks[name] = volume.voxels[0] > self.settings.above
            progress(name, done, len(structures))
        return AutomaticResult(masks)
