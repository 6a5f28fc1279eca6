"""The rules of a normalizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core.interfaces import Normalizer, Stats
from oncoseg_core.testing.rules import for_all, read_only, require, rule, show

Voxels = npt.NDArray[Any]

DTYPES = ("|u1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f4", "<f8")
SAME = 1e-6
"""What two ways to compute one value in [0, 1] may differ by."""


def check_normalizer(
    normalizer: Normalizer,
    *,
    accepts_nan: bool = False,
    channels: Sequence[int] = (1, 3),
    values: tuple[int, int] = (-1024, 3071),
    monotone: bool = True,
) -> None:
    """Check a normalizer on generated volumes of several dtypes, byte orders and memory layouts.

    Args:
        normalizer: built, with whatever settings.
        accepts_nan: as in its record: NaN and infinite voxels are then part of the examples.
        channels: numbers of channels that it takes.
        values: the lowest and highest intensity that its modality can have; by default CT numbers.
        monotone: False for one whose purpose is to mix channels (a stain normalisation, say).

    Raises:
        AssertionError: a rule is broken.
    """

    def check(voxels: Voxels) -> None:
        _check(normalizer, voxels, monotone=monotone)

    for_all(_volumes(tuple(channels), values), check, count=80)
    if accepts_nan:
        for_all(_volumes(tuple(channels), values).flatmap(_with_gaps), lambda v: _check_gaps(normalizer, v), count=30)


def _check(normalizer: Normalizer, voxels: Voxels, *, monotone: bool) -> None:
    example = show(voxels)
    before = voxels.copy()
    with rule(
        "fit and apply take any real dtype, byte order and memory layout, and do not write to their input", example
    ):
        stats = normalizer.fit(read_only(voxels))
        unit = normalizer.apply(read_only(voxels), stats)
        require(np.array_equal(voxels, before), "the input was modified")
    _check_stats(stats, voxels, example)
    _check_range(unit, voxels, example)
    with rule("statistics that went through JSON give the same result", example):
        revived = {name: tuple(numbers) for name, numbers in json.loads(json.dumps(stats, allow_nan=False)).items()}
        _require_same(normalizer.apply(read_only(voxels), revived), unit)
    with rule("fitted on the volume and applied slice by slice, the result is that of the whole volume", example):
        for z in range(voxels.shape[1]):
            section = normalizer.apply(read_only(voxels[:, z]), stats)
            require(section.dtype == np.float32, f"apply returned {section.dtype} for a slice")
            _require_same(section, unit[:, z])
    with rule("byte order and memory layout do not change the result", example):
        plain = np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("="))
        _require_same(normalizer.apply(plain, normalizer.fit(plain)), unit)
    if monotone:
        with rule("within a channel, a brighter voxel does not become darker", example):
            for channel, mapped in zip(voxels, unit, strict=True):
                rising = mapped.ravel()[np.argsort(channel, axis=None, kind="stable")]
                require(bool((np.diff(rising) >= -SAME).all()), f"in order of intensity: {rising.tolist()}")
    with rule("recognises answers True or False", example):
        answer = normalizer.recognises(read_only(voxels))
        require(isinstance(answer, bool | np.bool_), f"{answer!r}")


def _check_gaps(normalizer: Normalizer, voxels: Voxels) -> None:
    example = show(voxels)
    with rule("NaN and infinite voxels, which the record accepts, are mapped to [0, 1]", example):
        stats = normalizer.fit(read_only(voxels))
        unit = normalizer.apply(read_only(voxels), stats)
    _check_stats(stats, voxels, example)
    _check_range(unit, voxels, example)


def _check_stats(stats: Stats, voxels: Voxels, example: str) -> None:
    with rule("fit returns named tuples of finite numbers, one number per channel", example):
        for name, numbers in stats.items():
            right = isinstance(name, str) and isinstance(numbers, tuple) and len(numbers) == len(voxels)
            require(right and all(isinstance(n, float) and np.isfinite(n) for n in numbers), f"{name!r}: {numbers!r}")


def _check_range(unit: Voxels, voxels: Voxels, example: str) -> None:
    with rule("apply returns float32 of the input's shape", example):
        require(unit.dtype == np.float32 and unit.shape == voxels.shape, f"{unit.dtype} {unit.shape}")
    with rule("apply returns finite values in [0, 1]", example):
        low, high = float(unit.min()), float(unit.max())
        require(low >= 0.0 and high <= 1.0, f"values from {low} to {high}")  # also catches NaN


def _require_same(found: Voxels, expected: Voxels) -> None:
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    require(difference <= SAME, f"values that differ by up to {difference:.3g}")


@st.composite
def _volumes(draw: st.DrawFn, channels: tuple[int, ...], values: tuple[int, int]) -> Voxels:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    low, high = values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        low, high = max(low, int(limits.min)), min(high, int(limits.max))
    elements = st.integers(low, high)
    shape = draw(st.tuples(st.sampled_from(channels), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))
    voxels = draw(hnp.arrays(np.int64, shape, elements=elements, fill=elements)).astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        voxels = np.clip(voxels + dtype.type(0.3), low, high).astype(dtype)
    layout = draw(st.sampled_from(("C", "Fortran", "reversed", "every other")))
    if layout == "Fortran":
        return np.asfortranarray(voxels)
    if layout == "reversed":
        return voxels[:, :, ::-1, ::-1]
    if layout == "every other":
        return np.repeat(voxels, 2, axis=3)[..., ::2]
    return voxels


def _with_gaps(voxels: Voxels) -> st.SearchStrategy[Voxels]:
    gaps = st.sampled_from((np.nan, np.inf, -np.inf, 0.0))
    return hnp.arrays(np.float32, voxels.shape, elements=gaps, fill=st.just(0.0)).map(
        lambda gap: np.where(gap == 0.0, voxels, gap).astype(np.float32)
    )
