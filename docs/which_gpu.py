"""Draws ``which-gpu.md`` from the memory that was counted, and from a GPU's own record where there is one."""

# ruff: noqa: E501 - rows of tables cannot be wrapped

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
COUNTED, MEASURED = "sam3_memory", "gpu_full_cuda"
CARDS = (8, 12, 16, 24, 40, 48, 80)
"""Gigabytes, as cards are sold."""
GAPS, CONTEXT_GIB = 1.1, 1.0
"""What a card needs beside the tensors that were counted: a share for gaps between them, and CUDA's own."""

HEAD = """# Which GPU do I need

Drawn by `docs/which_gpu.py` from `benchmarks/results`. The memory was counted, not measured on a GPU: `benchmarks/peers/sam3_memory.py`
runs the trainer's step at full size on tensors without numbers and adds up what is alive at once. A card is taken to suffice where it has
{gaps:.0%} of that and {context:g} GiB for CUDA, and a card of 24 GB to have 24 · 10⁹ bytes. Kernels and autocast were those of the CPU, with fused
attention; fp16 and bf16 take the same. So take a row that just fits as one that may not, and [measure it](#measure-your-gpu).
"""

OPTIONS = """## What to set

| to save | set | costs |
|---|---|---|
| most of a training step's activations | `activation_checkpointing` (default on) | the forward pass of these parts once more |
| half of the weights | `weight_precision: bf16` with `precision: bf16` (or both `fp16`, on cards before Ampere) | nothing: the same bits as with `precision` alone |
| memory of many prompts on a slice | `prompts_at_once` (default 4), lower | nothing on a busy GPU; prompts go in turn, answers stay the same to 1e-5 |
| batch memory in training | `training.batch_size: 1` and `training.accumulation` | time |

| to save time | set | note |
|---|---|---|
| on any recent GPU | `precision: bf16`, or `fp16` | `oncoseg segment --precision`, `training.precision` |
| in training, where memory allows | `activation_checkpointing: false` | the tables say where |
| with many images | `compile: true` | the vision trunk (LiteMedSAM: the encoder) alone; the first image takes minutes |
| to compare kernels | `attention: flash`, `cudnn`, `efficient` or `math` | of the vision trunk, where it can; PyTorch's own choice (`auto`) is the default |
| with convolutions | `channels_last: true` | LiteMedSAM more than SAM3, whose trunk has one convolution |

These are settings of the model (`model.settings` in a training configuration, `--model-set` of `oncoseg segment`); `precision` is that of the run. What a policy trains
stays float32 in all of them.
"""

MEASURE = """## Measure your GPU

```console
python benchmarks/peers/gpu.py
```

in a checkout takes at most ten minutes, needs neither weights nor a network, and prints one table: encoding, first and next click (p50 and p95), training
steps in bf16, fp16 and fp32 with and without checkpointing, the tracker, kernels, `compile`, two ranks where there are two GPUs, LiteMedSAM's training beside a bare loop and its wait for data,
and the memory of each. It writes `benchmarks/results/gpu_full_cuda.json` after each part. Cut off, it goes on where it was when it is started again; `--anew` starts over. A part that runs
out of memory is recorded as such. **Please send us the file**: it holds versions and the GPU's name, and nothing about you or your data.
"""


def page() -> str:
    """The whole page."""
    found = json.loads((RESULTS / f"{COUNTED}.json").read_text(encoding="utf-8"))["found"]
    parts = [HEAD.format(gaps=GAPS, context=CONTEXT_GIB), *_inference(found), *_training(found), OPTIONS, MEASURE]
    measured = RESULTS / f"{MEASURED}.json"
    if measured.is_file():
        parts += _measured(json.loads(measured.read_text(encoding="utf-8"))["found"])
    else:
        parts.append("No GPU has been recorded yet.\n")
    return "\n".join(parts).rstrip() + "\n"


def _inference(found: dict[str, Any]) -> Iterator[str]:
    yield "## Segmenting\n\nGiB at most while a slice is encoded, and while prompts on it are answered; weights included.\n"
    yield "| model | precision | weights | encode | click | box | 100 boxes | smallest card |\n|---|---|---|---|---|---|---|---|"
    for row in found["inference"]:
        steps = [row.get(f"{what}_gib") for what in ("weights", "encode", "click", "one_box", "100_boxes")]
        cells = " | ".join("–" if gib is None else f"{gib:.2f}" for gib in steps)
        most = max(gib for key, gib in row.items() if key.endswith("_gib"))
        yield f"| `{row['model']}` | {row['precision']} | {cells} | {_smallest(most)} |"
    yield "\n`16-bit weights`: with `weight_precision` as well.\n"


def _training(found: dict[str, Any]) -> Iterator[str]:
    yield "## Training\n\nGiB at most in a step with a box per image (and with clicks, where a policy teaches them), AdamW's moments included.\n"
    cards = " | ".join(f"{card} GB" for card in CARDS)
    yield f"| model | policy | precision | checkpointing | batch | GiB | {cards} |\n|{'---|' * (6 + len(CARDS))}"
    for row in found["training_step"]:
        fits = " | ".join("yes" if _fits(row["gib"], card) else "–" for card in CARDS)
        checkpointing = {True: "on", False: "off", None: "–"}[row["activation_checkpointing"]]
        yield (
            f"| `{row['model']}` | `{row['policy']}` | {row['precision']} | {checkpointing} | {row['batch']} "
            f"| {row['gib']:.1f} | {fits} |"
        )
    yield "\n| model | policy | parameters trained, rank 16 | of all |\n|---|---|---|---|"
    for model, counts in found["parameters"].items():
        for policy, trained in counts["trained"].items():
            yield f"| `{model}` | `{policy}` | {trained:,} | {trained / counts['all']:.1%} of {counts['all']:,} |"
    yield ""


def _measured(found: dict[str, Any]) -> Iterator[str]:
    yield f"## Measured\n\n{found['device']}, torch {found['torch']}, `{found['model']}`, random weights.\n"
    yield "| part | what | p50 ms | p95 ms | allocated GiB |\n|---|---|---|---|---|"
    for name, part in found["parts"].items():
        if part["status"] != "done":
            yield f"| {name} | {part['status']}: {part.get('reason', '')} | | | |"
            continue
        timed = {key: one for key, one in part.items() if isinstance(one, dict) and "p50_ms" in one}
        for what, one in {**({"": part} if "p50_ms" in part else {}), **timed}.items():
            yield f"| {name} | {what} | {one['p50_ms']} | {one['p95_ms']} | {one.get('allocated_gib', '–')} |"


def _fits(gib: float, card: float) -> bool:
    return (GAPS * gib + CONTEXT_GIB) * 2**30 <= card * 1e9


def _smallest(gib: float) -> str:
    return next((f"{card} GB" for card in CARDS if _fits(gib, card)), f"over {CARDS[-1]} GB")


if __name__ == "__main__":
    (DOCS / "which-gpu.md").write_text(page(), encoding="utf-8")
