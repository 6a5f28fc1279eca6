"""Two masks that are compared: checked, and cut to where either of them is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from oncoseg_core import DataError


class Pair(NamedTuple):
    """A prediction and a reference, bool ``(z, y, x)`` of one shape."""

    prediction: np.ndarray
    reference: np.ndarray


def require_pair(prediction: np.ndarray, reference: np.ndarray) -> Pair:
    """The two as they are, once it is sure that they can be compared.

    Raises:
        DataError: they are not bool, not ``(z, y, x)``, or differ in shape.
    """
    for name, mask in (("prediction", prediction), ("reference", reference)):
        if mask.dtype != bool:
            raise DataError(f"the {name} is {mask.dtype}, expected a bool mask; apply the threshold first")
    if prediction.shape != reference.shape:
        raise DataError(
            f"the prediction is {prediction.shape} and the reference {reference.shape}; "
            "expected one shape (z, y, x), so bring the prediction back to the image's own grid first"
        )
    if prediction.ndim != 3:
        raise DataError(f"the masks are {prediction.shape}, expected (z, y, x); a single slice has z = 1")
    return Pair(prediction, reference)


def cropped(pair: Pair) -> Pair | None:
    """Both, cut to the smallest block that holds them (views); None where both are empty.

    Each axis is looked at within what the axes before left over, so that the cost of what follows is the objects', and
    of this little more than one pass over the slices.
    """
    prediction, reference = pair
    for axis in range(prediction.ndim):
        others = tuple(other for other in range(prediction.ndim) if other != axis)
        holds = np.flatnonzero(prediction.any(axis=others) | reference.any(axis=others))
        if not holds.size:
            return None
        within = (slice(None),) * axis + (slice(holds[0], holds[-1] + 1),)
        prediction, reference = prediction[within], reference[within]
    return Pair(prediction, reference)
