"""Which engine answers for a model now: exported from its present weights, and compared with torch."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import threading
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import torch

from oncoseg_core import QualityError, StorageError, UsageError
from oncoseg_litemedsam.engines.export import Exported, keep, kept, note_check, onnx_bytes, onnx_file, was_checked
from oncoseg_litemedsam.engines.parts import Decoder, Encoder, Part
from oncoseg_litemedsam.engines.runtimes import EngineName, Precision, Runtime, label, refusal, start
from oncoseg_litemedsam.engines.triton import Triton
from oncoseg_litemedsam.engines.weights import acting_weights, checksum, fingerprint, plain_network

BY_PREFERENCE = ("openvino", "onnxruntime")
"""What ``auto`` takes, in this order, of what is installed and computes in the precision that is called for."""

LOWEST_DICE = {"fp32": 0.999, "bf16": 0.95}
"""Of the phantom's masks against torch in float32."""

MOST_DIFFERENT = {"fp32": 1e-4, "bf16": 0.2}
"""The largest difference of an output, relative to its largest value."""

MOST_KEPT = 4
"""Loaded engines of one model: two parts, with an adapter and with it switched off."""

ENCODER, DECODER = Encoder(), Decoder()


class TritonServer(NamedTuple):
    """Where a Triton server is, how the model is called there (``<model>_encoder``), how long to wait for an answer."""

    url: str
    model: str
    seconds: float


class Engines:
    """The engines of one model. A copy of the model gets new ones.

    ``used`` are the names of all that computed a part, torch among them: numbers differ in the last digits.
    """

    def __init__(self, engine: EngineName, server: TritonServer | None = None) -> None:
        self.engine, self.server = engine, server
        self.used: dict[str, set[str]] = {}
        self._loaded: OrderedDict[tuple[Any, ...], Runtime | None] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Engines, (self.engine, self.server)

    def runtime(self, part: Part, model: Any, at: torch.Tensor) -> Runtime | None:
        """What computes a part of the model now, for inputs like this one; None where torch does.

        torch does where gradients are taken, in training mode, and for weights or pixels that are not float32 on the
        processor. Weights that have changed since the last call, or an adapter that was switched, are exported anew.

        Raises:
            UsageError, MissingDependencyError: an engine was chosen by name and cannot compute this.
            QualityError: its masks are not torch's.
        """
        found = None
        if self.engine != "torch" and not torch.is_grad_enabled() and not model.training and self._takes(model, at):
            found = self._current(part, model, _precision())
        with self._lock:
            self.used.setdefault(part.name, set()).add(f"torch {torch.__version__}" if found is None else found.name)
        return found

    def summary(self) -> str | None:
        """All that computed, by part; None where nothing was computed."""
        with self._lock:
            by_part = {part: ", ".join(sorted(names)) for part, names in self.used.items()}
        if len(set(by_part.values())) == 1:
            return next(iter(by_part.values()))
        return "; ".join(f"{part}: {names}" for part, names in by_part.items()) or None

    def _takes(self, model: Any, at: torch.Tensor) -> bool:
        types = {at.dtype, *(parameter.dtype for parameter in model.parameters())}
        if at.device.type == "cpu" and types == {torch.float32}:
            return True
        if self.engine != "auto":
            given = ", ".join(sorted({at.device.type, *map(str, types)}))
            raise UsageError(
                f"`engine` {self.engine} computes with float32 on the cpu, found {given}; choose device cpu, or engine "
                "auto or torch"
            )
        return False

    def _current(self, part: Part, model: Any, precision: str) -> Runtime | None:
        with self._lock:
            key = (part.name, precision, checksum([getattr(model, name) for name in part.modules]))
            if key not in self._loaded:
                self._loaded[key] = self._new(part, model, precision)
                while len(self._loaded) > MOST_KEPT:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return self._loaded[key]

    def _new(self, part: Part, model: Any, precision: str) -> Runtime | None:
        if self.engine != "auto":
            refused = refusal(self.engine, precision)
            if refused is not None:
                raise refused
            if self.server is not None:
                return _served(part, model, self.server)
            return _started(part, model, self.engine, precision)  # type: ignore[arg-type]
        for engine in BY_PREFERENCE:
            if refusal(engine, precision) is None:
                try:
                    return _started(part, model, engine, precision)  # type: ignore[arg-type]
                except Exception as error:  # noqa: BLE001 - whatever an engine raises, torch can compute it
                    warnings.warn(f"litemedsam's {part.name} runs on torch instead: {engine}: {error}", stacklevel=2)
        return None


