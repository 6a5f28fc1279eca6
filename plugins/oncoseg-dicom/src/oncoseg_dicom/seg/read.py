"""Reading a DICOM Segmentation, whoever wrote it, on the grid of the series that it belongs to.

Source: PS3.3 A.51 (Segmentation), A.52 (Label Map Segmentation) and C.8.20. A frame lies where its own position in the
patient says, whatever its number; its pixels must lie on those of the series, but may run the other way or be a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import SegmentationStorage

from oncoseg_core import BoolArray, DataError, GeometryError, ImageReadError, Structures
from oncoseg_dicom.packed_masks import PackedMasks
from oncoseg_dicom.seg.frame_placement import Placement, placement
from oncoseg_dicom.series.series import Series
from oncoseg_dicom.series.values import text

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
"""The SOP class of label maps (PS3.4, B.5), which pydicom 3.0 does not name."""

MOST_SEGMENTS = 4096
"""That are read of one file: an atlas of the whole body has some hundreds, and each takes a mask."""

THRESHOLD = 0.5
"""Of a fractional segmentation: a voxel of which at least half is the structure, or as likely as not, counts."""


def read_segments(dataset: Dataset, series: Series) -> Structures:
    """The segments of a SEG as masks on a series' grid, by their labels.

    Args:
        dataset: the whole file, pixels included.
        series: what the segments are to be laid on.

    Raises:
        DataError: it is not a SEG, or belongs to another frame of reference.
        GeometryError: a frame lies between the slices of the series, or its pixels between the series' pixels; the
            message says how far.
        ImageReadError: it is damaged, or compressed in a way that is not read.
    """
    frames = SegFrames(dataset, series)
    masks = PackedMasks(series.geometry.shape)
    for label in frames.labels.values():
        masks.add_empty(label)
    held = set()
    for number, index, found in frames:
        masks.add_slice(frames.labels[number], index, found)
        held.add(number)
    notes = [f"segment {label!r} is empty" for number, label in frames.labels.items() if number not in held]
    return Structures(masks, (*frames.notes, *notes), frames.details)


class SegFrames:
    """The frames of a SEG, one after the other, so that a reader need not hold them all.

    Iterating gives ``(segment number, index of the slice, bool (y, x) on the series' grid)`` per frame and segment.
    ``labels`` are the segments' names by their numbers, made different where they were not; ``details`` by these names
    are who drew them and in which colour, in the words of RTSTRUCT; ``notes`` say what was found on the way so far.
    """

    def __init__(self, dataset: Dataset, series: Series) -> None:
        self._dataset, self._series = dataset, series
        self.notes: list[str] = []
        self.details: dict[str, dict[str, str]] = {}
        with _damaged():
            if dataset.get("SOPClassUID") not in {SegmentationStorage, LABEL_MAP_SEGMENTATION}:
                raise DataError(f"expected a DICOM Segmentation, found {dataset.get('Modality', 'another object')!r}")
            self._kind = str(dataset.SegmentationType)
            if self._kind not in {"BINARY", "FRACTIONAL", "LABELMAP"}:
                raise ImageReadError(f"the SEG is of the unknown type {self._kind!r}")
            self._require_frame_of_reference()
            self.labels = self._labels()
            self._count = self._require_whole()
        self._slice_of = {(plane.sop_instance_uid, plane.frame): index for index, plane in enumerate(series.planes)}
        self._placements: dict[tuple[float, ...], Placement] = {}

    def __iter__(self) -> Iterator[tuple[int, int, BoolArray]]:
        if self._kind == "FRACTIONAL":
            what = str(self._dataset.get("SegmentationFractionalType", "unknown")).lower()
            self.notes.append(f"the SEG is fractional ({what}); voxels of {THRESHOLD} and more were taken")
        for index in range(self._count):
            with _damaged():
                place = self._placement(index)
                found = [(number, place.laid(mask)) for number, mask in self._segments(index, self._values(index))]
            for number, mask in found:
                yield number, place.slice_index, mask

    def _require_frame_of_reference(self) -> None:
        own, expected = self._dataset.get("FrameOfReferenceUID"), self._series.header.get("FrameOfReferenceUID")
        if own and own != expected:
            raise DataError(
                "the SEG lies in another frame of reference (0020,0052) than the series: it was drawn on other images, "
                "and where it would lie on these is not known"
            )
        referenced = {item.SeriesInstanceUID for item in self._dataset.get("ReferencedSeriesSequence") or ()}
        if referenced and self._series.header.get("SeriesInstanceUID") not in referenced:
            self.notes.append("the SEG was drawn on another series of the same frame of reference")

    def _labels(self) -> dict[int, str]:
        labels: dict[int, str] = {}
        if len(self._dataset.SegmentSequence) > MOST_SEGMENTS:
            raise ImageReadError(f"the SEG describes {len(self._dataset.SegmentSequence)} segments: damaged, refused")
        for item in self._dataset.SegmentSequence:
            number = int(item.SegmentNumber)
            if number == 0:  # the background of a label map (PS3.3, C.8.20.2)
                continue
            if number in labels:
                raise ImageReadError(f"the SEG has two segments of number {number}")
            label = str(item.get("SegmentLabel") or "").strip() or f"segment {number}"
            name, count = label, 1
            while name in labels.values():
                count += 1
                name = f"{label} ({count})"
            if name != label:
                self.notes.append(f"several segments are called {label!r}; segment {number} was named {name!r}")
            labels[number] = name
            self.details[name] = _details(item)
        return labels

    def _require_whole(self) -> int:
        """The number of frames, all of which are there; nothing is made room for before that is known."""
        dataset, series = self._dataset, self._series
        count, rows, columns = int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)
        described = len(dataset.PerFrameFunctionalGroupsSequence)
        if count < 1 or count != described:
            raise ImageReadError(f"the SEG says that it has {count} frames, but describes {described}")
        if not 0 < rows * columns <= series.rows * series.columns:
            raise GeometryError(
                f"the SEG's frames have {rows} x {columns} pixels, but the series' images {series.rows} x "
                f"{series.columns}: it is on another grid"
            )
        if not self._dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            expected = -(-count * rows * columns * int(dataset.BitsAllocated) // 8)
            if len(dataset.PixelData) < expected:
                raise ImageReadError(
                    f"the SEG is cut short: {len(dataset.PixelData)} bytes of pixels, expected {expected}"
                )
        return count

    def _group(self, index: int, keyword: str) -> Any:
        """A functional group of a frame, its own or that of all; None where it has none."""
        items = self._dataset.PerFrameFunctionalGroupsSequence[index].get(keyword)
        if not items:
            shared = self._dataset.get("SharedFunctionalGroupsSequence")
            items = shared[0].get(keyword) if shared else None
        return items[0] if items else None

    def _placement(self, index: int) -> Placement:
        position = self._group(index, "PlanePositionSequence")
        if position is None or not position.get("ImagePositionPatient"):
            return self._placement_by_reference(index)
        orientation = self._group(index, "PlaneOrientationSequence")
        measures = self._group(index, "PixelMeasuresSequence")
        if orientation is None or measures is None:
            raise ImageReadError(f"frame {index + 1} of the SEG has no orientation or no pixel spacing")
        place = (*position.ImagePositionPatient, *orientation.ImageOrientationPatient, *measures.PixelSpacing)
        key = tuple(float(value) for value in place)
        if len(key) != 11 or not np.isfinite(key).all():
            raise ImageReadError(f"frame {index + 1} of the SEG has no valid place")
        if key not in self._placements:
            size = (int(self._dataset.Rows), int(self._dataset.Columns))
            self._placements[key] = placement(self._series, key, size, f"frame {index + 1} of the SEG")
        return self._placements[key]

    def _placement_by_reference(self, index: int) -> Placement:
        """The slice that a frame without a position says it was drawn on."""
        derived = self._group(index, "DerivationImageSequence")
        sources = derived.get("SourceImageSequence") if derived is not None else None
        named = {
            self._slice_of.get((item.ReferencedSOPInstanceUID, frame))
            for item in sources or ()
            for frame in _frames_named(item)
        }
        found = next(iter(named)) if len(named) == 1 else None
        if found is None:
            raise GeometryError(f"frame {index + 1} of the SEG has no position and names no single image of the series")
        size = (int(self._dataset.Rows), int(self._dataset.Columns))
        if size != (self._series.rows, self._series.columns):
            raise GeometryError(f"frame {index + 1} of the SEG has no position and another size than its image")
        return Placement(found, False, np.arange(size[0]), np.arange(size[1]), size)

    def _values(self, index: int) -> npt.NDArray[Any]:
        dataset = self._dataset
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        if int(dataset.BitsAllocated) == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            # Frames follow each other without a gap, bit by bit, the lowest first (PS3.5, 8.1.1).
            first = index * rows * columns
            last = first + rows * columns
            octets = np.frombuffer(dataset.PixelData, dtype=np.uint8)[first // 8 : -(-last // 8)]
            bits = np.unpackbits(octets, bitorder="little")[first % 8 :][: rows * columns]
            return bits.reshape(rows, columns)
        values: npt.NDArray[Any] = pixel_array(dataset, index=index, raw=True)
        if values.shape != (rows, columns):
            raise ImageReadError(f"frame {index + 1} of the SEG has the shape {values.shape}")
        return values

    def _segments(self, index: int, values: npt.NDArray[Any]) -> Iterator[tuple[int, BoolArray]]:
        if self._kind == "LABELMAP":
            numbers = {int(number) for number in np.unique(values)} - {0, self._dataset.get("PixelPaddingValue")}
            for number in sorted(numbers):
                self._require_known(number)
                yield number, values == number
            return
        number = int(self._group(index, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        self._require_known(number)
        if self._kind == "FRACTIONAL":
            yield number, values >= THRESHOLD * int(self._dataset.MaximumFractionalValue)
        else:
            yield number, values != 0

    def _require_known(self, number: int) -> None:
        if number not in self.labels:
            raise ImageReadError(f"the SEG holds segment {number}, which it does not describe")


def _details(item: Dataset) -> dict[str, str]:
    """Who drew a segment, and its colour; what is missing or damaged says nothing."""
    found = {}
    drawn_by = text(item, "SegmentAlgorithmType")
    if drawn_by in {"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}:
        found["ROIGenerationAlgorithm"] = drawn_by
    try:
        color = CIELabColor.from_dicom_value(item.RecommendedDisplayCIELabValue).to_rgb()
        found["ROIDisplayColor"] = ",".join(str(int(value)) for value in color)
    except (AttributeError, TypeError, ValueError):
        pass
    return found


def _frames_named(item: Dataset) -> list[int | None]:
    frames = item.get("ReferencedFrameNumber")
    if frames is None:
        return [None]
    return [int(frame) for frame in (frames if isinstance(frames, list) else [frames])]


@contextmanager
def _damaged() -> Iterator[None]:
    """Say of whatever a damaged file makes pydicom raise that the file is damaged."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError) as error:
        raise ImageReadError(f"the SEG is damaged or not of a kind that is read: {_one_line(error)}") from error
    except (ValueError, OverflowError, EOFError) as error:
        raise ImageReadError(f"the SEG is damaged: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
