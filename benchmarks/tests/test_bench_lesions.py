"""Prompts for each lesion, and prompts of any registered generator, in whole runs of a tiny model."""

import numpy as np
import pytest
from generated_dataset import installed_plugin

from oncoseg_benchmarks.config.settings import load_settings
from oncoseg_benchmarks.run.run import prepare, run
from oncoseg_benchmarks.scoring.saved_masks import load_masks, unpack
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import OncoSegError, load_plugins

TWO = {"slices": (2, 3, 4), "second": (3, 4, 5)}

GENERATOR = """
from oncoseg_core import Box, PromptGenerator, PromptGeneratorSpec, Settings, Text, box_around, hookimpl


class Wide(Settings):
    margin: float = 0


class WideBox(PromptGenerator):
    Settings = Wide

    def generate(self, mask, rng, target):
        return (box_around(mask, self.settings.margin),)


class Word(PromptGenerator):
    def generate(self, mask, rng, target):
        return (Text(target.name),)


@hookimpl
def oncoseg_prompt_generators():
    for name, makes, factory in (("wide-box", ("box",), "WideBox"), ("a-word", ("text",), "Word")):
        yield PromptGeneratorSpec(name=name, makes=makes, factory=f"oncoseg_wide:{factory}", summary="a test")
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A plugin with two prompt generators."""
    with installed_plugin(tmp_path_factory.mktemp("wide"), "oncoseg_wide", {"oncoseg_wide": GENERATOR}) as folder:
        yield folder


def rows_of(tmp_path, model="bright", **where):
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    return [row for row in rows if row["model"] == model and all(row[key] == value for key, value in where.items())]


def both(config, root, dataset, *policies, **changes):
    return config(root, datasets=[{"name": dataset, "root": str(root)}], prompts=list(policies), **changes)


def test_each_lesion_of_a_slice_has_its_box_where_the_target_is_a_lesion(config, write_cases, bench, tmp_path):
    root = write_cases("bench-lesions", [TWO, {}])
    per_target = {"kind": "generator", "name": "box", "per": "target"}
    summary, outcome = bench(both(config, root, "bench-lesions", "gt-box", per_target, pictures=1))
    assert (outcome.failed, summary["failures"]) == (0, [])
    assert {row["prompt"] for row in rows_of(tmp_path, target="tumour")} == {"gt-box, per lesion", "box"}
    assert {row["prompt"] for row in rows_of(tmp_path, target="core")} == {"gt-box", "box"}  # no lesion by its record
    case = "bench-lesions-0"
    (lesions,) = rows_of(tmp_path, "floor:box", case=case, target="tumour", prompt="gt-box, per lesion")
    (target,) = rows_of(tmp_path, "floor:box", case=case, target="tumour", prompt="box")
    assert lesions["dice"] == 1  # both tumours are boxes
    assert lesions["slices"] == target["slices"] == 4
    assert target["dice"] < 0.8  # on two of four slices the box holds both
    # One lesion on each slice: the same boxes, and so the same answers.
    for model in ("bright", "floor:box"):
        single = rows_of(tmp_path, model, case="bench-lesions-1", target="tumour")
        assert len({row["prediction_sha256"] for row in single}) == 1


def test_all_lesions_of_a_slice_are_decoded_together_on_one_embedding(
    config, write_cases, bright, tmp_path, monkeypatch
):
    root = write_cases("bench-lesions", [TWO])
    path = both(config, root, "bench-lesions", "gt-box", references={"floors": False, "ceilings": False})
    prepared = prepare(load_settings(str(path), []), load_plugins(), resume=False, progress=lambda *_: None)
    from oncoseg_bright_model import Bright

    encoded, decoded = [], []
    encode, decode = Bright.encode_image, Bright.decode
    monkeypatch.setattr(Bright, "encode_image", lambda self, pixels: encoded.append(1) or encode(self, pixels))
    monkeypatch.setattr(Bright, "decode", lambda self, *given: decoded.append(len(given[1])) or decode(self, *given))
    run(prepared, lambda *_: None)
    assert len(encoded) == 4
    assert sorted(decoded)[-2:] == [2, 2]  # slices 3 and 4 hold two tumours


