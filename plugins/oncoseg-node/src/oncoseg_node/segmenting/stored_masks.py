"""The masks of a job on disk: one packed file for each, taken one at a time."""

from __future__ import annotations

import math
import os
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from oncoseg_core import BoolArray, DataError, Record, StorageError
from oncoseg_core.system import atomic_write, json_text, write_failure
from oncoseg_node.records.job import Job
from oncoseg_node.records.results import Made

MADE = "made.json"
"""Written last of all: without it nothing in the folder counts."""

_INDEX = "masks.json"


class _Part(Record):
    """Where the box around a mask lies, and the file of its bits, packed and deflated; an empty mask has no size."""

    file: str
    start: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def box(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(at, at + length) for at, length in zip(self.start, self.size, strict=True))
        return z, y, x


class _Index(Record):
    shape: tuple[int, int, int]
    masks: dict[str, _Part]


class StoredMasks(Mapping[str, BoolArray]):
    """Masks bool ``(z, y, x)`` by name, each read when it is taken and not kept.

    Taking one raises DataError where its file is missing or is not the one that was written.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._index = _Index.model_validate_json((job.masks / _INDEX).read_bytes())

    def __getitem__(self, name: str) -> BoolArray:
        part, shape = self._index.masks[name], self._index.shape
        try:
            content = zlib.decompress((self._job.masks / part.file).read_bytes())
            return _unpacked(content, _label(name, shape, part), part, shape)
        except (OSError, ValueError, zlib.error) as error:
            raise DataError(
                f"mask {name!r} of job {self._job.id} cannot be read whole ({type(error).__name__}); retry the job"
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._index.masks

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.masks)

    def __len__(self) -> int:
        return len(self._index.masks)


def _label(name: str, shape: tuple[int, int, int], part: _Part) -> bytes:
    """Leads the bits in their file and is checked with them: whose they are, and where they lie."""
    return json_text([name, shape, part.start, part.size]).encode()


def _unpacked(content: bytes, label: bytes, part: _Part, shape: tuple[int, int, int]) -> BoolArray:
    count = math.prod(part.size)
    if not content.startswith(label) or len(content) != len(label) + -(-count // 8):
        raise ValueError("not the file that was written")
    mask = np.zeros(shape, bool)
    if count:
        packed = np.frombuffer(content, np.uint8, offset=len(label))
        mask[part.box] = np.unpackbits(packed, count=count).reshape(part.size).view(bool)
    return mask


class MaskWriter:
    """Takes masks one by one into a folder beside the job's, which gets its name once all are there."""

    def __init__(self, job: Job, shape: tuple[int, int, int]) -> None:
        self._job, self._shape = job, shape
        self._folder = job.folder / "masks.partial"
        self._parts: dict[str, _Part] = {}
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise StorageError(write_failure(error, self._folder)) from error

    def add(self, name: str, mask: BoolArray) -> bool:
        """Write a mask; whether it holds anything.

        Raises:
            DataError: it is not on the images' grid.
            StorageError: it cannot be written.
        """
        if mask.shape != self._shape or mask.dtype != bool:
            raise DataError(f"mask {name!r}: expected bool of shape {self._shape}, got {mask.dtype} of {mask.shape}")
        spans = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        holding = bool(spans[0].size)
        z, y, x = ((int(span[0]), int(span[-1]) + 1) if holding else (0, 0) for span in spans)
        size = (z[1] - z[0], y[1] - y[0], x[1] - x[0])
        part = _Part(file=f"{len(self._parts):04d}.bits", start=(z[0], y[0], x[0]), size=size)
        content = _label(name, self._shape, part) + np.packbits(mask[part.box]).tobytes()
        atomic_write(self._folder / part.file, zlib.compress(content, 1))
        self._parts[name] = part
        return holding

    def drop(self, names: Collection[str]) -> None:
        """Take back those masks of ``names`` that were added last."""
        for name in [name for name in names if name in self._parts]:
            (self._folder / self._parts.pop(name).file).unlink(missing_ok=True)

    def finish(self, made: Made) -> None:
        """Write what was made, and give the folder its name in place of one from an attempt before.

        Raises:
            StorageError: it cannot be written.
        """
        atomic_write(self._folder / _INDEX, _Index(shape=self._shape, masks=self._parts).model_dump_json())
        atomic_write(self._folder / MADE, made.model_dump_json(indent=2))
        try:
            shutil.rmtree(self._job.masks, ignore_errors=True)
            self._folder.replace(self._job.masks)
            descriptor = os.open(self._job.folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(write_failure(error, self._job.masks)) from error


def read_masks(job: Job) -> tuple[Made, StoredMasks]:
    """What was made of a job's images, and the masks, each read when it is taken.

    Raises:
        DataError: they are not there whole.
    """
    try:
        made = Made.model_validate_json((job.masks / MADE).read_bytes())
        masks = StoredMasks(job)
    except (OSError, ValueError) as error:
        raise DataError(f"the masks of job {job.id} are not there whole ({type(error).__name__}); retry it") from error
    if set(masks) != {one.name for one in made.structures if one.left_out is None}:
        raise DataError(f"the masks of job {job.id} are not there whole (others than were made); retry it")
    return made, masks
