"""Prompts of several kinds in one run: which is drawn, clicks that correct the model, objects that are followed."""

import json
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
import yaml
from one_case import OneCase, TightBox

from oncoseg_core import Box, ConfigError, Decoded, Point, Target, load_plugins
from oncoseg_lora.manifest import read_manifest
from oncoseg_prompts.api import Prompting
from oncoseg_prompts.point import PointGenerator
from oncoseg_prompts.text import TextGenerator
from oncoseg_trainer.config.data_settings import WeakChoice
from oncoseg_trainer.config.prompt_settings import PromptSettings, Sequences
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.data.batches import make_batch
from oncoseg_trainer.data.prompting import PromptKindShare, PromptMixture, build_mixture
from oncoseg_trainer.data.samples import SampleMaker
from oncoseg_trainer.data.sampling import Draw
from oncoseg_trainer.loop.corrective_clicks import with_corrections
from oncoseg_trainer.loop.run import train

SIZE = 64
TARGET = Target(name="t", labels={1})


class Path:
    """A preprocessor whose pixels are the number of the slice."""

    def grid(self, volume):
        from oncoseg_core import SliceGrid

        return SliceGrid.of(volume.geometry, SIZE)

    def pixels(self, volume, index, stats):
        return torch.full((3, SIZE, SIZE), float(index))


BOXES, POINTS = Prompting(TightBox()), Prompting(PointGenerator())
TEXTS = Prompting(TextGenerator(), points_at_object=False, asks_for_all=True)


def tube(depth=9, first=2, last=7):
    mask = np.zeros((depth, SIZE, SIZE), bool)
    for index in range(first, last):
        mask[index, 10 + index : 30 + index, 20:40] = True
    return mask


def maker(mask, *kinds, kind=None, annotation="mask", weak=None, **how):
    return SampleMaker(
        [OneCase({"t": mask}, annotation, kind=kind)], [weak], {"ct": Path()}, PromptMixture(kinds), 0, **how
    )


def samples(made, count=200, nth=2):
    return [made.make(Draw(number, 0, 0, "t", nth, repeat=number), 0) for number in range(count)]


def test_kinds_come_in_proportion_to_their_shares():
    made = maker(tube(), PromptKindShare(BOXES, 3), PromptKindShare(POINTS, 1))
    kinds = Counter(sample.prompt[0].kind for sample in samples(made, 400))
    assert kinds["box"] / 400 == pytest.approx(0.75, abs=0.06)
    again = samples(maker(tube(), PromptKindShare(BOXES, 3), PromptKindShare(POINTS, 1)), 20)
    assert [one.prompt for one in again] == [one.prompt for one in samples(made, 20)]


def test_as_many_corrections_as_clicks_after_the_first():
    found = Counter(one.corrections for one in samples(maker(tube(), PromptKindShare(POINTS, 1, 4)), 400))
    assert sorted(found) == [0, 1, 2, 3]
    assert min(found.values()) > 70
    assert {one.corrections for one in samples(maker(tube(), PromptKindShare(BOXES)), 20)} == {0}


def test_a_sequence_goes_on_to_the_neighbouring_slices_with_their_own_masks():
    mask = tube()
    made = maker(mask, PromptKindShare(BOXES), sequences=Sequences(share=1, length=4))
    steps = set()
    for sample in samples(made, 40):
        start = int(sample.pixels[0, 0, 0])
        places = [int(each.pixels[0, 0, 0]) for each in sample.following]
        step = places[0] - start
        steps.add(step)
        assert places == [start + step * number for number in (1, 2, 3)]
        for place, each in zip(places, sample.following, strict=True):
            assert torch.equal(each.target, torch.from_numpy(mask[place]).float())
    assert steps == {-1, 1}


def test_a_sequence_ends_with_the_volume():
    made = maker(tube(depth=7), PromptKindShare(BOXES), sequences=Sequences(share=1, length=9))
    assert {len(sample.following) for sample in samples(made, 40)} == {4, 2}  # from slice 4: 3..0 and 5, 6