def test_each_lesion_is_followed_from_its_own_largest_slice(config, write_cases, bench, tmp_path):
    root = write_cases("bench-lesions", [{"slices": (1, 2), "core": (), "second": (4, 5)}])
    volume = [{"kind": "gt-box", "level": "volume", "per": per} for per in ("lesion", "target")]
    bench(both(config, root, "bench-lesions", *volume))
    (lesions,) = rows_of(tmp_path, prompt="gt-box, per lesion")
    (target,) = rows_of(tmp_path, prompt="gt-box")
    assert (lesions["slices"], target["slices"]) == (2, 1)
    assert lesions["dice"] > 0.85
    assert target["dice"] < lesions["dice"]  # only the larger one was pointed at
    (floor,) = rows_of(tmp_path, "floor:box", prompt="gt-box, per lesion")
    assert floor["predicted_voxels"] == 10 * 14 + 4 * 4
    (ceiling,) = rows_of(tmp_path, "ceiling:logits-16@32", prompt="gt-box, per lesion")
    assert ceiling["dice"] > 0.85


def test_clicks_count_for_each_lesion(config, write_cases, bench, tmp_path):
    root = write_cases("bench-lesions", [{**TWO, "core": ()}])
    bench(both(config, root, "bench-lesions", {"kind": "clicks", "n": 2}, "point"))
    prompts = {row["prompt"] for row in rows_of(tmp_path)}
    assert prompts == {"clicks(2), per lesion", "point(center), per lesion"}


def test_a_text_asks_for_all_lesions_at_once(config, write_cases, bench, tmp_path):
    root = write_cases("bench-lesions", [{**TWO, "core": ()}])
    bench(both(config, root, "bench-lesions", "text"))
    assert {row["prompt"] for row in rows_of(tmp_path)} == {"text"}


def test_any_registered_generator_is_taken_and_named(config, write_cases, bench, wide, tmp_path):
    root = write_cases("bench-a", [TWO])
    generated = [
        {"kind": "generator", "name": "wide-box"},
        {"kind": "generator", "name": "wide-box", "settings": {"margin": 3}, "per": "lesion"},
        {"kind": "generator", "name": "a-word"},
    ]
    summary, outcome = bench(config(root, prompts=[*generated, "gt-box"]))
    assert outcome.failed == 0
    rows = {row["prompt"]: row for row in rows_of(tmp_path, target="tumour")}
    assert rows.keys() == {"wide-box", "wide-box(margin=3), per lesion", "a-word", "gt-box"}
    assert rows["wide-box"]["prediction_sha256"] == rows["gt-box"]["prediction_sha256"]
    floors = {row["prompt"] for row in rows_of(tmp_path, "floor:box")}
    assert floors == rows.keys() - {"a-word"}
    assert {"kind": "generator", "name": "wide-box"}.items() <= summary["config"]["prompts"][0].items()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("{kind: generator, name: no-such}", "no-such"),
        ("{kind: generator, name: wide-box, settings: {margn: 1}}", "margn"),
        ("{kind: generator, name: a-word, per: lesion}", "a-word has `per: lesion`, but points at no object"),
        ("{kind: text, per: lesion}", "per"),
        ("gt-box, {kind: gt-box, per: lesion}", "'gt-box, per lesion .slice.'; keep one"),
        ("gt-box, {kind: gt-box, per: target}", "'gt-box .slice.'; keep one"),
    ],
)
def test_wrong_prompts_are_refused_before_anything_runs(policy, message, config, wide):
    with pytest.raises(OncoSegError, match=message):
        prepare(
            load_settings(str(config("anywhere")), [f"prompts=[{policy}]"]),
            load_plugins(),
            resume=False,
            progress=lambda *_: None,
        )


def test_masks_of_lesions_are_saved_as_their_union(config, write_cases, bench, tmp_path):
    root = write_cases("bench-lesions", [{**TWO, "core": ()}])
    bench(both(config, root, "bench-lesions", "gt-box"))
    (path,) = (tmp_path / "run").rglob("*floor*box*/**/*.npz")
    masks, _ = load_masks(path)
    (mask,) = (unpack(packed) for packed in masks.values())
    assert np.count_nonzero(mask) == 3 * 10 * 14 + 3 * 4 * 4
