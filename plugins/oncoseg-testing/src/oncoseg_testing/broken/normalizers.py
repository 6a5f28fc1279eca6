"""Normalizers that each break one rule; :class:`Window` and :class:`WithGaps` break none."""

from __future__ import annotations

from typing import Any

import numpy as np

from oncoseg_core import Header, Normalizer, NormalizerSpec, Stats
from oncoseg_testing.broken.examples import BrokenExamples
from oncoseg_testing.checks.normalizers import check_normalizer


def check(broken: type[Normalizer] | NormalizerSpec, **arguments: Any) -> None:
    """Check a class, or a record whose behaviour is sound."""
    if isinstance(broken, NormalizerSpec):
        check_normalizer(Window(), spec=broken)
    else:
        check_normalizer(broken(), **arguments)


EXAMPLES = BrokenExamples("normalizer", check)


class Window(Normalizer):
    def fit(self, voxels: np.ndarray) -> Stats:
        flat = voxels.reshape(len(voxels), -1).astype(float)
        return {"low": tuple(flat.min(1).tolist()), "high": tuple(flat.max(1).tolist())}

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        shape = (-1,) + (1,) * (voxels.ndim - 1)
        low, high = (np.reshape(stats[name], shape) for name in ("low", "high"))
        unit: np.ndarray = np.clip((voxels - low) / np.where(high > low, high - low, 1), 0, 1)
        return unit.astype(np.float32)


