"""What ``oncoseg doctor`` looks at."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

from oncoseg_core.contract.errors import OncoSegError, UsageError
from oncoseg_core.contract.grid_checks import grid_findings
from oncoseg_core.contract.interfaces import Finding
from oncoseg_core.contract.records import ModelSpec
from oncoseg_core.imaging.formats import read_volume
from oncoseg_core.imaging.open_image import recognise
from oncoseg_core.plugins.environment import library_versions, machine
from oncoseg_core.plugins.registry import Registry
from oncoseg_core.system.cache_folder import cache_directory
from oncoseg_core.system.privacy import display_path

NEEDED_BYTES = 1024**3
"""Less free disk than this is called bad: a run with its samples takes about 0.2 GB, and checkpoints come on top."""


def examine(registry: Registry) -> list[Finding]:
    """Look at libraries, machine, devices, plugins, models and disk."""
    findings = [
        Finding("libraries", ", ".join(f"{name} {version}" for name, version in library_versions().items()), ok=True),
        Finding("machine", ", ".join(f"{key} {value}" for key, value in machine().items()), ok=True),
        _devices(),
    ]
    for plugin in registry.plugins:
        cause = f" ({plugin.cause})" if plugin.cause else ""
        findings.append(Finding(f"plugin {plugin}", plugin.status + cause, not plugin.failed))
    findings.extend(Finding("plugins", conflict, ok=False) for conflict in registry.conflicts())
    for spec in registry.specs(ModelSpec):
        if spec.hub_id is not None:  # building it could download gigabytes, which nobody asked for
            found = f"not built here: its weights come from {spec.hub_id} when it is used ({spec.weights})"
            findings.append(Finding(f"model {spec.name}", found, ok=True))
            continue
        try:
            weights = registry.build(ModelSpec, spec.name).weights_sha256
        except Exception as error:  # noqa: BLE001 - whatever is wrong is what the doctor is asked for
            findings.append(Finding(f"model {spec.name}", str(error), ok=False))
        else:
            findings.append(
                Finding(f"model {spec.name}", f"built with the weights {weights[:12]} ({spec.weights})", ok=True)
            )
    for what, place in (("cache", cache_directory()), ("current folder", Path.cwd())):
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        findings.append(Finding(f"disk of the {what}", f"{free / 1e9:.1f} GB free at {place}", free > NEEDED_BYTES))
    return findings


def examine_image(registry: Registry, path: Path, texts: Sequence[str], option: str) -> list[Finding]:
    """Look at one image: how its slices lie, and what a person should know before trusting it.

    Args:
        registry: where readers are found.
        path: a series' folder or archive, or an image file.
        texts: settings of its reader as ``KEY=VALUE``, such as which series to take.
        option: the command's name for them.

    Raises:
        UsageError: a setting is wrong.
    """
    try:
        file = recognise(registry, path)
        reader = file.reader(file.settings(texts, option))
        if reader is not None:
            return reader.examine(path)
        image = read_volume(path, "unknown")
        notes = [Finding("note", note, ok=False) for note in image.notes]
        return [*grid_findings(image.geometry, physical=image.physical), *notes]
    except UsageError:
        raise
    except OncoSegError as error:  # what is wrong is what the doctor is asked for
        return [Finding("image", display_path(str(error)), ok=False)]


def _devices() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("devices", "torch is not installed: a model plugin brings it", ok=False)
    torch = importlib.import_module("torch")
    names = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return Finding("devices", ", ".join([*names, f"cpu with {torch.get_num_threads()} threads"]), ok=True)
