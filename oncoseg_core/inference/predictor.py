"""The one predictor: an image and prompts in, masks in the image's own geometry out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from oncoseg_core.contract.errors import PromptError
from oncoseg_core.contract.geometry import SliceGrid
from oncoseg_core.contract.interfaces import Decoded, PromptableModel
from oncoseg_core.contract.prompts import Prompt, check_on_slice
from oncoseg_core.contract.records import Stats
from oncoseg_core.contract.volume import BoolArray, Segmentation, Volume
from oncoseg_core.inference.precision import Precision, autocast
from oncoseg_core.inference.weights_fingerprint import weights_fingerprint
from oncoseg_core.path.preprocess import Preprocessor, logits_to_slice, prompt_to_model
from oncoseg_core.path.zoom import Window, ZoomSettings, window_for

MOST_PROMPTS = 64
"""Prompts on one embedding that are decoded at once: a slice can hold hundreds of lesions."""

OUTSIDE = -10.0
"""The logit of what lies outside a zoomed window: a probability of 0.00005."""


class EmbeddingCache:
    """The most recently used image embeddings, up to ``max_bytes``, by content hash and weights hash.

    ``misses`` counts how often an embedding was asked for that was not there.
    """

    def __init__(self, max_bytes: int = 512 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self.misses = 0
        self._entries: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Any | None:
        """The embedding under that key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: str, embedding: Any) -> None:
        """Keep an embedding, and let go of the least recently used ones beyond the limit."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(embedding))
        if key in self._entries or size > self.max_bytes:
            return
        self._entries[key] = (embedding, size)
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed

    def clear(self) -> None:
        """Let go of all."""
        self._entries.clear()
        self._bytes = 0


@dataclass(frozen=True, eq=False)
class SliceResult:
    """One answer: ``mask`` bool and ``logits`` float32, ``(y, x)`` on the stored slice, and the model's ``score``.

    ``presence`` is the model's probability that what was asked for is there at all, None where it does not tell or the
    prompt points at it. ``instances`` are the masks of the objects apart with their scores, best first; None from a
    model that does not tell them apart. ``window`` is the part of the slice that the model was shown, None for all of
    it; outside of it the mask is empty and the logits are ``OUTSIDE``.
    """

    mask: BoolArray
    logits: npt.NDArray[np.float32]
    score: float
    presence: float | None = None
    instances: tuple[tuple[BoolArray, float], ...] | None = None
    window: Window | None = None


class FittedVolume:
    """A volume whose statistics are fitted, ready to be prompted slice by slice."""

    def __init__(self, predictor: Predictor, volume: Volume) -> None:
        self.preprocessor = predictor.preprocessor(volume.modality)
        self.volume = self.preprocessor.calibrated(volume)
        self.stats: Stats = self.preprocessor.fit(self.volume)
        self.grid: SliceGrid = self.preprocessor.grid(self.volume)

    def require_slice(self, index: int) -> None:
        """Refuse an index that the volume does not have; negative ones too.

        Raises:
            PromptError: with those that it has.
        """
        depth = self.volume.geometry.shape[0]
        if not 0 <= index < depth:
            raise PromptError(f"slice {index} does not exist: {self.volume.name} has slices 0 to {depth - 1}")

    def to_model(self, prompt: Prompt, window: Window | None = None) -> Prompt:
        """A prompt on a stored slice, in pixels of the model's input when it is shown that window.

        Raises:
            PromptError: it lies outside the slice, or outside the window.
        """
        if window is None:
            return prompt_to_model(prompt, self.grid)
        return prompt_to_model(window.prompt(prompt), window.grid(self.grid))


class Predictor:
    """Runs a model on prompts, one image encoding per slice however many prompts it gets.

    Args:
        model: a built model, adapted or not. Every call puts it in evaluation mode and leaves it there.
        preprocessors: one per modality that will be asked for.
        cache: keeps embeddings between calls; none when omitted.
        device: where the model is and the pixels go.
        precision: ``bf16`` or ``fp16`` run the model under autocast; results are float32 all the same.
        zoom: show the model a window around a small object (:mod:`oncoseg_core.path.zoom`); the whole slice when None.
    """

    def __init__(
        self,
        model: PromptableModel,
        preprocessors: Mapping[str, Preprocessor],
        cache: EmbeddingCache | None = None,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        zoom: ZoomSettings | None = None,
    ) -> None:
        self.model = model
        self.device = torch.device(device)
        self.precision = precision
        self.zoom = zoom
        self._preprocessors = dict(preprocessors)
        self._cache = cache
        self._weights: tuple[int, str] | None = None

    def preprocessor(self, modality: str) -> Preprocessor:
        """The path of one modality.

        Raises:
            PromptError: this predictor was not given that modality.
        """
        try:
            return self._preprocessors[modality]
        except KeyError:
            known = ", ".join(sorted(self._preprocessors))
            raise PromptError(f"this predictor takes {known}, not {modality!r}") from None

    def fit(self, volume: Volume) -> FittedVolume:
        """Fit the normalizer on a whole volume, once, before its slices are prompted.

        Raises:
            DataError: the volume cannot be taken (NaN voxels, channels, a header that lacks something).
        """
        return FittedVolume(self, volume)

    def predict_slice(self, fitted: FittedVolume, index: int, prompts: list[Prompt]) -> list[SliceResult]:
        """Segment one object per prompt on slice ``index`` of a fitted volume; prompts in pixels of the stored slice.

        Raises:
            PromptError: the slice does not exist, a prompt lies outside it, or its kind is not the model's.
        """
        fitted.require_slice(index)
        self.require_served(prompts)
        windows = [self.window(fitted, prompt) for prompt in prompts]
        results: dict[int, SliceResult] = {}
        for window in dict.fromkeys(windows):
            numbers = [number for number, own in enumerate(windows) if own == window]
            moved = [fitted.to_model(prompts[number], window) for number in numbers]
            decoded = self._decoded(fitted, index, window, moved)
            answers = [one for part in decoded for one in slice_results(part, fitted.grid, window)]
            results.update(zip(numbers, answers, strict=True))
        return [results[number] for number in range(len(prompts))]

    def _decoded(self, fitted: FittedVolume, index: int, window: Window | None, prompts: list[Prompt]) -> list[Decoded]:
        with self.inference():
            embedding = self.embed(fitted, index, window)
            parts = (prompts[start : start + MOST_PROMPTS] for start in range(0, len(prompts), MOST_PROMPTS))
            return [self.model.decode(embedding, part) for part in parts]

    def window(self, fitted: FittedVolume, prompt: Prompt) -> Window | None:
        """What of a slice the model is shown for a prompt, None for all of it.

        Raises:
            PromptError: the prompt lies outside the slice.
        """
        geometry = fitted.volume.geometry
        check_on_slice(prompt, *geometry.shape[1:])
        return None if self.zoom is None else window_for(prompt, geometry, self.model.spec, self.zoom, fitted.grid.fit)

    def require_served(self, prompts: list[Prompt]) -> None:
        """Refuse prompts that the model, as it is adapted, does not take.

        Raises:
            PromptError: with the kinds that it takes, or the reason.
        """
        for prompt in prompts:
            self.model.spec.require_served(prompt, adapted=self.adapted)

    @property
    def adapted(self) -> bool:
        """Whether the model has an adapter."""
        return getattr(self.model, "lora_settings", None) is not None

    @contextmanager
    def inference(self) -> Iterator[None]:
        """The model in evaluation mode, without gradients, in this predictor's precision."""
        network: Any = self.model
        network.eval()
        with torch.inference_mode(), autocast(self.device, self.precision):
            yield

    def segment(self, volume: Volume, prompts: Mapping[int, Prompt], target: str = "object") -> Segmentation:
        """Segment one object from prompts on one or several slices (``{slice: prompt}``), each slice on its own.

        Raises:
            PromptError, DataError: as for :meth:`predict_slice` and :meth:`fit`.
        """
        fitted = self.fit(volume)
        mask = np.zeros(volume.geometry.shape, dtype=bool)
        scores = []
        for index, prompt in sorted(prompts.items()):
            (result,) = self.predict_slice(fitted, index, [prompt])
            mask[index] = result.mask
            scores.append(result.score)
        return Segmentation({target: mask}, volume.geometry, {target: float(np.mean(scores))})

    def embed(self, fitted: FittedVolume, index: int, window: Window | None = None) -> Any:
        """The model's embedding of a slice or a window, from the cache if it is there; within :meth:`inference`."""
        if self._cache is None:
            return self._encode(fitted, index, window)
        own = fitted.preprocessor.slice_key(fitted.volume, index, fitted.stats, window)
        key = own + self._weights_hash() + self.precision
        embedding = self._cache.get(key)
        if embedding is None:
            embedding = self._encode(fitted, index, window)
            self._cache.put(key, embedding)
        return embedding

    def _encode(self, fitted: FittedVolume, index: int, window: Window | None) -> Any:
        pixels = fitted.preprocessor.pixels(fitted.volume, index, fitted.stats, window)
        return self.model.encode_image(pixels[None].to(self.device))

    def _weights_hash(self) -> str:
        """The fingerprint, taken anew when a parameter was written to or an adapter switched, scaled or merged.

        Writing through ``parameter.data`` hides from torch's version counter, and so from this.
        """
        network: Any = self.model
        tensors = network.state_dict(keep_vars=True).values()
        # PEFT switches, scales and merges adapters without touching a parameter's version.
        switches = ("disable_adapters", "active_adapters", "merged_adapters", "scaling")
        adapters = str([[getattr(module, switch, None) for switch in switches] for module in network.modules()])
        state = hash((tuple((tensor.data_ptr(), tensor._version) for tensor in tensors), adapters))  # noqa: SLF001
        if self._weights is None or self._weights[0] != state:
            self._weights = (state, weights_fingerprint(network) + adapters)
        return self._weights[1]