def test_some_samples_are_sequences_and_only_of_what_is_pointed_at_and_there():
    made = maker(tube(), PromptKindShare(BOXES), sequences=Sequences(share=0.3))
    share = np.mean([bool(sample.following) for sample in samples(made, 400)])
    assert share == pytest.approx(0.3, abs=0.07)
    texts = maker(tube(), PromptKindShare(TEXTS), sequences=Sequences(share=1))
    assert not any(sample.following for sample in samples(texts, 20))
    elsewhere = maker(tube(), PromptKindShare(BOXES), sequences=Sequences(share=1))
    assert elsewhere.make(Draw(0, 0, 0, "t", None, place=0.0, repeat=0), 0).following == ()


def test_a_weak_annotation_does_not_say_where_an_object_ends():
    """On a key slice alone there is a diameter, and the lesion goes on: its neighbours must not be taught as empty."""
    mask = tube(first=4, last=5)
    weak = {"annotation": "recist", "weak": WeakChoice(weight=0.5), "sequences": Sequences(share=1)}
    assert not any(sample.following for sample in samples(maker(mask, PromptKindShare(BOXES), **weak), 20, nth=0))
    assert all(
        sample.following
        for sample in samples(maker(mask, PromptKindShare(BOXES), sequences=Sequences(share=1)), 9, nth=0)
    )


def test_the_same_lesion_is_followed():
    mask = tube()
    mask[:, 45:55, 45:60] = True
    mask[8] = False
    for sample in samples(maker(mask, PromptKindShare(BOXES), kind="lesion", sequences=Sequences(share=1)), 40, nth=4):
        (box,) = sample.prompt
        for each in sample.following:
            inside = each.target[45:55, 45:60].any()
            assert inside == (box.x0 == 45) or not each.target.any()
            assert not (inside and each.target[:45].any())


