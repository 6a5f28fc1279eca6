"""A logarithmic curve for images whose dark parts hold as much as their bright ones."""

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from oncoseg_modalities.intensity.linear import Curve

Compression = Annotated[float, Field(ge=0, le=1e6, description="0 is linear; 9 spreads one decade, 99 two")]


def logarithmic(compression: float) -> Curve | None:
    """``u -> log(1 + c u) / log(1 + c)``: from 0 to 1, steepest at 0; None, which is linear, for c = 0."""
    if compression == 0:
        return None

    def bend(unit: npt.NDArray[np.float64]) -> None:
        unit *= compression
        np.log1p(unit, out=unit)
        unit /= np.log1p(compression)
        np.minimum(unit, 1.0, out=unit)

    return bend