def _started(part: Part, model: Any, engine: str, precision: Precision) -> Runtime:
    """A part of the model on an engine, once its masks are known to be torch's."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        weights = _weights(part, model)
        found = kept(onnx_file(part.name, fingerprint(weights)))
        if found is not None:
            with contextlib.suppress(Exception):  # damaged on the disk: it is made again
                return _checked(part, model, found, engine, precision)
        return _checked(part, model, _exported(part, weights), engine, precision)


def _served(part: Part, model: Any, server: TritonServer) -> Runtime:
    """A part of the model on a server that has the same weights and gives torch's masks."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        weights = fingerprint(_weights(part, model))
        runtime = Triton(server.url, f"{server.model}_{part.name}", part, weights, server.seconds)
        _require_masks_of_torch(part, model, runtime, "fp32")
    return runtime


def _checked(part: Part, model: Any, exported: Exported, engine: str, precision: Precision) -> Runtime:
    runtime = start(engine, exported.content, precision)
    checked_as = f"{label(engine, precision).replace(' ', '-')}-{_machine()}"
    if not was_checked(exported, checked_as):
        note_check(exported, checked_as, _require_masks_of_torch(part, model, runtime, precision))
    return runtime


def _require_masks_of_torch(part: Part, model: Any, runtime: Runtime, precision: Precision) -> dict[str, float]:
    dice, difference = part.deviation(model, runtime)
    if dice < LOWEST_DICE[precision] or not difference <= MOST_DIFFERENT[precision]:
        raise QualityError(
            f"`engine` {runtime.name}: litemedsam's {part.name} does not give torch's masks: lowest Dice {dice:.4f}, "
            f"expected {LOWEST_DICE[precision]}; outputs differ by {difference:.1e} of their largest, expected "
            f"{MOST_DIFFERENT[precision]:.0e}; choose engine torch"
        )
    return {"dice": dice, "difference": difference}


class OnnxPart(NamedTuple):
    """A part of the network as an ONNX file, and the SHA-256 of the weights, adapters among them, that are in it."""

    content: bytes
    weights_sha256: str


def onnx_part(part: Part, model: Any) -> OnnxPart:
    """A part of the model with its present weights as ONNX."""
    with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
        weights = _weights(part, model)
        return OnnxPart(_onnx(part, weights), fingerprint(weights))


def _weights(part: Part, model: Any) -> dict[str, torch.Tensor]:
    return {name: each for of in part.modules for name, each in acting_weights(getattr(model, of), f"{of}.").items()}


def _onnx(part: Part, weights: dict[str, torch.Tensor]) -> bytes:
    graph = part.graph(plain_network(weights))
    return onnx_bytes(graph, part.examples(), part.inputs, part.outputs, part.batch)


def _exported(part: Part, weights: dict[str, torch.Tensor]) -> Exported:
    """A part with these weights as ONNX, written to the cache folder."""
    exported = Exported(_onnx(part, weights), onnx_file(part.name, fingerprint(weights)))
    try:
        keep(exported)
    except StorageError as error:
        warnings.warn(f"litemedsam's {part.name} has to be exported again the next time: {error}", stacklevel=2)
    return exported


def _precision() -> str:
    """The number format of the autocast that is active."""
    if not torch.is_autocast_enabled("cpu"):
        return "fp32"
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}[torch.get_autocast_dtype("cpu")]


def _machine() -> str:
    """What tells machines apart that share a cache folder, without naming them."""
    return hashlib.sha256(f"{platform.node()} {platform.machine()}".encode()).hexdigest()[:8]
