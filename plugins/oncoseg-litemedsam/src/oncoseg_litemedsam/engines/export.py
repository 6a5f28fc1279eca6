"""The network's parts as ONNX files, each made once per weights and kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from oncoseg_core import StorageError
from oncoseg_core.system import atomic_write, cache_directory, json_text

OPSET = 17
FORMAT = 1
"""Counts up when another graph is exported from the same weights."""

MOST_FILES = 32
"""ONNX files that are kept, the last used ones; the encoder's have 28 MB."""


@dataclass(frozen=True)
class Exported:
    """A part as ONNX: its bytes, their SHA-256, and the file that keeps them (which may not be there)."""

    content: bytes
    file: Path

    @property
    def sha256(self) -> str:
        """Of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


def onnx_file(part: str, weights: str) -> Path:
    """Where a part with the weights of that fingerprint is kept."""
    return cache_directory() / "engines" / f"litemedsam-{part}-{weights[:40]}-{FORMAT}-opset{OPSET}.onnx"


def onnx_bytes(
    module: nn.Module,
    examples: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    batch: Sequence[str] = (),
) -> bytes:
    """A module as one ONNX file; the first axis of the tensors in ``batch`` has any length.

    torch's older exporter: it is quicker (5 s for the encoder; the other 10 s) and does without ``onnxscript``.
    """
    stream = io.BytesIO()
    with _quiet(), torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        torch.onnx.export(
            module,
            examples,
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "n"} for name in batch},
        )
    return stream.getvalue()


def keep(exported: Exported) -> None:
    """Write a part to the cache folder, and let go of those that were not used for longest.

    Raises:
        StorageError: it cannot be written.
    """
    atomic_write(exported.file, exported.content)
    files = sorted(exported.file.parent.glob("*.onnx"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in files[MOST_FILES:]:
        for old in (file, *file.parent.glob(f"{file.stem}.*.json")):
            old.unlink(missing_ok=True)


def kept(file: Path) -> Exported | None:
    """The part that is in the cache folder, marked as used; None where there is none."""
    try:
        content = file.read_bytes()
        with contextlib.suppress(OSError):
            file.touch()
    except OSError:
        return None
    return Exported(content, file)


def was_checked(exported: Exported, engine: str) -> bool:
    """Whether this very file was compared with torch on this engine."""
    try:
        check = json.loads(_check_file(exported, engine).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(check, dict) and check.get("sha256") == exported.sha256


def note_check(exported: Exported, engine: str, figures: dict[str, float]) -> None:
    """Note that the file was compared with torch on this engine, so that a further process need not."""
    with contextlib.suppress(StorageError):  # the next process compares once more
        atomic_write(_check_file(exported, engine), json_text({"sha256": exported.sha256, **figures}))


def _check_file(exported: Exported, engine: str) -> Path:
    return exported.file.with_name(f"{exported.file.stem}.{engine}.json")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of every shape that it takes for constant, which they are."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
