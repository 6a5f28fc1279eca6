"""The tumour regions of BraTS from its label values, in every coding that was published.

The regions are nested: whole tumour (WT) holds the tumour core (TC), which holds the enhancing tumour (ET).

| coding | 1 | 2 | 3 | 4 | used by |
|---|---|---|---|---|---|
| ``2021`` | necrosis, non-enhancing | edema | - | enhancing | BraTS 2017 to 2021, UCSF-PDGM; the OncoSeg paper |
| ``2023`` | necrosis, non-enhancing | edema | enhancing | - | BraTS 2023 |
| ``2024`` | necrosis, non-enhancing | edema | enhancing | resection cavity | BraTS-GLI 2024; the cavity is no tumour |
| ``msd`` | edema | non-enhancing | enhancing | - | MSD Task01 |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from oncoseg_core import DataError

Region: TypeAlias = Literal["WT", "TC", "ET"]
Coding: TypeAlias = Literal["2021", "2023", "2024", "msd"]


class _Values(NamedTuple):
    """The label values of each region, and those that are no tumour."""

    WT: frozenset[int]
    TC: frozenset[int]
    ET: frozenset[int]
    outside: frozenset[int] = frozenset({0})


_CODINGS: dict[Coding, _Values] = {
    "2021": _Values(frozenset({1, 2, 4}), frozenset({1, 4}), frozenset({4})),
    "2023": _Values(frozenset({1, 2, 3}), frozenset({1, 3}), frozenset({3})),
    "2024": _Values(frozenset({1, 2, 3}), frozenset({1, 3}), frozenset({3}), frozenset({0, 4})),
    "msd": _Values(frozenset({1, 2, 3}), frozenset({2, 3}), frozenset({3})),
}


def region_values(region: Region, coding: Coding) -> frozenset[int]:
    """The label values that form a region in a coding."""
    values: frozenset[int] = getattr(_CODINGS[coding], region)
    return values


def brats_region(label: npt.NDArray[np.generic], region: Region, *, coding: Coding = "2021") -> npt.NDArray[np.bool_]:
    """Where a label image lies in a region: bool, same shape.

    Args:
        label: whole numbers in any shape, such as ``(z, y, x)``.
        region: ``WT``, ``TC`` or ``ET``.
        coding: what the values mean. The default is the paper's, for labels 0, 1, 2 and 4: WT is ``label > 0``, TC 1
            or 4, ET 4. See :func:`detect_coding`.

    Raises:
        DataError: the label holds a value that the coding does not know; it is of another year.
    """
    values = _CODINGS[coding]
    known = values.WT | values.outside
    strange = np.isin(label, sorted(known), invert=True)
    if strange.any():
        found = ", ".join(str(value) for value in np.unique(label[strange])[:10])
        raise DataError(
            f"the label holds {found}; the BraTS coding {coding!r} knows {', '.join(map(str, sorted(known)))}: "
            "name the coding of the year it is from"
        )
    return np.isin(label, sorted(region_values(region, coding)))


def detect_coding(values: Iterable[int]) -> Coding:
    """Tell the year's coding of adult glioma from the values that a label holds, where they tell it.

    4 without 3 is up to 2021, 3 without 4 is 2023, both together are 2024. MSD Task01 cannot be told from 2023 by its
    values, nor can BraTS-PEDs 2024, which numbers them anew; neither is ever the answer.

    Raises:
        DataError: the values do not tell (neither 3 nor 4), or are of no known coding.
    """
    found = {int(value) for value in values}
    if not found <= {0, 1, 2, 3, 4}:
        raise DataError(f"label values {sorted(found)} are of no BraTS coding; expected 0 to 4")
    if {3, 4} <= found:
        return "2024"
    if 4 in found:
        return "2021"
    if 3 in found:
        return "2023"
    raise DataError(
        f"label values {sorted(found)} do not tell the BraTS coding: without enhancing tumour every year looks alike; "
        "name the coding"
    )