class Shift:
    """Moves everything down, and remembers what it was given."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, pixels, masks, grid, rng):
        rows = int(rng.integers(1, self.rows))
        moved = [torch.roll(mask, rows, 0) for mask in masks]
        for mask in moved:
            mask[:rows] = 0
        return torch.roll(pixels, rows, 1), moved


def test_all_slices_of_a_sequence_are_changed_alike_or_none():
    mask = tube()
    made = maker(mask, PromptKindShare(BOXES), augmentation=Shift(20), sequences=Sequences(share=1, length=4))
    moved = set()
    for sample in samples(made, 20):
        start = int(sample.pixels[0, 0, 0])
        shift = int(sample.prompt[0].y0) - int(np.flatnonzero(mask[start].any(axis=1))[0])
        moved.add(shift)
        for each in sample.following:
            place = int(each.pixels[0, 0, 0])
            assert torch.equal(each.target, torch.from_numpy(np.roll(mask[place], shift, 0)).float())
    assert len(moved) > 3

    class Lost(Shift):
        def __call__(self, pixels, masks, grid, rng):
            return pixels + 100, [torch.zeros_like(mask) if pixels[0, 0, 0] == 5 else mask for mask in masks]

    lost = maker(mask, PromptKindShare(BOXES), augmentation=Lost(2), sequences=Sequences(share=1, length=4))
    for sample in samples(lost, 20):
        values = np.array([float(each.pixels[0, 0, 0]) for each in (sample, *sample.following)])
        assert ((values >= 100) == (5 not in values % 100)).all()


def test_a_sequence_weighs_as_much_as_a_sample_and_its_rows_stand_together():
    made = maker(tube(), PromptKindShare(BOXES), sequences=Sequences(share=0.5, length=3))
    batch = make_batch(made, 0, [Draw(number, 0, 0, "t", 2, repeat=number) for number in range(20)])
    assert sum(weight for _, weight in batch.kinds) == pytest.approx(20)
    starts = [row for row, prompt in enumerate(batch.prompts) if prompt]
    assert len(starts) == 20
    assert len(batch.pixels) == len(batch.target) == len(batch.names) == len(batch.corrections) > 20
    for row, prompt in enumerate(batch.prompts):
        if not prompt:
            assert abs(batch.pixels[row, 0, 0, 0] - batch.pixels[row - 1, 0, 0, 0]) == 1


# ---------------------------------------------------------------- corrections


class Obedient:
    """Gives a square around each positive click, and takes away one around each negative."""

    def __init__(self):
        self.asked = []

    def decode(self, embedding, prompts):
        assert not torch.is_grad_enabled()
        assert len(embedding["map"]) == len(prompts)
        self.asked.append([len(prompt) for prompt in prompts])
        logits = torch.full((len(prompts), SIZE, SIZE), -1.0)
        for row, prompt in zip(logits, prompts, strict=True):
            for hint in prompt:
                y, x = int(hint.y), int(hint.x)
                row[max(y - 6, 0) : y + 6, max(x - 6, 0) : x + 6] = 1.0 if hint.positive else -1.0
        return Decoded(logits, torch.ones(len(prompts)))


def test_clicks_are_added_where_the_model_is_most_wrong():
    target = torch.zeros(3, SIZE, SIZE)
    target[0, 10:20, 10:20] = target[0, 40:60, 40:60] = 1
    target[1, 5:11, 5:11] = 1
    prompts = [(Point(15.5, 15.5),), (Point(8.5, 8.5),), (Point(30.5, 30.5),)]
    model = Obedient()
    found = with_corrections(model, {"map": torch.zeros(3, 1)}, prompts, target, [2, 1, 3])
    assert model.asked == [[1, 1], [2]]
    assert [len(prompt) for prompt in found] == [3, 2, 1]  # nothing is there to correct in the third
    first, second, third = found[0]
    assert (first, second.positive) == (prompts[0][0], True)
    assert 40 <= second.x < 60
    assert 40 <= second.y < 60
    assert not found[1][1].positive or target[1, int(found[1][1].y), int(found[1][1].x)]
    assert third not in (first, second)


class Named(NamedTuple):
    map: torch.Tensor


@pytest.mark.parametrize(
    "embedding", [torch.arange(3.0), {"map": torch.arange(3.0)}, [torch.arange(3.0)], Named(torch.arange(3.0))]
)
def test_of_any_embedding_the_images_that_are_corrected_are_decoded(embedding):
    class Looks(Obedient):
        def decode(self, embedding, prompts):
            (rows,) = (
                [embedding]
                if isinstance(embedding, torch.Tensor)
                else getattr(embedding, "values", lambda: embedding)()
            )
            assert rows.tolist() == [2.0]
            return super().decode({"map": rows}, prompts)

    target = torch.zeros(3, SIZE, SIZE)
    target[:, 10:20, 10:20] = 1
    prompts = [(Point(15.5, 15.5),)] * 3
    found = with_corrections(Looks(), embedding, prompts, target, [0, 0, 1])
    assert [len(prompt) for prompt in found] == [1, 1, 2]


def test_without_corrections_nothing_is_decoded():
    prompts = [(Box(0, 0, 9, 9),), ()]
    assert with_corrections(None, None, prompts, torch.zeros(2, SIZE, SIZE), [0, 0]) == prompts
    assert with_corrections(None, None, prompts, torch.zeros(2, SIZE, SIZE), ()) == prompts


# ---------------------------------------------------------------- settings


def test_one_kind_needs_no_list():
    one = PromptSettings.model_validate({"train": {"name": "box", "settings": {"margin_px": [0, 4]}}})
    assert one == PromptSettings()
    several = PromptSettings.model_validate({"train": [{"name": "box"}, {"name": "point", "share": 2, "clicks": 3}]})
    assert [choice.name for choice in several.train] == ["box", "point"]


def test_only_points_are_corrected():
    choices = PromptSettings.model_validate({"train": [{"name": "box", "clicks": 3}]}).train
    with pytest.raises(ConfigError, match="'box' has 3 clicks, but makes a box: only points are corrected"):
        build_mixture(load_plugins(), choices, None)


EVERY = {"name": "sam3-tiny"}, {"policy": "lora+detector+interactive", "rank": 4}


@pytest.mark.parametrize(
    ("policy", "prompts", "message"),
    [
        ("lora", {"train": {"name": "point"}}, r"policy 'lora' does not teach .* 'point', lora\+detector\+interactive"),
        ("lora", {"train": [{"name": "box"}, {"name": "mask"}]}, "'mask'.*set `lora.policy`"),
        ("lora", {"score": {"name": "point"}}, "does not teach prompts of kind 'point'"),
        ("lora", {"sequences": {"share": 0.5}}, "teaches the model's own tracker, but LoRA policy 'lora' does not"),
        (EVERY[1]["policy"], {"train": {"name": "text"}, "sequences": {"share": 1}}, "`prompts.train` points at none"),
        ("lora", {"hard_negatives": {"rate": 0.5}}, "add one that makes texts"),
    ],
)
def test_what_would_not_be_taught_is_refused_before_anything_is_loaded(tiny_config, policy, prompts, message):
    path = tiny_config(model=EVERY[0], lora={"policy": policy}, prompts=prompts)
    with pytest.raises(ConfigError, match=message):
        train(load_settings(str(path), []), load_plugins())


def test_a_model_without_a_tracker_follows_nothing(tiny_config):
    with pytest.raises(ConfigError, match="model 'tiny' has no tracker of its own"):
        train(load_settings(str(tiny_config(prompts={"sequences": {"share": 0.5}})), []), load_plugins())


@pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
def test_a_run_with_every_kind_of_prompt(toy, toy_config):
    """The trainer, its workers and the adapter, from clicks that are corrected to objects that are followed."""
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}])
    path = toy_config({"dataset": "toy-a", "root": str(root)}, trackers=["jsonl"])
    config = yaml.safe_load(path.read_text())
    kinds = ["box", {"name": "point", "clicks": 3}, "mask", "text", "exemplar"]
    config |= {
        "model": EVERY[0],
        "lora": EVERY[1],
        "prompts": {
            "train": [{"name": kind} if isinstance(kind, str) else kind for kind in kinds],
            "sequences": {"share": 0.5, "length": 3},
        },
        "training": {"epochs": 2, "batch_size": 2, "workers": 1, "score_every_epoch": False},
    }
    path.write_text(yaml.safe_dump(config))
    outcome = train(load_settings(str(path), []), load_plugins())
    manifest = read_manifest(outcome.folder / "adapter")
    assert manifest.lora.policy == EVERY[1]["policy"]
    assert manifest.prompts == ("box", "point", "mask", "text", "exemplar", "sequences")
    assert (
        "Prompts in training: box, point, mask, text, exemplar, sequences."
        in (outcome.folder / "adapter" / "README.md").read_text()
    )
    summary = json.loads((outcome.folder / "summary.json").read_text())
    assert not [line for line in summary["warnings"] if "lora.policy" in line]
    lines = [json.loads(line) for line in (outcome.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "grad_norm" in line]
    assert len(losses) > 2
    assert np.isfinite(losses).all()


@pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
def test_heads_that_are_trained_and_never_prompted_are_warned_of(toy, toy_config):
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}])
    path = toy_config({"dataset": "toy-a", "root": str(root)}, trackers=["jsonl"])
    config = yaml.safe_load(path.read_text())
    config |= {"model": EVERY[0], "lora": EVERY[1], "training": {"epochs": 1, "score_every_epoch": False}}
    path.write_text(yaml.safe_dump(config))
    outcome = train(load_settings(str(path), []), load_plugins())
    assert read_manifest(outcome.folder / "adapter").prompts == ("box",)
    warnings = json.loads((outcome.folder / "summary.json").read_text())["warnings"]
    assert any("prompts of kind point and mask, and prompts.train draws none" in line for line in warnings)
    assert any("prompts.sequences.share is 0" in line for line in warnings)
