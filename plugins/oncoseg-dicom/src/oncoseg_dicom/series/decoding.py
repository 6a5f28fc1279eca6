"""Decoding compressed pixels in a process of its own.

The decoders of the JPEG family are C and C++: GDCM 3.2 ends the whole process for some damaged files, by an exception
that nobody catches, and a frame may declare itself larger than the header does. A process of their own bears that.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from oncoseg_core import ImageReadError
from oncoseg_dicom.series.values import printable

SECONDS = 300.0
"""Longest that a frame may take; the slowest real ones, of mammography in JPEG 2000, take 2 to 4."""

MEMORY, MEMORY_PER_BYTE = 4 * 2**30, 16
"""Addresses that the process may use, of which libraries reserve most, and those for each byte of a decoded frame."""


_ALL_FAILED = "exceptions were raised by all available plugins"
_INTERNAL = re.compile(
    r"NoneType|object has no attribute|object at 0x|could not broadcast|object is not|unsupported operand|^\W*$"
)


class DecodingProcess:
    """Started with the first request, ended with the context. One request after the other, from one thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def frames(self, dataset: Any, syntax: UID, name: str) -> Iterator[tuple[npt.NDArray[Any], dict[str, Any]]]:
        """The decoded frames of a dataset and what the decoder says of each, as pydicom's ``iter_array``.

        Raises:
            ImageReadError: the decoder says what is wrong, ended, or took too long.
        """
        options = _options(dataset)
        size = int(dataset.Rows) * int(dataset.Columns) * int(options.get("samples_per_pixel", 1)) * 8
        encoded = bytes(dataset.PixelData)
        request = {
            "syntax": str(syntax),
            "options": options,
            "memory": MEMORY + MEMORY_PER_BYTE * size,
            "bytes": len(encoded),
        }
        self._send(json.dumps(request).encode() + b"\n" + encoded, name)
        answered = False
        try:
            while True:
                answer = json.loads(self._receive(None, name))
                answered = "error" in answer or "end" in answer
                if "error" in answer:
                    raise ImageReadError(f"{name}: its pixels cannot be read: {decoder_reason(answer['error'])}")
                if answered:
                    return
                yield self._frame(answer, size, name), answer["properties"]
        finally:
            if not answered:  # the rest of the answer would be taken for that to the next request
                self.__exit__()

    def _frame(self, answer: dict[str, Any], size: int, name: str) -> npt.NDArray[Any]:
        dtype, shape = np.dtype(answer["dtype"]), tuple(answer["shape"])
        count = int(np.prod(shape)) * dtype.itemsize
        if count > size:
            raise ImageReadError(f"{name}: a frame decodes to {shape} pixels, more than its header declares")
        return np.frombuffer(self._receive(count, name), dtype).reshape(shape)

    def _send(self, request: bytes, name: str) -> None:
        if self._process is None:
            # -P: nothing in the current folder is imported.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "oncoseg_dicom.series.decoding_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdin is not None  # noqa: S101 - a pipe, as asked for
        try:
            self._process.stdin.write(request)
            self._process.stdin.flush()
        except OSError:
            raise self._ended(name) from None

    def _receive(self, count: int | None, name: str) -> bytes:
        """So many bytes of the answer, or a line of it."""
        assert self._process is not None  # noqa: S101 - a request was sent
        assert self._process.stdout is not None  # noqa: S101
        alarm = threading.Timer(SECONDS, self._process.kill)
        alarm.start()
        try:
            data = self._process.stdout.readline() if count is None else self._process.stdout.read(count)
        finally:
            alarm.cancel()
        if not data or (count is not None and len(data) < count):
            raise self._ended(name)
        return data

    def _ended(self, name: str) -> ImageReadError:
        return ImageReadError(f"{name}: its pixels cannot be read: the decoder broke off; they are damaged")


def decoder_reason(text: str) -> str:
    """What decoders say of damaged pixels, without what only a programmer of theirs understands."""
    _, _, listed = text.partition(_ALL_FAILED)
    parts = re.split(r"\s*\n\s*", listed.strip(": \n")) if listed else [text]
    telling = [part for part in parts if part and not _INTERNAL.search(part)]
    return (
        printable(" ".join("; ".join(telling).split()))[:160] or "they are damaged, or not compressed as the file says"
    )


def _options(dataset: Any) -> dict[str, Any]:
    """What pydicom's decoders need to know, as JSON can hold it."""
    options = as_pixel_options(dataset, pixel_keyword="PixelData")
    if "extended_offsets" in options:
        options["extended_offsets"] = [np.frombuffer(one, "<u8").tolist() for one in options["extended_offsets"]]
    return {key: value if isinstance(value, (int, list)) else str(value) for key, value in options.items()}
