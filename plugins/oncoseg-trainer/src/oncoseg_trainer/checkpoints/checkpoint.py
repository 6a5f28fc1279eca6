"""One checkpoint: everything that the rest of a run depends on, in one file that knows whether it is whole.

The file is what ``torch.save`` writes, followed by the SHA-256 of it and a mark, so that a cut, a flipped bit or an
empty file is found before a byte of it is trusted. It is read with ``weights_only=True``.

There is no state of random generators in it, nor a position in the sampler, for there is none to keep: every draw
(order, slices, prompts, augmentation, dropout) is derived from the seed, the epoch and the sample, so the number of
finished steps says all.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from torch import nn

from oncoseg_core import PluginError, RunError, StorageError, WeightsError
from oncoseg_core.system import atomic_path

FORMAT = 2
"""1 was a single ``checkpoint.pt`` without a checksum, never published."""

_MARK = b"OncoSeg\n"
_FOOTER = hashlib.sha256().digest_size + len(_MARK)
_CHUNK = 1 << 20


class Stateful(Protocol):
    """A part of a run whose state is saved: an optimizer, a scheduler, a gradient scaler, or averaged weights.

    The state is made of tensors, dicts, lists, tuples, numbers, texts and None.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """The state."""

    def load_state_dict(self, state: Any, /) -> object:
        """Take a state on."""


@dataclass
class RunState:
    """How far a run has come, in plain values.

    ``step`` counts finished optimizer steps; ``scores_due`` says that the held-out cases are to be scored before the
    next one. ``split_hash`` (which cases) and ``data_hash`` (their images) must be the same when the run is resumed,
    and so must ``samples_per_step``; ``processes`` is how many the run was begun with.
    ``warnings`` are the lines that were said in it.
    """

    split_hash: str
    data_hash: str
    processes: int
    samples_per_step: int
    step: int = 0
    scores_due: bool = False
    zero_shot: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint's contents, in CPU memory.

    Attributes:
        state: how far the run has come.
        config: the effective configuration.
        versions: of plugins and libraries, and the machine (``oncoseg_core.plugins.environment.describe``).
        trainable: the trained weights by name.
        parts: the state of each part by name.
    """

    state: RunState
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    trainable: Mapping[str, torch.Tensor]
    parts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        state: RunState,
        config: Mapping[str, Any],
        versions: Mapping[str, Any],
        trainable: Mapping[str, nn.Parameter],
        parts: Mapping[str, Stateful],
    ) -> Checkpoint:
        """Copy a run as it is now: what happens to it afterwards does not reach the copy.

        Raises:
            PluginError: a part's state holds something that could not be read back.
        """
        return cls(
            state=RunState(**json.loads(json.dumps(vars(state)))),
            config=config,
            versions=versions,
            trainable={name: _copied(parameter, name) for name, parameter in trainable.items()},
            parts={name: _copied(part.state_dict(), name) for name, part in parts.items()},
        )

    @property
    def n_bytes(self) -> int:
        """Of all tensors."""
        return tensor_bytes(self.trainable) + tensor_bytes(self.parts)

    def restore(self, trainable: Mapping[str, nn.Parameter], parts: Mapping[str, Stateful], where: str) -> None:
        """Put the weights and the state of every part in place.

        Raises:
            WeightsError: it belongs to other trainable weights, or to a run made of other parts.
        """
        weights = self.trainable
        if weights.keys() != trainable.keys() or any(weights[n].shape != p.shape for n, p in trainable.items()):
            raise WeightsError(f"{where}: holds other trainable weights than this configuration has")
        if self.parts.keys() != parts.keys():
            raise WeightsError(
                f"{where}: holds the state of {', '.join(sorted(self.parts))}; this run has "
                f"{', '.join(sorted(parts))}: resume with the version of the trainer that it was begun with"
            )
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(weights[name])
        for name, part in parts.items():
            try:
                part.load_state_dict(self.parts[name])
            except (KeyError, ValueError, TypeError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:120]
                raise WeightsError(f"{where}: the state of {name} does not fit this run ({reason})") from error


def tensor_bytes(value: Any) -> int:
    """The size of all tensors in nested mappings and sequences."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(tensor_bytes(each) for each in value.values())
    return sum(tensor_bytes(each) for each in value) if isinstance(value, list | tuple) else 0


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside ``path``, read it back, and only then put it in place.

    Raises:
        StorageError: it cannot be written, or does not read back as it was written. ``path`` is as it was before.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "run": json.dumps(vars(checkpoint.state)),
            "config": json.dumps(checkpoint.config),
            "versions": json.dumps(checkpoint.versions),
            "trainable": dict(checkpoint.trainable),
            "parts": dict(checkpoint.parts),
        },
        buffer,
    )
    content = buffer.getbuffer()
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            for start in range(0, len(content), _CHUNK):  # in pieces, so that other threads get their turn
                stream.write(content[start : start + _CHUNK])
            stream.write(hashlib.sha256(content).digest() + _MARK)
            stream.flush()
            os.fsync(stream.fileno())
            _forget(stream)
        damage = find_damage(temporary)
        if damage:
            raise StorageError(
                f"cannot write {path}: what was written reads back differently ({damage}); is the disk sound?"
            )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint whose checksum is right.

    Raises:
        WeightsError: it is damaged; how is said.
        RunError: it is sound, and of another version of the trainer.
    """
    damage = find_damage(path)
    if damage:
        raise WeightsError(f"{path}: the checkpoint is damaged: {damage}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)  # what follows the archive is not looked at
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path}: the checkpoint is damaged: {reason}") from error
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise RunError(f"{path}: is a checkpoint of another version of the trainer; resume with that version")
    return Checkpoint(
        state=RunState(**json.loads(saved["run"])),
        config=json.loads(saved["config"]),
        versions=json.loads(saved["versions"]),
        trainable=saved["trainable"],
        parts=saved["parts"],
    )


def find_damage(path: Path) -> str | None:
    """Compare a file with the checksum at its end: None when it is whole, else what is wrong with it."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size == 0:
                return "it is empty"
            if size < _FOOTER:
                return "it is cut short"
            stream.seek(-_FOOTER, os.SEEK_END)
            footer = stream.read()
            if not footer.endswith(_MARK):
                return "it is cut short, or no checkpoint"
            stream.seek(0)
            found = hashlib.sha256()
            left = size - _FOOTER
            while left and (piece := stream.read(min(_CHUNK, left))):
                found.update(piece)
                left -= len(piece)
    except OSError as error:
        return error.strerror or str(error)
    return None if found.digest() + _MARK == footer else "its checksum is wrong"


def _forget(stream: BinaryIO) -> None:
    """Have the system drop its copy of a file, so that reading it back reads the disk; not all systems can."""
    with contextlib.suppress(OSError, AttributeError):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _copied(value: Any, where: str) -> Any:
    """A copy in CPU memory that shares nothing with the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(each, where) for each in value)
    if type(value) in (bool, int, float, str, type(None)):
        return value
    raise PluginError(
        f"the state of {where} holds a {type(value).__name__}, which a checkpoint cannot: use tensors and plain values"
    )
