"""Structures as they were found in a file, on the grid of the series that they belong to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


class Structures(NamedTuple):
    """Masks bool ``(z, y, x)`` on the series' grid by the structures' names, in the file's order.

    ``notes`` are findings worth telling (renamed, off a plane, a threshold taken), without a word about the patient.
    """

    masks: dict[str, BoolArray]
    notes: tuple[str, ...] = ()
