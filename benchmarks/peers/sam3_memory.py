"""How much memory SAM3 and LiteMedSAM need, counted without a GPU: a training step by policy, and inference.

The models have their full size. Parameters are counted on the meta device. For the rest, a whole step of the trainer
runs on fake tensors, which have shapes and no numbers, and every storage that is alive is added up; the most that were
alive at once is what is recorded. Only what needs numbers is replaced: objects are matched with the first candidates,
and the first candidate is the answer. Kernels are those of the CPU, where attention is fused as on a GPU.

What a card needs besides is not counted: CUDA's context, workspaces and gaps between tensors. ``gpu.py`` measures it.

    python benchmarks/peers/sam3_memory.py                      # 20 minutes on one core
    python benchmarks/peers/sam3_memory.py --models sam3 --policies lora    # these rows anew; others of the record stay
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn
from torch._subclasses import fake_tensor  # noqa: PLC2701 - torch has no public way to count without numbers
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC2701 - documented, and named so all the same
from torch.utils._pytree import tree_iter  # noqa: PLC2701

from oncoseg_benchmarks.record import RESULTS, record
from oncoseg_core import Box, ModelSpec, Point, Prompt, Registry, Text, TrainingOutput, load_plugins
from oncoseg_core.inference import Precision, autocast
from oncoseg_lora import LoraSettings, adapt, set_training_mode, trainable_parameters
from oncoseg_trainer.loop.steps import ForwardLoss

GIB = 2**30
CPU = torch.device("cpu")
BATCHES = (1, 4)
MANY = 100
"""Boxes on one slice."""
CONSTANTS = 64
"""Fake tensors of so many numbers at most, made from Python's, keep them: shapes of feature maps are read from such."""

Formats = dict[str, tuple[Precision, Precision]]
FORMATS: Formats = {"fp32": ("fp32", "fp32"), "16-bit": ("bf16", "fp32"), "16-bit weights": ("bf16", "bf16")}
"""What the model runs in, and what its frozen weights are kept in; fp16 and bf16 take the same memory."""


class Alive(TorchDispatchMode):
    """Adds up the storages that are alive: ``now``, and ``most`` at once since the last :meth:`restart`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it is freed; once, however many views there are."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - its address, the only thing that views of it share
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += self._sizes[key]
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)

    def restart(self) -> None:
        """Forget the most there was."""
        self.most = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_iter(result):
            if isinstance(one, torch.Tensor):
                self.add(one)
        return result


class DiceAndCrossEntropy:
    """As large as the trainer's loss on masks, whose library reads numbers from tensors."""

    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Both, each the mean over the batch."""
        probability, both = logits.sigmoid(), (1, 2)
        overlap = 2 * (probability * target).sum(both) / (probability.sum(both) + target.sum(both) + 1)
        return {"dice": (1 - overlap).mean(), "cross_entropy": F.binary_cross_entropy_with_logits(logits, target)}


def main() -> None:
    """Count every configuration and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["sam3", "litemedsam"], choices=("sam3", "sam3-tiny", "litemedsam")
    )
    parser.add_argument("--policies", nargs="+", help="of those in the model's record; all by default")
    parser.add_argument("--only", choices=("training", "inference"))
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the record")
    arguments = parser.parse_args()
    registry = load_plugins()
    found: dict[str, Any] = {"parameters": {}, "training_step": [], "inference": []}
    if len(sys.argv) > 1 and (path := arguments.output / "sam3_memory.json").is_file():
        found = json.loads(path.read_text(encoding="utf-8"))["found"]
    command = f"python benchmarks/peers/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip()
    for name in arguments.models:
        found["parameters"][name] = parameters(registry, name)
        policies = arguments.policies or list(registry.get(ModelSpec, name).lora.policies)
        rows = {"inference": inference_rows(registry, name), "training_step": training_rows(registry, name, policies)}
        for what, counted in rows.items():
            for row in counted if what.startswith(arguments.only or what) else ():
                same = [key for key in row if not key.endswith("gib")]
                found[what] = [one for one in found[what] if any(one[key] != row[key] for key in same)] + [row]
                record("sam3_memory", command, found, arguments.output)
                sys.stdout.write(f"{what}: {row}\n")
                sys.stdout.flush()


