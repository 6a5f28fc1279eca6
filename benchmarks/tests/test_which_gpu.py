"""The page says what the record says, and no card is called large enough that is not."""

import importlib.util
import json
from pathlib import Path

import pytest

from oncoseg_core import ModelSpec, load_plugins

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def drawing():
    spec = importlib.util.spec_from_file_location("which_gpu", DOCS / "which_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_drawn_from_the_record_as_it_is(drawing):
    assert (DOCS / "which-gpu.md").read_text("utf-8") == drawing.page(), "python docs/which_gpu.py"


@pytest.mark.parametrize("model", ["sam3", "litemedsam"])
def test_the_policies_are_those_of_the_models_record(drawing, model):
    found = json.loads((drawing.RESULTS / "sam3_memory.json").read_text())["found"]
    policies = load_plugins().get(ModelSpec, model).lora.policies
    counted = {row["policy"] for row in found["training_step"] if row["model"] == model}
    assert next(iter(policies)) in counted
    assert counted == found["parameters"][model]["trained"].keys() <= policies.keys(), "benchmarks/peers/sam3_memory.py"


@pytest.mark.parametrize(
    ("gib", "card"),
    [(5.8, "8 GB"), (5.9, "12 GB"), (19.4, "24 GB"), (19.5, "40 GB"), (66.8, "80 GB"), (66.9, "over 80 GB")],
)
def test_a_card_needs_a_tenth_and_a_gibibyte_more_than_was_counted(drawing, gib, card):
    assert drawing._smallest(gib) == card


def test_a_gpus_own_record_is_drawn(drawing, tmp_path, monkeypatch):
    (tmp_path / "sam3_memory.json").write_text((drawing.RESULTS / "sam3_memory.json").read_text())
    parts = {
        "inference bf16": {"status": "done", "encode": {"p50_ms": 41.5, "p95_ms": 43.0, "n": 20, "allocated_gib": 3.9}},
        "step fp32, checkpointing off": {"status": "out of memory", "reason": "OutOfMemoryError: tried 2 GiB"},
    }
    found = {"device": "A card", "torch": "2.13", "model": "sam3", "parts": parts}
    (tmp_path / "gpu_full_cuda.json").write_text(json.dumps({"found": found}))
    monkeypatch.setattr(drawing, "RESULTS", tmp_path)
    page = drawing.page()
    assert "| inference bf16 | encode | 41.5 | 43.0 | 3.9 |" in page
    assert "out of memory: OutOfMemoryError: tried 2 GiB" in page
    assert "No GPU has been recorded yet" not in page
