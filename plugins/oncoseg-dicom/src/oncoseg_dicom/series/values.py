"""Single values of a header, checked: whatever a damaged file holds, the answer is a value, None or a clear error."""

from __future__ import annotations

from typing import Any

import numpy as np

from oncoseg_core import ImageReadError
from oncoseg_dicom.series.series import Float64

_LONGEST = 60
"""Characters of a value that is told."""


def printable(value: str) -> str:
    """Without blanks around it, and without what would break a line or drive a terminal."""
    return "".join(one if one.isprintable() else "?" for one in value).strip("? ")


def text(header: Any, keyword: str) -> str:
    """An attribute as text without blanks around it; empty where it is missing or cannot be decoded."""
    try:
        value = header.get(keyword)
        return "" if value is None else printable(str(value))
    except Exception:  # noqa: BLE001 - pydicom raises whatever a damaged value leads it to
        return ""


def texts(header: Any, keyword: str) -> tuple[str, ...]:
    """An attribute's values as texts; none where it is missing or cannot be decoded."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return ()
        single = isinstance(value, str) or not hasattr(value, "__iter__")
        return (printable(str(value)),) if single else tuple(printable(str(one)) for one in value)
    except Exception:  # noqa: BLE001 - as above
        return ()


def numbers(header: Any, keyword: str, count: int, name: str) -> Float64 | None:
    """An attribute of ``count`` numbers; None where it is missing or empty.

    Raises:
        ImageReadError: it holds something else, or a number that is not finite; ``name`` says whose it is.
    """
    try:
        value = header.get(keyword)
        if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
            return None
        array = np.array([float(one) for one in ([value] if isinstance(value, (str, float, int)) else value)])
    except Exception:  # noqa: BLE001 - as above
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        found = "\\".join(texts(header, keyword))
        if not 0 < len(found) <= _LONGEST:  # of a damaged file, it may be anything, a patient's name among it
            found = "something else"
        raise ImageReadError(f"{name}: {keyword} is {found}; expected {count} finite number{'s' * (count > 1)}")
    return array


def number(header: Any, keyword: str, name: str) -> float | None:
    """An attribute of one number; None where it is missing or empty.

    Raises:
        ImageReadError: as for :func:`numbers`.
    """
    array = numbers(header, keyword, 1, name)
    return None if array is None else float(array[0])


def whole(header: Any, keyword: str, name: str) -> int | None:
    """An attribute of one whole number; None where it is missing or empty.

    Raises:
        ImageReadError: as for :func:`numbers`.
    """
    value = number(header, keyword, name)
    if value is not None and not value.is_integer():
        raise ImageReadError(f"{name}: {keyword} is {value:g}; expected a whole number")
    return None if value is None else int(value)


def required(value: Any, keyword: str, name: str) -> Any:
    """The value, unless it is missing.

    Raises:
        ImageReadError: it is None.
    """
    if value is None:
        raise ImageReadError(f"{name}: has no {keyword}; the file is damaged, or not an image")
    return value
