"""The rules of a normalizer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from oncoseg_core import DataError, Normalizer, NormalizerSpec, Stats
from oncoseg_testing.checks.calibration import check_calibration
from oncoseg_testing.checks.rules import for_all, read_only, require, rule, show

Voxels = npt.NDArray[Any]

DTYPES = ("|u1", "<i2", ">i2", "<u2", "<i4", ">f4", "<f4", "<f8")
EXTREMES = (0.0, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30)
SAME = 1e-6
"""What two ways to compute one value in [0, 1] may differ by."""
CT_NUMBERS = (-1024.0, 3071.0)
FEWEST_STEPS, FINE_STEPS = 16, 4096
"""A range of fewer whole numbers than the first (SUV, reflectance) is divided into as many steps as the second."""
LARGEST_EXAMPLE = 4 * 1024**2
"""Bytes of a normalizer's own example, which is for pictures."""


def check_normalizer(
    normalizer: Normalizer,
    *,
    accepts_nan: bool = False,
    channels: Sequence[int] = (1, 3),
    values: tuple[float, float] | None = None,
    monotone: bool = True,
    spec: NormalizerSpec | None = None,
) -> None:
    """Check a normalizer on generated volumes of several dtypes, byte orders and memory layouts.

    Args:
        normalizer: built, with whatever settings.
        accepts_nan: as in its record: NaN and infinite voxels are then part of the examples.
        channels: numbers of channels that it takes.
        values: the lowest and highest intensity that its modality has; by default those of its own example, else the
            plausible ones of its record, else CT numbers.
        monotone: False for one whose purpose is to mix channels (a stain normalisation, say).
        spec: its record: it says ``accepts_nan``, its usual number of channels is among the examples, and its channel
            names are checked too.

    Raises:
        AssertionError: a rule is broken.
    """
    if spec is not None:
        _check_channel_names(spec)
        accepts_nan = spec.accepts_nan
        channels = sorted({*channels, len(spec.channel_order)} - {0})
    values = _usual_values(normalizer, spec) if values is None else values

    def check(voxels: Voxels) -> None:
        _check(normalizer, voxels, monotone=monotone)

    def check_extremes(voxels: Voxels) -> None:
        try:
            normalizer.fit(read_only(voxels))
        except DataError:  # it knows that its modality has no such values, and says so
            return
        _check(normalizer, voxels, monotone=monotone)

    for voxels in _plain_volumes(channels, values):
        check(voxels)
    volumes = _volumes(tuple(channels), values)
    for_all(volumes, check, count=80)
    for_all(_extremes(tuple(channels)), check_extremes, count=30)
    if accepts_nan:
        for_all(volumes.flatmap(_with_gaps), lambda voxels: _check_gaps(normalizer, voxels), count=30)
        for_all(volumes.flatmap(_with_missing), lambda drawn: _check_missing(normalizer, *drawn), count=40)
    for_all(volumes, lambda voxels: check_calibration(normalizer, voxels), count=40)
    for dtype in _dtypes(values):
        check_calibration(normalizer, _ends(dtype, max(channels), values))
    _check_example(normalizer, accepts_nan=accepts_nan)


def _check_channel_names(spec: NormalizerSpec) -> None:
    example = f"the record of {spec.modality!r}"
    with rule("a channel's name and its spellings are those of one channel only", example):
        spellings = [(one, name) for name, others in spec.channel_names.items() for one in {name, *others}]
        for one in sorted({spelling for spelling, _ in spellings}):
            owners = sorted(name for spelling, name in spellings if spelling == one)
            require(len(owners) == 1, f"{one!r} is a spelling of {' and of '.join(owners)}")
    with rule("channel_order names each channel once", example):
        order = spec.channel_order
        require(len(set(order)) == len(order), ", ".join(order))


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
    with rule("NaN voxels are mapped to 0", example):
        brightest = float(unit[np.isnan(voxels)].max(initial=0.0))
        require(brightest == 0.0, f"a NaN voxel of {brightest}")


def _check_missing(normalizer: Normalizer, voxels: Voxels, missing: Voxels) -> None:
    """``missing`` ``(z, y, x)`` says which voxels are NaN, in all channels; at least one is not.

    A window leaves the others as they are, a percentile is then one of the others alone: both are what comes out when
    the NaN voxels are cut away.
    """
    with_nan = np.where(missing, np.float64(np.nan), voxels)
    example = show(with_nan)
    with rule("NaN voxels change nothing else: the others are mapped as if those had been cut away", example):
        unit = normalizer.apply(read_only(with_nan), normalizer.fit(read_only(with_nan)))
        others = np.ascontiguousarray(with_nan[:, ~missing][:, np.newaxis, np.newaxis, :])
        alone = normalizer.apply(others, normalizer.fit(others))
        _require_same(unit[:, ~missing], alone[:, 0, 0])


