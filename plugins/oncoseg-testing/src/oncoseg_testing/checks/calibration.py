"""The rules of a normalizer's ``calibrate``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from oncoseg_core import DataError, Header, Normalizer
from oncoseg_testing.checks.rules import read_only, require, rule, show

Voxels = npt.NDArray[Any]

BRIGHT_IS_MORE: Header = {"PhotometricInterpretation": "MONOCHROME2"}
BRIGHT_IS_LESS: Header = {"PhotometricInterpretation": "MONOCHROME1"}


def check_calibration(normalizer: Normalizer, voxels: Voxels) -> None:
    """Check what a normalizer makes of a header that tells nothing, and of the two photometric interpretations.

    A modality that needs more of a header than that (the tags that turn counts into SUV, say) refuses it with
    ``DataError``, and is not asked further.

    Raises:
        AssertionError: a rule is broken.
    """
    example = show(voxels)
    calibrated = _calibrated(normalizer, voxels, {}, f"{example}, an empty header")
    with rule("an empty header leaves the values alone", example):
        require(calibrated is not None, "DataError")
        require(calibrated is not None and np.array_equal(calibrated, voxels), f"now {_short(calibrated)}")
    upright, turned = (
        _calibrated(normalizer, voxels, header, f"{example}, header {dict(header)}")
        for header in (BRIGHT_IS_MORE, BRIGHT_IS_LESS)
    )
    for calibrated, sign, text in (
        (upright, 1, "MONOCHROME2 keeps the order of the values"),
        (turned, -1, "MONOCHROME1, where low values are shown bright, turns the order of the values around"),
    ):
        if calibrated is None:
            continue
        with rule(text, example):
            for before, after in zip(voxels, calibrated, strict=True):
                order = np.argsort(before, axis=None, kind="stable")
                step = np.sign(np.diff(before.ravel()[order].astype(np.float64)))
                found = np.sign(np.diff(after.ravel()[order].astype(np.float64)))
                require(bool((found == sign * step).all()), f"now {_short(after)}")


def _calibrated(normalizer: Normalizer, voxels: Voxels, header: Header, example: str) -> Voxels | None:
    """What came out, checked for shape and dtype; None where the header was refused."""
    before = voxels.copy()
    with rule("calibrate does not write to its input, and refuses a header with DataError or not at all", example):
        try:
            calibrated = normalizer.calibrate(read_only(voxels), header)
        except DataError:
            return None
        finally:
            require(np.array_equal(voxels, before), "the input was modified")
    with rule("calibrate returns real numbers of the input's shape", example):
        require(isinstance(calibrated, np.ndarray) and calibrated.shape == voxels.shape, _short(calibrated))
        require(calibrated.dtype.kind in "iuf", str(calibrated.dtype))
    return calibrated


def _short(found: Any) -> str:
    return show(found) if isinstance(found, np.ndarray) else repr(found)
