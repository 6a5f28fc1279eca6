"""What every generator asks of a mask: that there is an object, and where it lies."""

import numpy as np

from oncoseg_core import PromptError


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The tight box of a mask's pixels ``(x0, y0, x1, y1)``: columns 3 to 5 give x0 = 3 and x1 = 6.

    Args:
        mask: bool ``(y, x)``, in any memory layout.

    Raises:
        PromptError: it is not a bool array with two axes, or it is empty.
    """
    if mask.dtype != bool or mask.ndim != 2:
        raise PromptError(f"a prompt is made from a bool mask (y, x), found {mask.dtype} with {mask.ndim} axes")
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if columns.size == 0:
        raise PromptError("a prompt cannot be made from an empty mask; choose a slice where the target is present")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