def _check_example(normalizer: Normalizer, *, accepts_nan: bool) -> None:
    with rule("example is None, or an array (channel, z, y, x) of at most 4 MiB", "its own example"):
        voxels = normalizer.example()
        if voxels is None:
            return
        require(isinstance(voxels, np.ndarray) and voxels.ndim == 4, f"{getattr(voxels, 'shape', voxels)!r}")
        require(0 < voxels.nbytes <= LARGEST_EXAMPLE, f"{voxels.nbytes} bytes")
    with rule("the example is the same each time", "its own example"):
        again = normalizer.example()
        require(again is not None and np.array_equal(voxels, again, equal_nan=voxels.dtype.kind == "f"), "another one")
    with rule("the example is an image that the path takes, and the normalizer maps it", show(voxels)):
        require(
            accepts_nan or bool(np.isfinite(voxels).all()), "NaN or infinite voxels, which the record does not accept"
        )
        unit = normalizer.apply(read_only(voxels), normalizer.fit(read_only(voxels)))
    _check_range(unit, voxels, "its own example")


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


def _usual_values(normalizer: Normalizer, spec: NormalizerSpec | None) -> tuple[float, float]:
    """The lowest and highest intensity of the modality, from what it says of itself."""
    with rule("example is None, or an array (channel, z, y, x) of at most 4 MiB", "its own example"):
        example = normalizer.example()
        finite = None if example is None else example[np.isfinite(example)]
    if finite is not None and finite.size and finite.min() < finite.max():
        return float(finite.min()), float(finite.max())
    return CT_NUMBERS if spec is None or spec.plausible is None else spec.plausible


def _dtypes(values: tuple[float, float]) -> tuple[str, ...]:
    """Those that hold at least two of the modality's intensities."""
    return tuple(dtype for dtype in DTYPES if np.subtract(*_limits(np.dtype(dtype), values)) < 0)


def _limits(dtype: np.dtype[Any], values: tuple[float, float]) -> tuple[float, float]:
    """The modality's lowest and highest value, as far as the dtype has them; not in order where it has none."""
    low, high = values
    if dtype.kind not in "iu":
        return low, high
    limits = np.iinfo(dtype.name)
    return max(math.ceil(low), int(limits.min)), min(math.floor(high), int(limits.max))


def _plain_volumes(channels: Sequence[int], values: tuple[float, float]) -> Iterator[Voxels]:
    """A single voxel and a constant volume of the lowest and the highest value, in every dtype."""
    for dtype in map(np.dtype, _dtypes(values)):
        for value in _limits(dtype, values):
            for shape in ((channels[0], 1, 1, 1), (channels[-1], 2, 3, 4)):
                yield np.full(shape, value, dtype)


def _ends(dtype: str, channels: int, values: tuple[float, float]) -> Voxels:
    """The least, the middle and the greatest value of a modality that a dtype holds, in every channel."""
    low, high = _limits(np.dtype(dtype), values)
    return np.tile(np.array([low, (low + high) / 2, high]).astype(dtype), (channels, 1, 1, 1))


@st.composite
def _volumes(draw: st.DrawFn, channels: tuple[int, ...], values: tuple[float, float]) -> Voxels:
    dtype = np.dtype(draw(st.sampled_from(_dtypes(values))))
    low, high = _limits(dtype, values)
    steps = int(high - low) if high - low >= FEWEST_STEPS else FINE_STEPS
    elements = st.integers(0, steps)
    drawn = draw(hnp.arrays(np.int64, draw(_shapes(channels)), elements=elements, fill=elements))
    voxels = np.clip(low + drawn * ((high - low) / steps), low, high).astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()):
        voxels = np.clip(voxels + dtype.type(0.3 * (high - low) / steps), low, high).astype(dtype)
    layout = draw(st.sampled_from(("C", "Fortran", "reversed", "every other")))
    if layout == "Fortran":
        return np.asfortranarray(voxels)
    if layout == "reversed":
        return voxels[:, :, ::-1, ::-1]
    if layout == "every other":
        return np.repeat(voxels, 2, axis=3)[..., ::2]
    return voxels


@st.composite
def _extremes(draw: st.DrawFn, channels: tuple[int, ...]) -> Voxels:
    """Values near the ends of what floats can hold, together."""
    dtype = np.dtype(draw(st.sampled_from(("<f4", ">f4", "<f8"))))
    elements = st.sampled_from(EXTREMES)
    return draw(hnp.arrays(np.float64, draw(_shapes(channels)), elements=elements, fill=elements)).astype(dtype)


def _shapes(channels: tuple[int, ...]) -> st.SearchStrategy[tuple[int, int, int, int]]:
    return st.tuples(st.sampled_from(channels), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))


def _with_gaps(voxels: Voxels) -> st.SearchStrategy[Voxels]:
    gaps = st.sampled_from((np.nan, np.inf, -np.inf, 0.0))
    return hnp.arrays(np.float32, voxels.shape, elements=gaps, fill=st.just(0.0)).map(
        lambda gap: np.where(gap == 0.0, voxels, gap).astype(np.float32)
    )


def _with_missing(voxels: Voxels) -> st.SearchStrategy[tuple[Voxels, Voxels]]:
    """The volume, and which of its voxels are NaN: any but all."""
    missing = hnp.arrays(np.bool_, voxels.shape[1:], fill=st.just(value=False))
    return missing.filter(lambda drawn: not drawn.all()).map(lambda drawn: (voxels, drawn))