def parameters(registry: Registry, name: str) -> dict[str, Any]:
    """How many there are, and how many each policy of the model's record trains."""
    policies = registry.get(ModelSpec, name).lora.policies
    trained = {
        policy: sum(one.numel() for one in trainable_parameters(adapted(registry, name, policy)).values())
        for policy in policies
    }
    return {"all": sum(one.numel() for one in built(registry, name).parameters()), "trained": trained}


def training_rows(registry: Registry, name: str, policies: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each policy, format, checkpointing and batch."""
    large = name != "litemedsam"  # which has no such settings
    formats = FORMATS if large else {key: FORMATS[key] for key in ("fp32", "16-bit")}
    batches = BATCHES if large else (1, 16)
    choices = (True, False) if large else (None,)
    for batch, policy, form, checkpointing in itertools.product(batches, policies, formats, choices):
        precision, weights = formats[form]
        settings = {"activation_checkpointing": checkpointing, "weight_precision": weights} if large else {}
        model = adapted(registry, name, policy, settings)
        gib = training_gib(model, precision, batch, clicks="interactive" in policy)
        yield {
            "model": name, "policy": policy, "precision": form, "activation_checkpointing": checkpointing,
            "batch": batch, "gib": gib,
        }  # fmt: skip


def inference_rows(registry: Registry, name: str) -> Iterator[dict[str, Any]]:
    """Each format: encoding a slice, a first answer, and many boxes on it."""
    large = name != "litemedsam"
    for form, (precision, weights) in FORMATS.items():
        if large or form != "16-bit weights":
            model = built(registry, name, {"weight_precision": weights} if large else {})
            yield {"model": name, "precision": form, **inference_gib(model, precision)}


def built(registry: Registry, name: str, settings: dict[str, Any] | None = None) -> Any:
    """A model; SAM3 on the meta device."""
    from oncoseg_sam3.network.builder import build_network

    def without_weights(size: Any, _source: str) -> tuple[Any, str]:
        return build_network(size, "meta"), "random:0"

    given = {"weights": "random:0"} if name.startswith("sam3") else {}
    with patch("oncoseg_sam3.model.network_with_weights", without_weights):
        model: Any = registry.build(ModelSpec, name, {**given, **(settings or {})})
    model.provider = None  # whose answers would be checked, for which their numbers are read
    return model


def adapted(registry: Registry, name: str, policy: str, settings: dict[str, Any] | None = None) -> Any:
    """The same with an adapter of that policy, rank 16, in training mode."""
    model = adapt(built(registry, name, settings), LoraSettings(policy=policy))
    set_training_mode(model)
    return model


@contextmanager
def faked(model: nn.Module) -> Iterator[Alive]:
    """Within it, the model's weights and every new tensor are fake, and those alive are added up."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", CONSTANTS))
        for name, stand_in in STAND_INS.items():
            stack.enter_context(patch(name, stand_in))
        stack.enter_context(patch.object(fake_tensor.FakeTensor, "tolist", _all_true))
        stack.enter_context(fake_tensor.FakeTensorMode())
        alive = Alive()
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):  # noqa: SLF001 - to be replaced
                for key, one in tensors.items():
                    if one is not None:
                        fake: torch.Tensor = torch.empty_strided(one.size(), one.stride(), dtype=one.dtype)
                        if isinstance(one, nn.Parameter):
                            fake = nn.Parameter(fake, requires_grad=one.requires_grad)
                        tensors[key] = fake
                        alive.add(fake)
        yield stack.enter_context(alive)


