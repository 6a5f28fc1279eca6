"""Lets torchvision be imported beside a torch it was not compiled for.

torchvision's Linux wheel is compiled against a CUDA build of torch. With a CPU build its compiled operators do not
load, and ``import torchvision`` then fails with "operator torchvision::nms does not exist", because it describes two of
those operators unconditionally (``torchvision/_meta_registrations.py``). timm, transformers, peft and sam3 import
torchvision, so they fail too. Declaring the two operators, without giving them code, lets the import pass; calling one
of them still fails with torchvision's own message, and what it has in Python (``roi_align``, transforms) works.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import threading
from typing import Any

_SCHEMAS = {name: f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")}
_MISSING_OPERATOR = re.compile(r"operator torchvision::\w+ does not exist")

_lock = threading.Lock()
_declared: list[Any] = []
"""The torch library object: its declarations live as long as it does."""


def ensure_torchvision_imports() -> None:
    """Make ``import torchvision`` work, declaring its missing operators only where the plain import fails for them.

    Call it before importing what imports torchvision. Nothing happens when torchvision is not installed or is already
    imported; calling it again, from any thread, is harmless.

    Raises:
        ImportError, RuntimeError: torchvision is broken in another way; its own error.
    """
    with _lock:
        if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
            return
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if not _MISSING_OPERATOR.search(str(error)):
                raise
            _declare_operators()
            importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    # A fragment, because someone else may have opened the namespace already.
    new_library: Any = torch.library.Library
    library = new_library("torchvision", "FRAGMENT")
    _declared.append(library)
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
