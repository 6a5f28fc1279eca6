"""How far a mask is from the reference."""

import numpy as np
import numpy.typing as npt
from oncoseg_core import DataError, Metric, Settings


class NewnameSettings(Settings):
    """``in_plane`` leaves out how far they are apart across slices."""

    in_plane: bool = False


class Newname(Metric[NewnameSettings]):
    """Distance between the centres of gravity of both masks in mm; not defined where one of them is empty."""

    Settings = NewnameSettings

    def compute(
        self, prediction: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], spacing: tuple[float, float, float]
    ) -> float | None:
        """Compare two masks ``(z, y, x)`` of one shape; ``spacing`` is in mm, ``(z, y, x)``.

        Raises:
            DataError: the shapes differ.
        """
        if prediction.shape != reference.shape:
            raise DataError(f"prediction {prediction.shape} and reference {reference.shape} differ; expected one shape")
        if not (prediction.any() and reference.any()):
            return None
        centres = [np.argwhere(mask).mean(axis=0) for mask in (prediction, reference)]
        apart = (centres[0] - centres[1]) * spacing
        return float(np.linalg.norm(apart[1:] if self.settings.in_plane else apart))
