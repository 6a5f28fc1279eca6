"""Bounds that keep a damaged or hostile file from taking all memory or time."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO
from zipfile import ZipInfo

from oncoseg_core import ImageReadError
from oncoseg_core.system import require_image_bytes

HEADER_BYTES = 64 * 2**20
"""Most bytes of a header that are read: an enhanced object of 10,000 frames has about 20 MB of functional groups."""

HEADER_READS = 1_000_000
"""Most single reads of a header: one element takes two or three, and costs about a kilobyte of memory."""

FOLDER_FILES, ARCHIVE_MEMBERS = 200_000, 100_000
"""Most files that are looked at: a hundred times a large study."""

UNSUSPICIOUS_BYTES = 64 * 2**20
"""Below this no ratio is suspicious: an empty slice compresses to almost nothing."""

ARCHIVE_RATIO, ARCHIVE_MEMBER_BYTES = 300, 2 * 2**30
"""Most that a member of an archive may grow, and most bytes that it may have. CT slices grow by 2 to 4."""

ARCHIVE_BYTES, UNSUSPICIOUS_TOTAL = 64 * 2**30, 2**30
"""Most bytes that all members of an archive may have together, or the voxels of a series; below the second no ratio of
them is suspicious."""

DECODED_RATIO, FRAME_BYTES = 1000, 2**30
"""Most that pixels may grow when they are decoded, and most bytes of a frame. Real compression is 2 to 100."""


class BoundedStream:
    """A file for pydicom that never gives more than there is, however much is asked for, nor more than is sane."""

    def __init__(self, stream: BinaryIO, size: int, name: str, *, pixels: bool) -> None:
        self._stream, self._size, self._name = stream, size, name
        self._bytes_left, self._reads_left = HEADER_BYTES, HEADER_READS
        if pixels:  # the contours of a structure set take 15 reads for 300 bytes or more
            self._bytes_left, self._reads_left = HEADER_BYTES + 3 * size, HEADER_READS + size // 40

    def read(self, count: int | None = -1) -> bytes:
        """At most ``count`` bytes; all that are left without one, as pydicom asks for a deflated object."""
        if count is None or count < 0:
            rest = self._stream.read()
            require_bounded_inflation(rest, self._name)
            return rest
        count = min(count, max(0, self._size - self._stream.tell()))
        self._bytes_left -= count
        self._reads_left -= 1
        if self._bytes_left < 0 or self._reads_left < 0:
            raise ImageReadError(f"{self._name}: its header is larger than any image's should be; it is damaged")
        return self._stream.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._stream.tell()

    def close(self) -> None:
        """As of any file."""
        self._stream.close()


def require_bounded_inflation(deflated: bytes, name: str) -> None:
    """Refuse a deflated object that would grow beyond all measure.

    Raises:
        ImageReadError: it is damaged or a bomb.
    """
    most = max(UNSUSPICIOUS_BYTES, min(len(deflated) * ARCHIVE_RATIO, ARCHIVE_MEMBER_BYTES))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total, rest = 0, deflated
    try:
        while rest and not inflater.eof:
            total += len(inflater.decompress(rest, 2**20))
            rest = inflater.unconsumed_tail
            if total > most:
                raise ImageReadError(f"{name}: its {len(deflated)} deflated bytes become more than {most}: refused")
    except zlib.error as error:
        raise ImageReadError(f"{name}: its deflated data cannot be read: {error}") from None


def require_bounded_member(member: ZipInfo, name: str) -> None:
    """Refuse a member of an archive that would grow beyond all measure, or is locked.

    Raises:
        ImageReadError: it says what.
    """
    if member.flag_bits & 1:
        raise ImageReadError(f"{name}: is locked by a password; unlock the archive first")
    if member.file_size > ARCHIVE_MEMBER_BYTES:
        raise ImageReadError(f"{name}: would have {member.file_size} bytes, more than {ARCHIVE_MEMBER_BYTES}: refused")
    if member.file_size > max(UNSUSPICIOUS_BYTES, member.compress_size * ARCHIVE_RATIO):
        raise ImageReadError(
            f"{name}: its {member.compress_size} bytes would become {member.file_size}: an archive made to fill the "
            "memory is refused"
        )


def require_bounded_archive(members: Sequence[ZipInfo], name: str) -> None:
    """Refuse an archive whose members would together grow beyond all measure.

    Raises:
        ImageReadError: with both sizes.
    """
    packed, total = sum(member.compress_size for member in members), sum(member.file_size for member in members)
    if total > min(ARCHIVE_BYTES, max(UNSUSPICIOUS_TOTAL, packed * ARCHIVE_RATIO)):
        raise ImageReadError(
            f"{name}: its {packed} bytes would become {total}: an archive made to fill the memory is refused; unpack "
            "it and give the folder if it is sound"
        )


def require_bounded_series(total: int, encoded: int, name: str) -> None:
    """Refuse a series whose voxels would take too much memory, or grow beyond all measure from its files.

    Raises:
        ImageReadError: with both sizes.
    """
    require_image_bytes(total, name, "voxels")
    if total > max(UNSUSPICIOUS_TOTAL, encoded * ARCHIVE_RATIO):
        raise ImageReadError(f"{name}: the {encoded} bytes of its files would become {total}: damaged, refused")


def require_bounded_pixels(header: Any, encoded: int, name: str) -> None:
    """Refuse compressed pixels that would grow beyond all measure; ``header`` declares their sizes.

    Raises:
        ImageReadError: with the declared sizes.
    """
    rows, columns, samples = int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)
    frames, bits = int(header.get("NumberOfFrames") or 1), int(header.BitsAllocated)
    frame = rows * columns * samples * bits // 8
    if frame > FRAME_BYTES or frame * frames > max(UNSUSPICIOUS_BYTES, encoded * DECODED_RATIO):
        raise ImageReadError(
            f"{name}: declares {frames} frames of {rows} x {columns} pixels in {encoded} bytes: damaged, refused"
        )
