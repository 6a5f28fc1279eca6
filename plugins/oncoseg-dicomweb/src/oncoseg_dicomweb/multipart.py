"""``multipart/related`` as DICOMweb uses it (RFC 2046, 2387): read part by part from a stream, and written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from oncoseg_core.system import open_regular

_HEADER_BYTES = 16 * 1024
"""Most bytes of the headers of one part."""

_CHUNK = 2**20


class MultipartError(ValueError):
    """A body that is not what its type says, or is cut short."""


def boundary_of(content_type: str) -> bytes:
    """The boundary that a ``Content-Type`` names.

    Raises:
        MultipartError: it is another type, or names none.
    """
    if not re.match(r"\s*multipart/related\s*(;|$)", content_type, re.IGNORECASE):
        raise MultipartError("the answer is not multipart/related")
    match = re.search(r";\s*boundary\s*=\s*(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", content_type, re.IGNORECASE)
    if match is None:
        raise MultipartError("the answer is multipart and names no boundary")
    return (match[1] or match[2]).encode("ascii", "replace")


def split_parts(chunks: Iterable[bytes], boundary: bytes) -> Iterator[dict[str, str] | bytes]:
    """The parts of a body, without holding more than a chunk: the headers of a part, then its bytes in pieces.

    Raises:
        MultipartError: the body ends before its last boundary, or a part's headers do not end.
    """
    source = iter(chunks)
    delimiter = b"\r\n--" + boundary
    buffer = b"\r\n"  # the first boundary may stand at the very beginning
    first = True
    while True:
        # Up to the next delimiter: the bytes of a part, or what precedes the first.
        while (at := buffer.find(delimiter)) < 0:
            keep = len(delimiter) - 1
            if not first and len(buffer) > keep:
                yield buffer[:-keep]
            buffer = buffer[-keep:] + _more(source)
        if not first and at:
            yield buffer[:at]
        first = False
        buffer = buffer[at + len(delimiter) :]
        while len(buffer) < 2:
            buffer += _more(source)
        if buffer.startswith(b"--"):
            return
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > _HEADER_BYTES:
                raise MultipartError("a part of the answer has headers without an end")
            buffer += _more(source)
        yield _headers(buffer[:end])
        buffer = buffer[end + 4 :]
        if buffer.startswith(b"--" + boundary):  # an empty part
            buffer = b"\r\n" + buffer


def _more(source: Iterator[bytes]) -> bytes:
    for chunk in source:
        if chunk:
            return chunk
    raise MultipartError("the answer ends before its last part does: it was cut short")


def _headers(block: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in block.split(b"\r\n") if b":" in line)
    return {name.strip().lower().decode("latin-1"): value.strip().decode("latin-1") for name, _, value in lines}


def write_parts(chunks: Iterable[bytes], boundary: bytes, folder: Path, media: str) -> list[Path]:
    """Write every part to a file of ``folder``, named by its number.

    Raises:
        MultipartError: as for :func:`split_parts`, or a part is of another type than ``media``.
        OSError: it cannot be written.
    """
    files: list[Path] = []
    stream = None
    try:
        for piece in split_parts(chunks, boundary):
            if isinstance(piece, bytes):
                assert stream is not None  # noqa: S101 - headers come first
                stream.write(piece)
                continue
            if stream is not None:
                stream.close()
            kind = piece.get("content-type", media).partition(";")[0].strip().lower()
            if kind != media:
                raise MultipartError(f"a part of the answer is {kind[:60]!r} and not {media}")
            files.append(folder / f"{len(files):06d}.dcm")
            stream = files[-1].open("xb")
    finally:
        if stream is not None:
            stream.close()
    return files


def encoded_length(files: Sequence[Path], boundary: str, media: str) -> int:
    """How many bytes :func:`encoded` gives."""
    head = len(_part_head(boundary, media)) + 2
    return sum(head + file.stat().st_size for file in files) + len(_end(boundary))


def encoded(files: Sequence[Path], boundary: str, media: str) -> Iterator[bytes]:
    """Files as a multipart body, in pieces."""
    for file in files:
        yield _part_head(boundary, media)
        with open_regular(file) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        yield b"\r\n"
    yield _end(boundary)


def _part_head(boundary: str, media: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: {media}\r\n\r\n".encode()


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()
