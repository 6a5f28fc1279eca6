"""From voxels to labels as nnU-Net does it, in one process and one channel of logits at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from oncoseg_core import DataError

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]


class Prediction(NamedTuple):
    """``labels`` ``(z, y, x)`` of the image, and how sure the network is of each head where it found it, in [0, 1].

    A head is a label, 0 the background; of a model that was trained on regions, a region in the order of its classes.
    """

    labels: Labels
    confidences: dict[int, float]


def predict(
    predictor: Any, voxels: Float32, spacing: tuple[float, float, float], beat: Callable[[int, int], None]
) -> Prediction:
    """Segment one image.

    Args:
        predictor: nnU-Net's, with its weights.
        voxels: ``(channel, z, y, x)``.
        spacing: mm ``(z, y, x)``.
        beat: called with how many of how many passes through the network are done.

    Raises:
        DataError: nnU-Net cannot work on the image.
    """
    properties: dict[str, Any] = {"spacing": list(spacing)}
    configuration = predictor.configuration_manager
    try:
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            voxels, None, properties, predictor.plans_manager, configuration, predictor.dataset_json
        )
        tensor = torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format)
    except (AssertionError, IndexError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"nnU-Net cannot prepare the image of {voxels.shape} voxels: {error}") from error
    logits = _logits(predictor, tensor, beat)
    return _labels(predictor, logits.detach().cpu().numpy(), properties)


def _logits(predictor: Any, data: torch.Tensor, beat: Callable[[int, int], None]) -> torch.Tensor:
    passes = _passes(predictor, data)
    done = 0

    def count(*_: object) -> None:
        nonlocal done
        done += 1
        beat(min(done, passes), passes)

    hook = predictor.network.register_forward_hook(count)
    try:
        logits: torch.Tensor = predictor.predict_logits_from_preprocessed_data(data)
    finally:
        hook.remove()
    return logits


def _passes(predictor: Any, data: torch.Tensor) -> int:
    """How often the network runs: folds, windows and mirrored versions; a model of slices on each of them."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    patch = [int(side) for side in predictor.configuration_manager.patch_size]
    shape = [int(side) for side in data.shape[1:]]
    slices, plane = shape[: -len(patch)], shape[-len(patch) :]
    padded = tuple(max(pair) for pair in zip(plane, patch, strict=True))
    steps = compute_steps_for_sliding_window(padded, tuple(patch), predictor.tile_step_size)
    windows = math.prod(slices) * math.prod(len(each) for each in steps)
    axes = predictor.allowed_mirroring_axes if predictor.use_mirroring else None
    return int(windows * len(predictor.list_of_parameters) * 2 ** len(axes or ()))


def _labels(predictor: Any, logits: npt.NDArray[Any], properties: dict[str, Any]) -> Prediction:
    """As nnU-Net exports logits, which it resamples channel by channel too, but never with all channels at once."""
    plans, manager = predictor.plans_manager, predictor.label_manager
    channels = _resampled(predictor, logits, properties)
    shape = tuple(int(side) for side in properties["shape_after_cropping_and_before_resampling"])
    if manager.has_regions:
        cropped, confidences = _by_regions(channels, shape, [int(label) for label in manager.regions_class_order])
    else:
        cropped, confidences = _by_labels(channels, shape)
    kind = np.uint8 if len(manager.foreground_labels) < 255 else np.uint16
    labels = np.zeros(properties["shape_before_cropping"], dtype=kind)
    labels[tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])] = cropped
    return Prediction(labels.transpose(plans.transpose_backward), confidences)


def _resampled(predictor: Any, logits: npt.NDArray[Any], properties: dict[str, Any]) -> Any:
    """Each channel of the logits on the grid of the image before it was resampled, one after another."""
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    shape = properties["shape_after_cropping_and_before_resampling"]
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    current = configuration.spacing
    if len(current) != len(shape):
        current = [spacing[0], *current]
    for channel in range(logits.shape[0]):
        made = configuration.resampling_fn_probabilities(logits[channel : channel + 1], shape, current, spacing)
        yield torch.from_numpy(made)[0] if isinstance(made, np.ndarray) else made[0]


def _by_labels(channels: Any, shape: tuple[int, ...]) -> tuple[Labels, dict[int, float]]:
    """The label of the largest logit, the first of equal ones; the mean of its softmax probability."""
    labels, best, total = np.zeros(shape, np.uint16), None, None
    for label, logit in enumerate(channels):
        if best is None or total is None:
            best, total = logit.clone(), torch.ones(shape)
            continue
        larger = logit > best
        old, new = best.float(), torch.where(larger, logit, best)
        # softmax of the largest is 1 / sum(exp(logit - largest)): the sum is kept while the largest grows
        total = total * torch.exp(old - new.float()) + torch.exp(logit.float() - new.float())
        np.copyto(labels, label, where=larger.numpy())
        best = new
    return labels, {} if total is None else _means(labels, total)


def _means(labels: Labels, total: torch.Tensor) -> dict[int, float]:
    """The mean of ``1 / total`` where each label is, a plane at a time."""
    size = int(labels.max()) + 1
    sums, counts = np.zeros(size), np.zeros(size)
    for plane, of_plane in zip(labels, total, strict=True):
        flat = plane.ravel()
        sums += np.bincount(flat, weights=(1 / of_plane).numpy().ravel(), minlength=size)
        counts += np.bincount(flat, minlength=size)
    return {int(label): _unit(sums[label] / counts[label]) for label in np.flatnonzero(counts)}


def _by_regions(channels: Any, shape: tuple[int, ...], order: list[int]) -> tuple[Labels, dict[int, float]]:
    """Each region over those before it; the mean of its probability where that is above a half."""
    labels, confidences = np.zeros(shape, np.uint16), {}
    for head, logit in enumerate(channels):
        probability = torch.sigmoid(logit.float())
        inside = probability > 0.5
        np.copyto(labels, order[head], where=inside.numpy())
        if inside.any():
            confidences[head] = _unit(float(probability[inside].double().mean()))
    return labels, confidences


def _unit(value: float) -> float:
    return min(1.0, max(0.0, float(value))) if math.isfinite(value) else 0.0
