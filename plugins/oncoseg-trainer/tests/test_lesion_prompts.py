"""Whole runs in which each lesion of a slice has a prompt of its own, and what they say of it."""

import json

import numpy as np
import pytest

from oncoseg_core import ConfigError, DatasetSpec, MetricSpec, ModelSpec, PromptGeneratorSpec, Target, load_plugins
from oncoseg_core.inference.predictor import MOST_PROMPTS, Predictor
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.path.settings import PathSettings
from oncoseg_lora.manifest import read_manifest
from oncoseg_prompts.api import Prompting
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.scoring import score_case
from oncoseg_trainer.loop.run import train

TWO = {"slices": (2, 3, 4), "core": (), "second": (3, 4)}


@pytest.fixture
def scored(toy, tiny_plugin):
    """Score a generated case with the tiny model, and count what the model is asked."""
    registry = load_plugins()
    adapter = registry.build(DatasetSpec, "toy-a", {})
    (case,) = adapter.discover(toy("toy-a", [TWO]))
    volume, masks = adapter.load(case)
    model = registry.build(ModelSpec, "tiny", {})
    paths = {"ct": Preprocessor(registry, "ct", model.spec, PathSettings())}
    generator = registry.build(PromptGeneratorSpec, "box", {})
    metrics = {"dice": registry.build(MetricSpec, "dice"), "lesion-f1": registry.build(MetricSpec, "lesion-f1")}
    asked, decode = [], model.decode
    model.decode = lambda embedding, prompts: asked.append(len(prompts)) or decode(embedding, prompts)

    def score(kind=None, per=None, masks=masks):
        asked.clear()
        target = Target(name="tumour", labels={1, 2}, kind=kind)
        record = case.model_copy(update={"targets": (target,)})
        given = {"tumour": masks["tumour"]}
        (found,) = score_case(
            Predictor(model, paths), record, volume, given, Prompting(generator, per=per), metrics, 0, floors=True
        )
        return found, list(asked)

    score.masks = masks
    return score


def test_lesions_of_a_slice_are_asked_about_together_and_united(scored):
    lesions, asked = scored("lesion")
    assert asked == [1, 2, 2]
    assert lesions.per == "lesion"
    assert lesions.floors["box"] == {"dice": 1, "lesion-f1": 1}  # both tumours are boxes
    assert lesions.floors["nothing"] == {"dice": 0, "lesion-f1": 0}
    whole, asked = scored("organ")
    assert asked == [1, 1, 1]
    assert whole.per == "target"
    assert whole.floors["box"]["dice"] < 0.75
    assert scored(None, "lesion")[0] == lesions
    assert scored("lesion", "target")[0] == whole
    assert lesions.row()["per"] == "lesion"
    assert json.loads(json.dumps(lesions.row()))["floors"]["box"]["dice"] == 1


def test_one_lesion_a_slice_is_scored_as_ever(scored):
    masks = {"tumour": scored.masks["tumour"].copy()}
    masks["tumour"][:, -6:, -6:] = False
    lesions, target = scored("lesion", masks=masks)[0], scored(None, masks=masks)[0]
    assert lesions.metrics == target.metrics
    assert lesions.floors == target.floors


def test_hundreds_of_lesions_are_decoded_in_parts(scored):
    mask = np.zeros_like(scored.masks["tumour"])
    mask[3, ::3, ::3] = True
    found, asked = scored("lesion", masks={"tumour": mask})
    number = int(mask.sum())
    assert number > 2 * MOST_PROMPTS
    assert asked == [MOST_PROMPTS] * (number // MOST_PROMPTS) + [number % MOST_PROMPTS]
    assert found.floors["box"]["dice"] == 1


def test_a_run_says_what_its_prompts_pointed_at(toy, toy_config):
    root = toy("toy-a", [{**TWO, "split": "train"}, {**TWO, "split": "test"}])
    data = {"dataset": "toy-a", "root": str(root), "targets": ["tumour"]}
    path = toy_config(data, trackers=["jsonl"], training={"epochs": 1}, prompts={"per": "lesion"})
    outcome = train(load_settings(str(path), []), load_plugins())
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert summary["prompt"]["per"] == {"tumour": "lesion"}
    assert [row["per"] for part in ("zero_shot", "adapted") for row in summary[part]["cases"]] == ["lesion"] * 2
    assert summary["floors"]["nothing"]["dice"]["mean"] == 0
    assert summary["floors"]["box"]["dice"]["mean"] > 0.7  # two pixels wide of two boxes
    manifest = read_manifest(outcome.folder / "adapter").model_dump(mode="json")
    assert "box, per lesion" in json.dumps(manifest)


def test_texts_are_not_given_lesion_by_lesion(tiny_config):
    path = tiny_config(model={"name": "sam3-tiny"}, prompts={"train": {"name": "text"}, "per": "lesion"})
    with pytest.raises(
        ConfigError, match="`prompts.per` is lesion, but prompt generator 'text' points at no single object"
    ):
        train(load_settings(str(path), []), load_plugins())
