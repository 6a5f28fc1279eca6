"""What a structured report says of a structure, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[float, float, float]
Pixel = tuple[float, float]


@dataclass(frozen=True)
class MeasuredLine:
    """A straight line: its length in mm and its ends, in LPS mm and, where it lies on one slice, in its pixels.

    ``slice`` is the index of that slice in the series' order; pixels are continuous ``(x, y)``, the centre of the first
    at (0.5, 0.5).
    """

    mm: float
    ends_lps_mm: tuple[Place, Place]
    slice: int | None = None
    ends_pixels: tuple[Pixel, Pixel] | None = None


@dataclass(frozen=True)
class MeasuredStructure:
    """One structure: ``label`` is its segment's in the SEG. What is None is not reported.

    ``area_mm2`` is on slice ``area_slice``. ``mean`` is over the whole structure in ``unit``: ``HU``, ``SUV``, or
    ``as stored``. ``tracking_uid`` ties it to the same lesion elsewhere; a new one when None.
    ``drawn_by_hand``: no algorithm is named.
    """

    label: str
    long_axis: MeasuredLine | None = None
    short_axis: MeasuredLine | None = None
    volume_ml: float | None = None
    area_mm2: float | None = None
    area_slice: int | None = None
    mean: float | None = None
    unit: str | None = None
    tracking_uid: str | None = None
    drawn_by_hand: bool = False
