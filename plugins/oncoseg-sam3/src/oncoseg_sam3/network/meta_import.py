"""Imports Meta's ``sam3`` package without what it does not say it needs, and without what its import changes.

Importing ``sam3``

- needs torchvision, which fails beside a CPU torch (:mod:`oncoseg_core.inference.torchvision_guard`);
- needs triton (``sam3/model/edt.py`` line 6), which CPU builds of torch do not bring and macOS and Windows do not
  have: a stand-in takes its place while ``sam3`` is imported, and raises when a kernel of it is launched. It is gone
  afterwards, so that nobody else takes it for triton;
- starts CUDA and switches TensorFloat-32 on for the whole process where the GPU has it (``sam3/model_builder.py``
  line 49): it is told of a GPU that has not, and both stay the user's choice;
- warns of ``torch.jit`` and, without CUDA, of autocast in decorators (``sam3/model/sam3_video_inference.py`` line 798),
  neither of which concerns the user.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import torch

from oncoseg_core import MissingDependencyError
from oncoseg_core.inference import ensure_torchvision_imports

_lock = threading.Lock()


class _Kernel:
    """Takes the place of a triton kernel and of everything that its decorators return."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, grid: object) -> NoReturn:
        raise MissingDependencyError(
            f"sam3's kernel {self._name!r} needs triton, which is not installed: pip install triton (Linux with a GPU)"
        )


class _TritonStandIn(ModuleType):
    """What ``import triton`` and ``import triton.language as tl`` find while sam3 is imported."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    @staticmethod
    def jit(function: Any) -> _Kernel:
        """Stand for ``triton.jit``."""
        return _Kernel(function.__name__)

    constexpr = object
    """Stands for ``tl.constexpr``, an annotation."""


def import_sam3() -> None:
    """Import ``sam3``; harmless to call again.

    Raises:
        MissingDependencyError: ``sam3`` or something it imports is missing.
    """
    with _lock:
        if "sam3" in sys.modules:
            return
        ensure_torchvision_imports()
        try:
            with warnings.catch_warnings(), _triton_stand_in(), _gpu_without_tf32():
                warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
                warnings.filterwarnings("ignore", message="CUDA is not available", category=UserWarning)
                importlib.import_module("sam3")
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"sam3 cannot be imported, {error.name} is missing: pip install oncoseg-sam3"
            ) from error


@contextlib.contextmanager
def _triton_stand_in() -> Iterator[None]:
    if importlib.util.find_spec("triton") is not None:
        yield
        return
    triton, language = _TritonStandIn("triton"), _TritonStandIn("triton.language")
    triton.language = language  # type: ignore[attr-defined]
    sys.modules.update({"triton": triton, "triton.language": language})
    try:
        yield
    finally:
        for name in [name for name, module in sys.modules.items() if isinstance(module, _TritonStandIn)]:
            del sys.modules[name]


@contextlib.contextmanager
def _gpu_without_tf32() -> Iterator[None]:
    ask = torch.cuda.get_device_properties
    torch.cuda.get_device_properties = lambda *_: SimpleNamespace(major=0)  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.cuda.get_device_properties = ask
