"""What ``oncoseg plugins show`` tells of a component, and the picture of what a normalizer does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oncoseg_core.contract.errors import UnknownComponentError, UsageError, close_matches
from oncoseg_core.contract.geometry import Geometry
from oncoseg_core.contract.interfaces import Normalizer
from oncoseg_core.contract.records import CommandSpec, NormalizerSpec
from oncoseg_core.contract.volume import Volume
from oncoseg_core.imaging.overlay import draw_slice, new_figure, png_bytes
from oncoseg_core.path.channels import ChannelChoice, choose_channels
from oncoseg_core.plugins.registry import RegisteredComponent, Registry, load_factory

_BINS = 128
_RED_GREEN_BLUE = ("#d62728", "#2ca02c", "#1f77b4")


def find(registry: Registry, name: str, kind: str | None) -> RegisteredComponent:
    """The one component of that name, of whatever kind.

    Raises:
        UnknownComponentError: there is none.
        UsageError: there are several; the message names their kinds.
    """
    kinds = sorted({c.spec.kind for c in registry.components if c.spec.component_name == name})
    if kind is not None:
        if kind not in kinds:
            raise UnknownComponentError(f"there is no {kind} {name!r}{close_matches(kind, kinds)}")
        kinds = [kind]
    if not kinds:
        known = [c.spec.component_name for c in registry.components]
        raise UnknownComponentError(f"no component {name!r} is installed{close_matches(name, known)}")
    if len(kinds) > 1:
        raise UsageError(f"{name!r} is a {' and a '.join(kinds)}; say which: --kind '{kinds[0]}'")
    spec_type = next(type(c.spec) for c in registry.components if c.spec.kind == kinds[0])
    return registry.component(spec_type, name)


def describe(component: RegisteredComponent) -> dict[str, Any]:
    """Its record, its plugin, and the settings it takes with their defaults, as plain values."""
    told: dict[str, Any] = {
        "kind": component.spec.kind,
        "distribution": str(component.plugin),
        **component.spec.model_dump(mode="json"),
    }
    if not isinstance(component.spec, CommandSpec):
        model = load_factory(component).Settings
        told["settings"] = {
            name: "(needed)" if field.is_required() else field.get_default(call_default_factory=True)
            for name, field in model.model_fields.items()
        }
        told["settings_help"] = " ".join((model.__doc__ or "").split())
    return told


def picture_of(
    registry: Registry,
    component: RegisteredComponent,
    image: Path | None,
    slice_index: int | None,
    settings: Mapping[str, Any],
    channels: ChannelChoice | None,
) -> bytes:
    """A slice and its histogram before and after a normalizer, as PNG; of the normalizer's own example by default.

    Raises:
        UsageError: the normalizer has no example and no image is given, or the image has no such slice.
        MissingDependencyError: matplotlib is not installed.
        OncoSegError: whatever is wrong with the image or the settings.
    """
    spec = component.spec
    if not isinstance(spec, NormalizerSpec):
        raise UsageError(f"{spec.component_name!r} is a {spec.kind}; only a normalizer can be drawn")
    normalizer: Normalizer = registry.build(NormalizerSpec, spec.modality, settings)
    if image is not None:
        from oncoseg_core.imaging.formats import read_volume

        volume, origin = read_volume(image, spec.modality), "a given image"
    else:
        example = normalizer.example()
        if example is None:
            raise UsageError(f"normalizer {spec.modality!r} has no example of its own: give an --image")
        volume, origin = Volume(example, Geometry.from_parts(example.shape[1:]), spec.modality), "a generated image"
    depth = volume.geometry.shape[0]
    index = depth // 2 if slice_index is None else slice_index
    if not 0 <= index < depth:
        raise UsageError(f"slice {index} does not exist: the image has slices 0 to {depth - 1}")
    return draw(normalizer, spec, volume, index, origin, channels)


def draw(
    normalizer: Normalizer,
    spec: NormalizerSpec,
    volume: Volume,
    index: int,
    origin: str,
    channels: ChannelChoice | None = None,
) -> bytes:
    """Slice ``index`` of a calibrated volume and its histogram before and after, as PNG; ``origin`` tells whose it is.

    Raises:
        DataError: it is not said which three of its channels to show.
        MissingDependencyError: matplotlib is not installed.
    """
    stats = normalizer.fit(volume.voxels)
    chosen = list(choose_channels(channels, spec, len(volume.voxels), volume.channel_names, volume.name))
    stored = volume.voxels[chosen, index].astype(np.float64)
    unit = normalizer.apply(volume.voxels[:, index], stats)[chosen]
    seen = stored[np.isfinite(stored)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    before = np.nan_to_num((stored - low) / ((high - low) or 1.0), nan=0.0).clip(0, 1)
    view = volume.geometry.view
    row_mm, column_mm = view.spacing(*volume.geometry.spacing[1:])
    figure = new_figure(9, 7.4, dpi=80)
    (left, right), (left_histogram, right_histogram) = figure.subplots(2, 2, height_ratios=(2.4, 1))
    for axes, picture, name in (
        (left, before, f"before, {low:.6g} to {high:.6g}"),
        (right, unit, "normalised, 0 to 1"),
    ):
        upright = np.moveaxis(view.apply(picture), 0, -1)
        draw_slice(axes, upright, row_mm / column_mm)
        axes.set_title(name, fontsize=11)
    for axes, values, extent in (
        (left_histogram, stored, (low, high) if high > low else (low - 0.5, low + 0.5)),
        (right_histogram, unit, (0.0, 1.0)),
    ):
        grey = all(np.array_equal(values[0], other, equal_nan=True) for other in values[1:])
        for colour, channel in zip(("#444444",) if grey else _RED_GREEN_BLUE, values, strict=False):
            finite = channel[np.isfinite(channel)]
            axes.hist(finite, bins=_BINS, range=extent, histtype="step", color=colour, log=True)
        axes.set(xlabel="value", ylabel="pixels")
        axes.spines[["top", "right"]].set_visible(False)
    depth = volume.geometry.shape[0]
    of_depth = f", slice {index} of {depth}" if depth > 1 else ""
    figure.suptitle(f"{spec.modality}: {spec.summary}\n{origin}{of_depth}, {volume.voxels.dtype}", fontsize=12)
    return png_bytes(figure)
