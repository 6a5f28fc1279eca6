"""Whether a device that the settings name is there, before a model is loaded for it."""

from __future__ import annotations

from oncoseg_core import ConfigError, MissingDependencyError


def require_device(device: str) -> str:
    """What a device is, for a person.

    Raises:
        ConfigError: PyTorch finds no such GPU.
        MissingDependencyError: it is a GPU, and PyTorch is not installed.
    """
    if not device.startswith("cuda"):
        return "is there"
    try:
        from torch import cuda
    except ImportError as error:
        raise MissingDependencyError(
            f"`work.devices`: {device} needs PyTorch, and it is not installed; install torch, or give cpu"
        ) from error
    number, count = int(device.partition(":")[2] or 0), cuda.device_count()
    if number >= count:
        found = "no GPU" if count == 0 else f"{count} GPUs, cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0 alone"
        raise ConfigError(f"`work.devices`: there is no {device}, PyTorch finds {found}; correct it, or give cpu")
    return cuda.get_device_name(number)
