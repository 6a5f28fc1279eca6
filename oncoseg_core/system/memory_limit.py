"""The one bound on how much memory an image may take, asked before anything is decoded."""

from __future__ import annotations

import math
import os
import re
from functools import cache
from pathlib import Path

from oncoseg_core.contract.errors import ConfigError, ImageReadError

IMAGE_BYTES_VARIABLE = "ONCOSEG_MAX_IMAGE_BYTES"
"""Names the most bytes that the voxels of one image may take once they are decoded."""

_SHARE = 8
"""Of the machine's memory: the path holds an image as stored, as float32, and masks; the model needs the rest."""

_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_SMALLEST_MACHINE = 8 * 2**30


def image_bytes_limit() -> int:
    """Most bytes of one decoded image: ``$ONCOSEG_MAX_IMAGE_BYTES``, or an eighth of the memory of this machine.

    Raises:
        ConfigError: the variable is no positive whole number.
    """
    text = os.environ.get(IMAGE_BYTES_VARIABLE)
    if text is None:
        return _machine_bytes() // _SHARE
    if not re.fullmatch(r"[1-9]\d{0,17}", text, re.ASCII):
        raise ConfigError(f"{IMAGE_BYTES_VARIABLE}: expected a positive whole number of bytes, found {text[:40]!r}")
    return int(text)


def require_image_bytes(count: float, name: str, what: str) -> None:
    """Refuse an image before it is decoded that would take more memory than is allowed.

    Args:
        count: bytes of all its voxels.
        name: the file's name for the message.
        what: its size in words, such as ``1500 x 1500 x 1500 voxels``.

    Raises:
        ImageReadError: it would; the message names the variable that raises the limit.
    """
    limit = image_bytes_limit()
    if count > limit:
        raise ImageReadError(
            f"{name}: its {what} take {math.ceil(count)} bytes of memory, more than the {limit} that one image may; if "
            f"the file is sound and this machine has the memory, set {IMAGE_BYTES_VARIABLE} to allow more"
        )


@cache
def _machine_bytes() -> int:
    """The memory of this machine, or of the container that this process is bound to."""
    sizes = []
    try:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows
        sizes.append(_SMALLEST_MACHINE)
    for path in _CONTAINER_LIMITS:
        try:
            sizes.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min(size for size in sizes if size > 0)
