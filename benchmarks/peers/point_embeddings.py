"""The other way to one click on LiteMedSAM: teach its own point embedding, which upstream never trained.

The encoder stays as it is, so every labelled slice is encoded once; the embedding of a point and the mask decoder are
trained from clicks anywhere in an object, each scan left out in turn and scored by one click in its middle. Four scans
are very few to train on: the number is a comparison with the search of ``oncoseg_clicks`` on the same slices, not what
LiteMedSAM could learn from a data set.

    OMP_NUM_THREADS=2 python benchmarks/peers/point_embeddings.py
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_benchmarks.record import record
from oncoseg_benchmarks.scoring.clicks import dice
from oncoseg_core import BoolArray, DatasetSpec, LossSpec, ModelSpec, PromptGeneratorSpec, Target, load_plugins
from oncoseg_core.inference import FittedVolume, Predictor
from oncoseg_core.path import Preprocessor, logits_to_slice, prompt_to_model
from oncoseg_prompts.api import Objects
from oncoseg_trainer.data.samples import target_on_model

MODALITIES = ("ct", "mri")


class Example(NamedTuple):
    """An object on a slice: its image's embedding, its mask on the slice and on the model's input."""

    case: str
    fitted: FittedVolume
    target: Target
    embedding: torch.Tensor
    mask: BoolArray
    on_input: torch.Tensor


def main() -> None:
    """Train without each scan, score it, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    options = parser.parse_args()
    registry = load_plugins()
    model: Any = registry.build(ModelSpec, "litemedsam")
    examples = encoded(registry, model)
    generators = {
        where: registry.build(PromptGeneratorSpec, "point", {"where": where}) for where in ("random", "center")
    }
    loss = registry.build(LossSpec, "dice-focal", {}, modality="ct")
    rows = []
    for case in sorted({one.case for one in examples}):
        own, others = ([one for one in examples if (one.case == case) is same] for same in (True, False))
        heads = copy.deepcopy((model.prompt_encoder, model.mask_decoder))
        before = [scored(heads, one, generators["center"]) for one in own]
        train(heads, others, generators["random"], loss, options)
        after = [scored(heads, one, generators["center"]) for one in own]
        rows.append({"case": case, "objects": len(own), "untrained": np.mean(before), "trained": np.mean(after)})
        sys.stderr.write(f"{rows[-1]}\n")
    weights = [row["objects"] for row in rows]
    found = {
        "prompt": "one click in the middle of each object",
        "objects": sum(weights),
        "trained": "the embedding of a positive point and the mask decoder; 4 scans, the fifth is scored",
        "mean": {
            name: float(np.average([row[name] for row in rows], weights=weights)) for name in ("untrained", "trained")
        },
        "by case": [
            {key: value if isinstance(value, str | int) else float(value) for key, value in row.items()} for row in rows
        ],
    }
    command = f"python benchmarks/peers/{Path(__file__).name} --steps {options.steps} --batch {options.batch}"
    sys.stdout.write(f"{found}\n{record('point_embeddings', command, found)}\n")


def encoded(registry: Any, model: Any) -> list[Example]:
    """Every object of every labelled slice of the tumour scans."""
    predictor = Predictor(model, {name: Preprocessor(registry, name, model.spec) for name in MODALITIES})
    adapter = registry.build(DatasetSpec, "samples", {"sources": ["pyradiomics"]})
    examples = []
    for case in adapter.discover(Path(adapter.fetch(lambda *_: None))):
        volume, masks = adapter.load(case)
        fitted = predictor.fit(volume)
        for target in case.targets:
            mask = masks[target.name]
            parts = Objects.of(mask, each_lesion=target.kind == "lesion")
            for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
                with predictor.inference():
                    embedding = predictor.embed(fitted, index)
                for each in parts.on_slice(index, mask[index]):
                    on_input = target_on_model(each, fitted.grid)
                    examples.append(Example(case.case_id, fitted, target, embedding.clone(), each, on_input))
    return examples


def logits_of(heads: tuple[Any, Any], embeddings: torch.Tensor, points: Sequence[tuple[float, float]]) -> torch.Tensor:
    """Mask logits ``(n, 256, 256)`` for one positive point on each image; SAM adds half a pixel to what it is given."""
    prompt_encoder, mask_decoder = heads
    coordinates = torch.tensor(points)[:, None] - 0.5
    labels = torch.ones(len(points), 1, dtype=torch.int)
    sparse, dense = prompt_encoder(points=(coordinates, labels), boxes=None, masks=None)
    logits, _ = mask_decoder(
        image_embeddings=embeddings,
        image_pe=prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    side = prompt_encoder.input_image_size[0]
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)[:, 0]


def click_on(one: Example, generator: Any, rng: np.random.Generator) -> tuple[float, float]:
    """A click on the object, in pixels of the input."""
    ((point,),) = [prompt_to_model(generator.generate(one.mask, rng, one.target), one.fitted.grid)]
    return point.x, point.y


def train(heads: tuple[Any, Any], examples: Sequence[Example], generator: Any, loss: Any, options: Any) -> None:
    """Train the point embedding and the mask decoder."""
    prompt_encoder, mask_decoder = heads
    weights = [*prompt_encoder.point_embeddings[1].parameters(), *mask_decoder.parameters()]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng(0)
    for _ in range(options.steps):
        chosen = [examples[number] for number in rng.integers(len(examples), size=options.batch)]
        points = [click_on(one, generator, rng) for one in chosen]
        logits = logits_of(heads, torch.cat([one.embedding for one in chosen]), points)
        terms = loss.terms(logits, torch.stack([one.on_input for one in chosen]))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()


@torch.inference_mode()
def scored(heads: tuple[Any, Any], one: Example, generator: Any) -> float:
    """Dice of one click on the slice as it is stored."""
    (logits,) = logits_of(heads, one.embedding, [click_on(one, generator, np.random.default_rng(0))])
    return dice(logits_to_slice(logits, one.fitted.grid) > 0, one.mask)


if __name__ == "__main__":
    main()