def training_gib(model: Any, precision: Precision, batch: int, *, clicks: bool) -> float:
    """The most memory of a step of the trainer with boxes and, where they are taught, with clicks and with slices."""
    size = model.spec.input_size
    box: Prompt = (Box(size / 4, size / 4, size / 2, size / 2),)
    click: Prompt = (Point(size / 3, size / 3),)
    # An empty prompt is the next slice, through which the tracker follows.
    batches = [[box] * batch]
    if clicks:
        batches += [[click, *[()] * (batch - 1)], *([[click] * batch] if batch > 1 else [])]
    losses: Any = {"ct": DiceAndCrossEntropy()}
    forward = ForwardLoss(model, losses)
    with faked(model) as alive:
        trained = list(trainable_parameters(model).values())
        optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)  # as on a GPU
        for one in trained:
            one.grad = torch.zeros_like(one)
        optimizer.step()  # from now on its moments are there
        alive.restart()
        for prompts in batches:
            optimizer.zero_grad(set_to_none=True)
            pixels, target = torch.zeros(batch, 3, size, size), torch.zeros(batch, size, size)
            with autocast(CPU, precision):
                terms = forward(pixels, prompts, target, [("ct", 1.0)] * batch)
            torch.stack(list(terms.values())).sum().backward()
            del terms
            optimizer.step()
        return round(alive.most / GIB, 2)


def inference_gib(model: Any, precision: Precision) -> dict[str, float]:
    """What the weights take, and the most while a slice is encoded and prompts on it are answered."""
    size = model.spec.input_size
    box: Prompt = (Box(size / 4, size / 4, size / 2, size / 2),)
    asked: dict[str, list[Prompt]] = {"one_box": [box], f"{MANY}_boxes": [box] * MANY}
    if "text" in model.spec.prompt_kinds:
        asked |= {"text_and_box": [(*box, Text("liver tumour"))], "click": [(Point(size / 3, size / 3),)]}
    with faked(model) as alive, torch.no_grad(), autocast(CPU, precision):
        found = {"weights_gib": alive.now}
        embedding = model.encode_image(torch.zeros(1, 3, size, size))
        found["encode_gib"] = alive.most
        for what, prompts in asked.items():
            alive.restart()
            for start in range(0, len(prompts), 64):  # the predictor's own parts
                model.decode(embedding, prompts[start : start + 64])
            found[f"{what}_gib"] = alive.most
    return {what: round(count / GIB, 2) for what, count in found.items()}


def _objects(target: torch.Tensor, *, one: bool, cell: float) -> Any:  # noqa: ARG001 - as what it stands for
    from oncoseg_sam3.training import Objects

    return Objects(target.new_zeros(1, 4), target[None])


def _matched(candidates: Any, row: int, objects: Any) -> Sequence[torch.Tensor]:  # noqa: ARG001
    return torch.tensor([0]), torch.tensor([0])


def _all_true(flags: torch.Tensor) -> list[bool]:
    if flags.dtype != torch.bool:
        raise NotImplementedError(f"numbers are read from a fake tensor of {flags.dtype}")
    return [True] * flags.numel()


def _click(masks: torch.Tensor, ious: torch.Tensor, presence: torch.Tensor, *_: Any, **__: Any) -> Any:
    from oncoseg_sam3.training import TeachingWeights

    term = (0 * (presence + ious.sum()))[None]
    return TrainingOutput(masks[:1], torch.tensor([True]), dict.fromkeys(TeachingWeights.model_fields, term))


STAND_INS: dict[str, Any] = {
    "oncoseg_sam3.training.objects_of": _objects,
    "oncoseg_sam3.training.match": _matched,
    "oncoseg_sam3.training_clicks._taught": _click,
    "oncoseg_sam3.training._score_term": lambda fits, *_: fits.sum(),
    "oncoseg_sam3.decoding.best_in_box": lambda *_: 0,
}
"""For what depends on numbers, which fake tensors have not: as large, but the same whatever the image."""


if __name__ == "__main__":
    main()
