"""The layouts in which people have SAM3's tensors, and what the network calls each of them.

Whatever the layout, every tensor of the network comes from the file and every tensor of the file is used; what a
layout leaves out is listed with it. Nothing is drawn at random, nothing is matched by a part of its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from oncoseg_core import WeightsError
from oncoseg_sam3.network import huggingface
from oncoseg_sam3.network.huggingface import PREDICTOR, Source

DETECTOR, TRACKER = "detector.", "tracker."
"""The prefixes of Meta's checkpoint."""
COMPUTED = re.compile(r"backbone\.vision_backbone\.trunk\.blocks\.\d+\.attn\.freqs_cis")
"""The rotations of the trunk's attention, which follow from its size: any file may lack them."""
NOTHING = re.compile(r"(?!)")

SAM31 = re.compile(r"(interactive|propagation)_convs\.|\binteractive_sam_|\binteractivity_no_mem_embed")
"""Names that only SAM 3.1 has."""
LORA = re.compile(r"\.lora_[A-Z]|\.lora_(embedding|magnitude)_|\.base_layer\.")
_TWICE = re.compile(r"^tracker_model\.(?=tracker_model\.)")
"""``save_pretrained`` of transformers 5.24 writes the tracker's prefix twice."""
WRAPPER_DEPTH = 3
"""So many names may stand before the model's own: Lightning's ``model.``, distributed training's ``module.``, ..."""


class Layout(NamedTuple):
    """How one program names SAM3's tensors.

    ``roots`` are the first parts of all names, ``source`` says where a tensor of the network is. ``left_out`` are
    tensors of the network that this layout never has because no answer depends on them: they become zeros. ``repeated``
    are names of the file for what it has elsewhere too, or what follows from the size.
    """

    title: str
    roots: tuple[str, ...]
    source: Callable[[str], Source]
    left_out: re.Pattern[str] = NOTHING
    repeated: re.Pattern[str] = NOTHING


def meta_key(name: str) -> str:
    """What Meta's checkpoint calls a tensor of the network."""
    if name.startswith(PREDICTOR):
        return TRACKER + name.removeprefix(PREDICTOR)
    return DETECTOR + name


def _detector_alone(name: str) -> Source:
    found = huggingface.source(name)
    return found._replace(names=tuple(one.removeprefix("detector_model.") for one in found.names))


LAYOUTS = (
    Layout("Meta's sam3.pt", (DETECTOR, TRACKER), lambda name: Source((meta_key(name),))),
    Layout(
        "Meta's image model",
        (
            *("backbone.", "transformer.", "geometry_encoder.", "segmentation_head.", "dot_prod_scoring."),
            "inst_interactive_predictor.",
        ),
        lambda name: Source((name,)),
    ),
    Layout(
        "transformers' Sam3VideoModel",
        ("detector_model.", "tracker_model.", "tracker_neck."),
        huggingface.source,
        huggingface.LEFT_OUT,
        huggingface.REPEATED,
    ),
    Layout(
        "transformers' Sam3Model",
        (
            *("vision_encoder.", "text_encoder.", "text_projection.", "geometry_encoder.", "detr_encoder."),
            *("detr_decoder.", "mask_decoder.", "dot_product_scoring."),
        ),
        _detector_alone,
        huggingface.LEFT_OUT,
        huggingface.REPEATED,
    ),
)