def slice_results(decoded: Decoded, grid: SliceGrid, window: Window | None = None) -> list[SliceResult]:
    """What a model decoded, brought back to the stored slice: one result per prompt.

    Args:
        decoded: the model's answers.
        grid: of the whole slice.
        window: what of the slice the model was shown; all of it when omitted.
    """
    results = []
    for number, (logits, score) in enumerate(zip(decoded.logits, decoded.scores, strict=True)):
        native = _on_slice(logits, grid, window)
        presence = None if decoded.presence is None else float(decoded.presence[number])
        apart = None
        if decoded.instances is not None:
            found = decoded.instances[number]
            apart = tuple(
                (_on_slice(one, grid, window) > 0, float(sure))
                for one, sure in zip(found.logits, found.scores, strict=True)
            )
        results.append(
            SliceResult(
                mask=native > 0,
                logits=native,
                score=float(score),
                presence=None if presence is None or math.isnan(presence) else presence,
                instances=apart,
                window=window,
            )
        )
    return results


def _on_slice(logits: torch.Tensor, grid: SliceGrid, window: Window | None) -> npt.NDArray[np.float32]:
    if window is None:
        return logits_to_slice(logits, grid)
    part = logits_to_slice(logits, window.grid(grid))
    return window.paste(part, (grid.height, grid.width), OUTSIDE)


def _tensors(embedding: Any) -> list[torch.Tensor]:
    if isinstance(embedding, torch.Tensor):
        return [embedding]
    if isinstance(embedding, Mapping):
        return [tensor for value in embedding.values() for tensor in _tensors(value)]
    if isinstance(embedding, (list, tuple)):
        return [tensor for value in embedding for tensor in _tensors(value)]
    return []
