"""Programs that run an ONNX file on the processor, one call at a time, on as many threads as torch may use."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from oncoseg_core import MissingDependencyError, UsageError

EngineName: TypeAlias = Literal["auto", "torch", "onnxruntime", "openvino", "triton"]
Precision: TypeAlias = Literal["fp32", "bf16"]


class Runtime(ABC):
    """A part of the network, ready to run. ``name`` says with what, and in which number format."""

    name: str

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of the part; inputs and outputs are float32 on the processor."""
        arrays = [tensor.detach().float().contiguous().numpy() for tensor in inputs]
        with self._lock:
            return [torch.from_numpy(np.ascontiguousarray(array)) for array in self.run(arrays)]

    @abstractmethod
    def run(self, inputs: list[Any]) -> list[Any]:
        """Arrays in, arrays of their own out."""


class OpenVINO(Runtime):
    """OpenVINO, in float32 or bfloat16."""

    def __init__(self, content: bytes, precision: Precision) -> None:
        super().__init__()
        import openvino

        core = openvino.Core()
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        self._model = core.compile_model(core.read_model(content, b""), "CPU", options)
        self.name = label("openvino", precision)

    def run(self, inputs: list[Any]) -> list[Any]:
        """Inputs are not copied, outputs are."""
        found = self._model(inputs, share_inputs=True)
        return [found[number] for number in range(len(self._model.outputs))]


class OnnxRuntime(Runtime):
    """onnxruntime, in float32."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        self.name = label("onnxruntime", "fp32")

    def run(self, inputs: list[Any]) -> list[Any]:
        """All outputs."""
        return list(self._session.run(None, dict(zip(self._inputs, inputs, strict=True))))


def label(engine: str, precision: str) -> str:
    """An engine with its version and number format, such as ``openvino 2026.4.1 fp32``."""
    return f"{engine} {importlib.metadata.version(engine)} {precision}"


def start(engine: str, content: bytes, precision: Precision) -> Runtime:
    """Load a part into an engine."""
    return OpenVINO(content, precision) if engine == "openvino" else OnnxRuntime(content)


def require_onnx() -> None:
    """Refuse to export without the library that writes the files.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingDependencyError("the network is exported with onnx: pip install 'oncoseg-litemedsam[onnx]'")


def installed(engine: str) -> bool:
    """Whether it can be imported, and ``onnx``, with which the network is exported."""
    return all(importlib.util.find_spec(name) is not None for name in (engine, "onnx"))


def refusal(engine: str, precision: str) -> Exception | None:
    """Why an engine cannot be used for a number format; None where it can."""
    if engine == "triton":
        return None if precision == "fp32" else UsageError(f"`engine` triton computes in fp32, not {precision}")
    if not installed(engine):
        extra = {"openvino": "openvino", "onnxruntime": "onnx"}[engine]
        return MissingDependencyError(
            f"`engine` {engine} is not installed: pip install 'oncoseg-litemedsam[{extra}]', or choose torch or auto"
        )
    if engine == "onnxruntime" and precision != "fp32":
        return UsageError(f"`engine` onnxruntime computes in fp32 only, not {precision}; choose fp32, or openvino")
    if engine == "openvino" and precision not in {"fp32", "bf16"}:
        return UsageError(f"`engine` openvino computes in fp32 or bf16, not {precision}")
    if engine == "openvino" and precision == "bf16" and not _processor_has_bf16():
        return UsageError("`engine` openvino: this processor does not compute in bf16; choose fp32")
    return None


def _processor_has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
