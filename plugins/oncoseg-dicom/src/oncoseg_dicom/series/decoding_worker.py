"""The process that decodes compressed pixels (see :mod:`oncoseg_dicom.series.decoding`): ``python -m`` this module.

Requests come on standard input: a line of JSON (``syntax``, ``options`` of pydicom's decoder, ``memory``, ``bytes``),
then so many bytes of encapsulated frames. Each frame is answered on standard output by a line of JSON (``dtype``,
``shape``, ``properties``) and its bytes; then a line with ``end``, or with ``error``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from typing import Any, BinaryIO

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID


def main() -> None:
    """Answer requests until there are no more."""
    warnings.simplefilter("ignore")
    logging.disable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what decoders print must not get among the answers
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        _bound_memory(request["memory"])
        try:
            _answer(request, sys.stdin.buffer.read(request["bytes"]), answers)
            _write(answers, {"end": True})
        except Exception as error:  # noqa: BLE001 - pydicom passes on whatever its decoders raise
            _write(answers, {"error": f"{type(error).__name__}: {error}"})


def _answer(request: dict[str, Any], encoded: bytes, answers: BinaryIO) -> None:
    decoder, options = get_decoder(UID(request["syntax"])), request["options"]
    # One frame at once: of several, pydicom 3.0.2 cannot correct the sign of JPEG 2000.
    frames = (
        decoder.iter_array(encoded, **options)
        if options["number_of_frames"] > 1
        else iter([decoder.as_array(encoded, index=0, **options)])
    )
    for values, properties in frames:
        told = {key: properties[key] for key in ("photometric_interpretation", "bits_stored")}
        _write(answers, {"dtype": values.dtype.str, "shape": values.shape, "properties": told}, values.tobytes())


def _write(answers: BinaryIO, told: dict[str, Any], data: bytes = b"") -> None:
    answers.write(json.dumps(told).encode() + b"\n" + data)
    answers.flush()


def _bound_memory(most: int) -> None:
    """Let no damaged frame take more memory; Windows has no such bound."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
