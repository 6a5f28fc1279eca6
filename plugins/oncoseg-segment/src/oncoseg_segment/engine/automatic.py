"""Segmenting without prompts: an automatic model on one image, with what there is to say of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oncoseg_core import (
    AutomaticModel,
    AutomaticModelSpec,
    AutomaticResult,
    BoolArray,
    DataError,
    ModelSpec,
    OncoSegError,
    PluginError,
    Progress,
    Registry,
    Segmentation,
    UsageError,
    Volume,
    __version__,
    close_matches,
)
from oncoseg_core.path import Normalization
from oncoseg_segment.engine.checks import Finding, examine_image, specs_of
from oncoseg_segment.engine.resolve import recognise_modality, require_known_modality

MUCH_THICKER = 2.0
"""Voxels of more than that times the size that a model was made for get a warning."""


def is_automatic(registry: Registry, name: str) -> bool:
    """Whether a model needs no prompt.

    Raises:
        UsageError: there are two models of that name, one of each kind.
    """
    automatic = any(spec.name == name for spec in registry.specs(AutomaticModelSpec))
    if automatic and any(spec.name == name for spec in registry.specs(ModelSpec)):
        raise UsageError(
            f"`model` {name!r}: an automatic model and a promptable one have that name; disable a plugin of the two"
        )
    return automatic


class CheckedMasks(Mapping[str, BoolArray]):
    """Masks bool ``(z, y, x)`` as ``maker`` gives them; none is kept.

    Taking one raises PluginError, which names the maker, where it cannot be made or is no mask of that shape: a lazy
    mapping may make it anew each time.
    """

    def __init__(self, masks: Mapping[str, BoolArray], maker: str, shape: tuple[int, ...]) -> None:
        self._masks, self._maker, self._shape = masks, maker, shape
        self._names = tuple(masks)

    def __getitem__(self, name: str) -> BoolArray:
        if name not in self._names:
            raise KeyError(name)
        try:
            mask = self._masks[name]
        except (OncoSegError, MemoryError):
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{self._maker}: making mask {name!r} raised {reason}; tell its authors") from error
        if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == self._shape):
            found = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise PluginError(
                f"{self._maker}: mask {name!r}: expected bool of shape {self._shape}, got {found}; tell its authors"
            )
        return mask

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class AutomaticSegmentation:
    """What an automatic model made of an image.

    ``image`` is the volume as it was given, ``calibrated`` the same with values as its modality means them.
    ``modality`` is what the values were taken for and how that was known. ``names`` are the structures in order.
    """

    model: AutomaticModel
    plugin: str
    image: Volume
    calibrated: Volume
    modality: tuple[str, str]
    names: Sequence[str]
    result: AutomaticResult
    findings: Sequence[Finding]
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def provenance(self) -> dict[str, str]:
        """What made the masks, for whoever writes them to a file."""
        return {
            "model": self.model.spec.name,
            "version": self.plugin,
            "weights": self.model.weights_sha256,
            "software": f"oncoseg-core {__version__}",
        }

    def segmentation(self, masks: Mapping[str, BoolArray]) -> Segmentation:
        """Masks with geometry and provenance, as exporters take them; a lazy mapping stays one."""
        names = set(masks)
        confidences = {name: value for name, value in self.result.confidences.items() if name in names}
        return Segmentation(masks, self.image.geometry, confidences, self.provenance, self.image.handle)


def segment_automatically(
    model: AutomaticModel,
    volume: Volume,
    structures: Sequence[str] | None = None,
    *,
    registry: Registry,
    modality: str | None = None,
    progress: Progress | None = None,
) -> AutomaticSegmentation:
    """Let an automatic model segment an image.

    Args:
        model: built by the registry; it may be used for any number of images.
        volume: the image, as it was read.
        structures: which of the model's; all when omitted.
        registry: the plugins.
        modality: what the intensities are; else what the file says, or what its values can only be.
        progress: called while it works.

    Raises:
        UsageError: a structure is none of the model's, or the modality is not known.
        DataError: the image is of a modality that the model was not made for, or it cannot work on it.
    """
    spec = model.spec
    names = _names(spec, structures)
    require_known_modality(registry, modality)
    known = (modality, "as given") if modality is not None else (volume.modality, "as the image's file tells")
    if known[0] == "unknown":
        known = recognise_modality(registry, volume)
    if spec.modalities and known[0] not in spec.modalities:
        raise DataError(
            f"{volume.name}: model {spec.name!r} was made for {', '.join(spec.modalities)}, and this is "
            f"{known[0]!r} ({known[1]}); choose another model, or correct `modality`"
        )
    specs = specs_of(registry, known[0])
    calibrated = Normalization(registry, known[0], {}).calibrated(replace(volume, modality=known[0]))
    findings = [*_of_model(model, volume), *examine_image(volume, calibrated, known[0], specs)]
    start = time.perf_counter()
    result = model.segment(calibrated, names, progress or _silently)
    seconds = {"segment": time.perf_counter() - start}
    findings += [Finding("warning", "model", note) for note in result.notes]
    plugin = str(registry.component(AutomaticModelSpec, spec.name).plugin)
    answer = f"automatic model {spec.name!r} of {plugin}"
    result = result._replace(masks=CheckedMasks(result.masks, answer, volume.geometry.shape))
    return AutomaticSegmentation(model, plugin, volume, calibrated, known, names, result, tuple(findings), seconds)


def _names(spec: AutomaticModelSpec, structures: Sequence[str] | None) -> tuple[str, ...]:
    if structures is None:
        return spec.structures
    for name in structures:
        if name not in spec.structures:
            raise UsageError(
                f"`structures`: model {spec.name!r} makes no {name!r}{close_matches(name, spec.structures)}"
            )
    names = tuple(dict.fromkeys(structures))
    if not names:
        raise UsageError("`structures`: name at least one")
    return names


def _of_model(model: AutomaticModel, volume: Volume) -> list[Finding]:
    """What is to be said of the model on this image, whatever it finds."""
    spec, messages = model.spec, []
    if spec.licence is not None and spec.licence.notice:
        messages.append(f"model {spec.name!r}: {spec.licence.notice}")
    if model.weights_sha256.startswith("random:"):
        messages.append(f"MODEL {spec.name!r} HAS RANDOM WEIGHTS ({model.weights_sha256}): ITS MASKS MEAN NOTHING")
    if spec.spacing is not None and volume.physical:
        wide = np.array(volume.geometry.spacing) > MUCH_THICKER * np.array(spec.spacing)
        if wide.any():
            here, made = (" x ".join(f"{mm:.3g}" for mm in one) for one in (volume.geometry.spacing, spec.spacing))
            messages.append(f"voxels are {here} mm (z, y, x); model {spec.name!r} was made for {made} mm")
    return [Finding("warning", "model", message) for message in messages]


def _silently(_what: str, _done: int, _total: int) -> None:
    """Report no progress."""