class Weights:
    """Tensors of a file, by the names that its layout has for them.

    Args:
        tensors: of the file, by name; a prefix that all of them share is dropped.
        path: of the file, for messages.

    Raises:
        WeightsError: they are those of another model, or have names of no layout.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
        _refuse_others(tensors, path)
        self.path = path
        self.layout, self.prefix = _recognise(tensors, path)
        self.tensors = {_TWICE.sub("", name.removeprefix(self.prefix)): tensor for name, tensor in tensors.items()}

    def has_any(self, names: Mapping[str, torch.Tensor], prefix: str) -> bool:
        """Whether the file has a tensor of those of the network's whose names begin so."""
        return any(
            one in self.tensors for name in names if name.startswith(prefix) for one in self.layout.source(name).names
        )

    def state(
        self, expected: Mapping[str, torch.Tensor], unused: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The network's tensors, from the file.

        Args:
            expected: the network's, by name; only their shapes and kinds are read.
            unused: those that a whole network has besides; the file may have them.

        Raises:
            WeightsError: the file lacks one, has an unknown one, or one of another shape or kind, or not finite.
        """
        sources = {name: self.layout.source(name) for name in expected}
        self._check_names(sources, {one for name in unused for one in self.layout.source(name).names})
        state = {}
        for name, like in expected.items():
            if COMPUTED.fullmatch(name) and sources[name].names[0] not in self.tensors:
                continue
            if self.layout.left_out.fullmatch(name):
                state[name] = torch.zeros(like.shape, dtype=like.dtype)
                continue
            state[name] = self._tensor(sources[name], like)
        return state

    def _check_names(self, sources: Mapping[str, Source], unused: set[str]) -> None:
        known = {one for found in sources.values() for one in found.names}
        needed = {
            one
            for name, found in sources.items()
            if not (COMPUTED.fullmatch(name) or self.layout.left_out.fullmatch(name))
            for one in found.names
        }
        unknown = {name for name in self.tensors.keys() - known - unused if not self.layout.repeated.search(name)}
        problems = {"lacks": needed - self.tensors.keys(), "has unknown": unknown}
        parts = [f"{what} {len(names)} (such as {min(names)})" for what, names in problems.items() if names]
        if parts:
            raise WeightsError(
                f"{self.path}: read as {self.layout.title}{self._below()}: {', '.join(parts)}; expected its "
                f"{len(needed)} names, or those of its detector alone"
            )

    def _tensor(self, found: Source, like: torch.Tensor) -> torch.Tensor:
        first = found.names[0] + (f" (with {len(found.names) - 1} more)" if found.names[1:] else "")
        try:
            tensor = found.value(self.tensors)
        except (RuntimeError, IndexError) as error:
            raise WeightsError(f"{self.path}: {first}: the tensors do not fit one another") from error
        if tensor.shape != like.shape:
            raise WeightsError(
                f"{self.path}: {first} has shape {tuple(tensor.shape)}, this size of SAM3 expects {tuple(like.shape)}"
            )
        if tensor.is_complex() != like.is_complex():
            raise WeightsError(f"{self.path}: {first} is {tensor.dtype}, expected {like.dtype}")
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{self.path}: {first} holds NaN or infinite numbers; the file is damaged")
        return tensor.contiguous()

    def _below(self) -> str:
        return f" below {self.prefix!r}" if self.prefix else ""


def _refuse_others(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    newer = sorted(name for name in tensors if SAM31.search(name))
    if newer:
        raise WeightsError(
            f"{path}: is a checkpoint of SAM 3.1 (it has {newer[0]}), which is another model: its clicks and its "
            "tracker (Object Multiplex) have necks and heads that SAM3 has not, and would stay untrained; use sam3.pt "
            "or model.safetensors of facebook/sam3"
        )
    adapted = sorted(name for name in tensors if LORA.search(name))
    if adapted:
        raise WeightsError(
            f"{path}: holds LoRA layers (such as {adapted[0]}): they are not weights of SAM3; merge them first "
            "(merge_and_unload of peft), or import the adapter's folder with `oncoseg adapters import`"
        )


def _recognise(tensors: Mapping[str, torch.Tensor], path: Path) -> tuple[Layout, str]:
    """The layout whose roots all names have behind one prefix, and that prefix."""
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors; expected those of SAM3")
    best = max(
        ((layout, prefix) for prefix in _prefixes(tensors) for layout in LAYOUTS),
        key=lambda one: _alike(tensors, *one),
    )
    alike = _alike(tensors, *best)
    layout, prefix = best
    if alike == len(tensors):
        return best
    begin = " or ".join(f"{prefix}{root}" for root in layout.roots)
    if not alike:
        expected = "; ".join(f"{one.title} ({', '.join(root + '*' for root in one.roots)})" for one in LAYOUTS)
        raise WeightsError(
            f"{path}: has {min(tensors)!r}, the name of no tensor of SAM3; expected one of the layouts {expected}, "
            "also below a prefix that all names share, such as model. or module."
        )
    other = min(name for name in tensors if not name.startswith(tuple(prefix + root for root in layout.roots)))
    raise WeightsError(
        f"{path}: has {other!r} beside {alike} tensors of {layout.title}, whose names begin with {begin}; save those "
        "alone"
    )


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The first parts that most names share, the shortest first."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")[:-1]
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, min(WRAPPER_DEPTH, len(parts)) + 1))
    return ["", *sorted((one for one, count in counts.items() if 2 * count > len(tensors)), key=len)]


def _alike(tensors: Mapping[str, torch.Tensor], layout: Layout, prefix: str) -> int:
    return sum(name.startswith(tuple(prefix + root for root in layout.roots)) for name in tensors)