class WithGaps(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        known = [channel[np.isfinite(channel)].tolist() or [0.0] for channel in voxels]
        return {"low": tuple(float(min(v)) for v in known), "high": tuple(float(max(v)) for v in known)}

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return super().apply(np.nan_to_num(voxels.astype(float), nan=-np.inf), stats)


@EXAMPLES.breaks("finite values in [0, 1]")
class TooWide(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return 1.5 * super().apply(voxels, stats)


@EXAMPLES.breaks("finite values in [0, 1]")
class NotANumber(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        low, high = np.float32(stats["low"][0]), np.float32(stats["high"][0])
        with np.errstate(all="ignore"):
            unit: np.ndarray = (voxels.astype(np.float32) - low) / (high - low)
        return unit.clip(0, 1)


@EXAMPLES.breaks("float32 of the input's shape")
class Double(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return super().apply(voxels, stats).astype(np.float64)


@EXAMPLES.breaks("float32 of the input's shape")
class OtherShape(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return super().apply(voxels, stats)[..., None]


@EXAMPLES.breaks("do not write to their input")
class InPlace(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        voxels += 0
        return super().apply(voxels, stats)


@EXAMPLES.breaks("do not write to their input")
class BehindTheBack(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        base = voxels
        while base.base is not None:
            base = base.base
        base += 1
        return super().fit(voxels)


@EXAMPLES.breaks("do not write to their input")
class InPlaceFit(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        voxels += 0
        return super().fit(voxels)


@EXAMPLES.breaks("")  # whichever is being checked then
class Sometimes(Window):
    calls = 0

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        self.calls += 1
        if self.calls == 400:
            raise ValueError("every now and then")
        return super().apply(voxels, stats)


@EXAMPLES.breaks("slice by slice")
class DoubleSlices(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        unit = super().apply(voxels, stats)
        return unit if voxels.ndim == 4 else unit.astype(float)


@EXAMPLES.breaks("slice by slice, the result is that of the whole volume")
class PerSlice(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return super().apply(voxels, Window.fit(self, voxels))


@EXAMPLES.breaks("named tuples of finite numbers")
class NotJson(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        return {name: tuple(np.float32(n) for n in numbers) for name, numbers in super().fit(voxels).items()}  # type: ignore[misc]


@EXAMPLES.breaks("named tuples of finite numbers")
class Infinite(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        return {**super().fit(voxels), "slope": (float("inf"),) * len(voxels)}


@EXAMPLES.breaks("one number per channel")
class OneForAll(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        return {**super().fit(voxels), "mean": (float(voxels.mean()), 0.0, 0.0, 0.0)}


@EXAMPLES.breaks("went through JSON")
class ByIdentity(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        self.last = stats = super().fit(voxels)
        return stats

    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return super().apply(voxels, stats) if stats is self.last else super().apply(voxels, stats) / 2


@EXAMPLES.breaks("a brighter voxel does not become darker")
class Inverted(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return 1 - super().apply(voxels, stats)


@EXAMPLES.breaks("memory layout")
class ByMemory(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        stats = super().fit(voxels)
        return stats if voxels.flags.c_contiguous else {**stats, "high": tuple(2 * abs(n) + 1 for n in stats["high"])}


@EXAMPLES.breaks("recognises answers True or False")
class Unsure(Window):
    def recognises(self, voxels: np.ndarray) -> bool:
        return None  # type: ignore[return-value]


@EXAMPLES.breaks("NaN and infinite voxels", accepts_nan=True)
class RefusesNan(WithGaps):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        if np.isnan(voxels.astype(float)).any():
            raise ValueError("NaN")
        return super().apply(voxels, stats)


@EXAMPLES.breaks("NaN voxels are mapped to 0", accepts_nan=True)
class NanToMiddle(WithGaps):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        return np.where(np.isnan(voxels.astype(float)), np.float32(0.5), super().apply(voxels, stats))


@EXAMPLES.breaks("NaN voxels change nothing else", accepts_nan=True)
class NanAsZero(WithGaps):
    def fit(self, voxels: np.ndarray) -> Stats:
        return super().fit(np.where(np.isnan(voxels), 0, voxels))


@EXAMPLES.breaks("finite values in [0, 1]")
class SinglePrecision(Window):
    def apply(self, voxels: np.ndarray, stats: Stats) -> np.ndarray:
        shape = (-1,) + (1,) * (voxels.ndim - 1)
        low, high = (np.reshape(stats[name], shape).astype(np.float32) for name in ("low", "high"))
        with np.errstate(all="ignore"):
            squared = (voxels.astype(np.float32) - low) ** 2 / (high - low) ** 2
        return np.where(high > low, np.clip(squared, 0, 1), np.float32(0))


@EXAMPLES.breaks("calibrate does not write to its input")
class InPlaceCalibration(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        voxels += 0
        return super().calibrate(voxels, header)


@EXAMPLES.breaks("refuses a header with DataError or not at all")
class NeedsAHeader(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return super().calibrate(voxels, {**header, "PhotometricInterpretation": header["PhotometricInterpretation"]})


@EXAMPLES.breaks("an empty header leaves the values alone")
class AlwaysCounts(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return super().calibrate(voxels.astype(float) * header.get("RescaleSlope", 2.0), header)


@EXAMPLES.breaks("turns the order of the values around")
class Monochrome2Only(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return voxels


@EXAMPLES.breaks("turns the order of the values around")
class UnsignedMinus(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return -voxels if header.get("PhotometricInterpretation") == "MONOCHROME1" else voxels


@EXAMPLES.breaks("keeps the order of the values")
class TurnsEither(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return -voxels.astype(float) if header else voxels


@EXAMPLES.breaks("real numbers of the input's shape")
class OneChannelOnly(Window):
    def calibrate(self, voxels: np.ndarray, header: Header) -> np.ndarray:
        return super().calibrate(voxels, header)[:1]


@EXAMPLES.breaks("an array (channel, z, y, x)")
class FlatExample(Window):
    def example(self) -> np.ndarray:
        return np.zeros((8, 8))


@EXAMPLES.breaks("at most 4 MiB")
class LargeExample(Window):
    def example(self) -> np.ndarray:
        return np.zeros((1, 9, 512, 512), np.uint16)


@EXAMPLES.breaks("the example is the same each time")
class ChangingExample(Window):
    def example(self) -> np.ndarray:
        return np.random.default_rng().normal(size=(1, 1, 8, 8))


@EXAMPLES.breaks("the normalizer maps it")
class ExampleWithNan(Window):
    def example(self) -> np.ndarray:
        return np.full((1, 1, 8, 8), np.nan)


@EXAMPLES.breaks("the normalizer maps it")
class ExampleOfAnother(Window):
    def fit(self, voxels: np.ndarray) -> Stats:
        if len(voxels) == 2:
            raise ValueError("two channels")
        return super().fit(voxels)

    def example(self) -> np.ndarray:
        return np.zeros((2, 1, 8, 8))


_RECORD = NormalizerSpec(
    modality="two-spellings",
    factory="oncoseg_testing.broken.normalizers:Window",
    summary="A spelling that may be either of two channels",
    channel_names={"t1": ("t1w", "native"), "t1gd": ("t1ce", "t1w")},
)
EXAMPLES.breaks("those of one channel only")(_RECORD)
EXAMPLES.breaks("names each channel once")(
    _RECORD.model_copy(update={"channel_names": {"t1": (), "t2": ()}, "channel_order": ("t1", "t2", "t1")})
)
