"""The parts of the harness: clicks, sizes, packed masks, the table, settings, comparisons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oncoseg_benchmarks.config.settings import Statistics, load_settings
from oncoseg_benchmarks.run.compare import compare
from oncoseg_benchmarks.run.run_folder import slug
from oncoseg_benchmarks.scoring.case_scoring import size_class
from oncoseg_benchmarks.scoring.clicks import click
from oncoseg_benchmarks.scoring.empty_masks import score_all
from oncoseg_benchmarks.scoring.saved_masks import load_masks, pack, save_masks, unpack
from oncoseg_benchmarks.statistics.groups import pooled, summarise
from oncoseg_benchmarks.table.results import read_table, write_table
from oncoseg_benchmarks.table.rows import DESCRIPTION
from oncoseg_core import ConfigError, DataError, Metric, MetricSpec, Point
from oncoseg_core.plugins import built_in_names
from oncoseg_prompts.api import next_click


def disc(shape, row, column, radius):
    rows, columns = np.indices(shape)
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_the_first_click_is_the_middle_of_the_largest_part():
    reference = disc((40, 50), 20, 12, 8) | disc((40, 50), 10, 40, 3)
    nothing = np.zeros_like(reference)
    assert next_click(nothing, reference, ()) == Point(12.5, 20.5, True)


def test_clicks_correct_what_is_missing_and_what_leaks():
    reference = disc((40, 50), 20, 12, 8)
    leaking = reference | disc((40, 50), 10, 40, 5)
    assert next_click(leaking, reference, ()) == Point(40.5, 10.5, False)
    assert next_click(reference, reference, ()) is None


def test_a_pixel_is_clicked_on_once_and_a_deaf_model_is_clicked_to_the_end():
    reference = disc((40, 50), 20, 12, 2)
    asked = []
    found = click(lambda prompt: asked.append(prompt) or np.zeros_like(reference), reference, 5)
    assert found.clicks_needed == 6
    assert len(asked) == len(set(found.prompt)) == 5
    tiny = disc((9, 9), 4, 4, 0)
    assert len(click(lambda _: np.zeros_like(tiny), tiny, 5).prompt) == 1


def test_the_number_of_clicks_to_a_good_mask():
    reference = disc((40, 50), 20, 12, 8)
    answers = [disc((40, 50), 20, 12, 2), reference, reference]
    found = click(lambda prompt: answers[len(prompt) - 1], reference, 5)
    assert found.clicks_needed == 2
    assert len(found.prompt) == 2
    nearly = disc((40, 50), 20, 12, 7.6)
    found = click(lambda prompt: [answers[0], nearly, nearly][len(prompt) - 1], reference, 3)
    assert (found.clicks_needed, len(found.prompt)) == (2, 3)


def test_sizes_have_the_limits_that_are_stated():
    assert [size_class(mm) for mm in (9.99, 10.0, 20.0, 20.01, 0.0, None)] == [
        "< 10 mm", "10-20 mm", "10-20 mm", "> 20 mm", None, None,
    ]  # fmt: skip


@given(arrays(bool, st.tuples(*[st.integers(1, 9)] * 3)))
@settings(max_examples=60, deadline=None)
def test_a_packed_mask_is_the_mask(mask):
    assert np.array_equal(unpack(pack(mask)), mask)


def test_masks_are_read_back_from_a_file_and_damage_is_told(tmp_path):
    masks = {
        "lung tumour|gt-box+2px|slice": pack(disc((20, 20), 9, 9, 4)[None]),
        "empty": pack(np.zeros((2, 3, 4), bool)),
    }
    save_masks(tmp_path / "case.npz", masks, (5.0, 0.7, 0.8))
    found, spacing = load_masks(tmp_path / "case.npz")
    assert spacing == (5.0, 0.7, 0.8)
    assert {name: unpack(mask).sum() for name, mask in found.items()} == {
        "lung tumour|gt-box+2px|slice": 49,
        "empty": 0,
    }
    content = (tmp_path / "case.npz").read_bytes()
    (tmp_path / "case.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_masks(tmp_path / "case.npz")
    place, bits = masks["lung tumour|gt-box+2px|slice"]
    with pytest.raises(DataError, match="damaged"):
        unpack((place, bits[:-1]))


def test_no_bit_that_was_lost_breaks_the_reading_of_masks(tmp_path):
    path, mask = tmp_path / "case.npz", disc((20, 20), 9, 9, 4)[None]
    save_masks(path, {"a": pack(mask)}, (5.0, 0.7, 0.8))
    content = bytearray(path.read_bytes())
    told = 0
    for place in range(len(content)):
        content[place] ^= 0b1001
        path.write_bytes(content)
        try:
            assert np.array_equal(unpack(load_masks(path)[0]["a"]), mask)
        except (DataError, KeyError):
            told += 1
        content[place] ^= 0b1001
    assert told > len(content) / 2


def row(**changes):
    values = dict.fromkeys(DESCRIPTION)
    values |= {
        "model": "a", "dataset": "d", "case": "c", "patient": "d/p", "modality": "ct", "target": "tumour",
        "prompt": "gt-box", "level": "slice", "side": "all", "absent": False, "slices": 3, "reference_voxels": 10,
        "predicted_voxels": 8, "common_voxels": 7, "empty_slices": 0, "empty_slices_with_mask": 0,
        "reference_sha256": "0" * 16, "prediction_sha256": "1" * 16, "dice": 0.1 + 0.2,
    }  # fmt: skip
    return values | changes


def test_the_table_is_read_back_exactly(tmp_path):
    rows = [row(), row(case="c,2", dice=None, category="benign", absent=True, diameter_mm=12.5)]
    write_table(tmp_path / "results.csv", rows, ["dice"])
    found, metrics = read_table(tmp_path / "results.csv")
    assert metrics == ["dice"]
    assert found == rows
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no table"):
        read_table(tmp_path / "results.csv")


def test_scores_of_different_prompts_or_levels_are_never_averaged():
    rows = [row(), row(level="volume")]
    with pytest.raises(ValueError, match="never averaged"):
        summarise(rows, "dice", Statistics(), 0)


def test_undefined_scores_are_counted_and_in_no_mean():
    rows = [row(patient=f"d/{number}", dice=value) for number, value in enumerate((0.5, None, 0.7))]
    found = summarise(rows, "dice", Statistics(), 0)
    assert (found["n"], found["undefined"], found["n_patients"]) == (2, 1, 2)
    assert found["mean"] == pytest.approx(0.6)


def test_pooled_scores_are_over_all_voxels():
    rows = [row(), row(reference_voxels=1000, predicted_voxels=1000, common_voxels=1000)]
    found = pooled(rows)
    assert found["dice"] == pytest.approx(2 * 1007 / (1008 + 1010))
    assert found["iou"] == pytest.approx(1007 / (1008 + 1010 - 1007))


def sides(differences, **changes):
    base = [row(case=f"c{n}", patient=f"d/{n}", dice=0.5) for n in range(len(differences))]
    other = [row(case=f"c{n}", patient=f"d/{n}", model="b", dice=0.5 + d, **changes) for n, d in enumerate(differences)]
    return base, "a", other, "b"


def test_rows_are_paired_by_case_and_tested_by_patient():
    (found,) = compare([sides([0.1, 0.2, 0.1, 0.3, 0.2, 0.15])], "dice", method="wilcoxon", seed=0)
    assert (found.n_patients, found.effect_size) == (6, 1.0)
    assert found.difference == pytest.approx(0.175)
    assert found.p == found.adjusted == pytest.approx(2 / 2**6)
    (other, same) = compare([sides([0.1] * 3), sides([0.0] * 3)], "dice", method="wilcoxon", seed=0)
    assert other.adjusted == min(1.0, 2 * other.p)
    assert same.p == 1


def test_another_reference_is_no_pair():
    with pytest.raises(DataError, match="different labels"):
        compare([sides([0.1, 0.2], reference_sha256="f" * 16)], "dice", method="wilcoxon", seed=0)


def test_other_prompts_are_no_pair():
    assert compare([sides([0.1, 0.2], prompt="text")], "dice", method="wilcoxon", seed=0) == []


@pytest.mark.parametrize("name", built_in_names("oncoseg_benchmarks.config"))
def test_a_built_in_benchmark_is_valid(name):
    assert load_settings(name, []).name == name


def test_wrong_keys_are_refused_with_the_nearest_one(config):
    path = str(config("anywhere"))
    with pytest.raises(ConfigError, match="unknown key 'sed'; did you mean 'seed'"):
        load_settings(path, ["sed=1"])
    with pytest.raises(ConfigError, match="margin_px"):
        load_settings(path, ["prompts=[{kind: gt-box, margin: 2}]"])
    with pytest.raises(ConfigError, match="asked for twice: 'gt-box \\(slice\\)'"):
        load_settings(path, ["prompts=[gt-box, gt-box]"])
    with pytest.raises(ConfigError, match="not among the metrics"):
        load_settings(path, ["statistics.metric=hd96"])
    with pytest.raises(ConfigError, match="two are called 'bright'"):
        load_settings(path, ["models=[{name: bright}, {name: bright}]"])
    with pytest.raises(ConfigError, match="no built-in benchmark of that name; did you mean 'samples'"):
        load_settings("sample", [])


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
@settings(max_examples=60, deadline=None)
def test_file_names_are_safe_and_different(one, other):
    assert (slug(one) == slug(other)) == (one == other)
    assert "/" not in slug(one)
    assert slug(one) not in {"", ".", ".."}


class Undefined(Metric):
    def compute(self, prediction, reference, spacing):
        return None


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (False, True, {"nsd": 0.0, "hd95": None, "volume": 0.5}),
        (True, False, {"nsd": 0.0, "hd95": None, "volume": 0.5}),
        (False, False, {"nsd": None, "hd95": None, "volume": 0.5}),
        (True, True, {"nsd": None, "hd95": None, "volume": 0.5}),
    ],
)
def test_empty_masks_are_scored_as_stated(found, wanted, expected):
    class Half(Metric):
        def compute(self, prediction, reference, spacing):
            return 0.5

    def spec(name, unit):
        return MetricSpec(name=name, unit=unit, better="higher", factory="a:b", summary="a test")

    metrics = {
        "nsd": (spec("nsd", "1"), Undefined()),
        "hd95": (spec("hd95", "mm"), Undefined()),
        "volume": (spec("volume", "mL"), Half()),
    }
    prediction, reference = (np.full((2, 3, 4), value) for value in (found, wanted))
    assert score_all(metrics, prediction, reference, (1.0, 1.0, 1.0), physical=True) == expected
    assert set(score_all(metrics, prediction, reference, (1.0, 1.0, 1.0), physical=False).values()) == {None}


@pytest.mark.parametrize(
    ("prompt", "provenance", "kinds", "points"),
    [
        ("none", "none", ("text",), False),
        ("text", "text", ("text",), False),
        ("gt-box", "gt-box", ("box",), True),
        ("{kind: gt-box, margin_px: 2}", "gt-box+2px", ("box",), True),
        ("{kind: gt-box-jittered, margin_px: [0, 2.5]}", "gt-box-jittered(0..2.5px)", ("box",), True),
        ("point", "point(center)", ("point",), True),
        ("{kind: clicks, n: 3}", "clicks(3)", ("point",), True),
    ],
)
def test_a_kind_of_prompt_says_where_it_comes_from(prompt, provenance, kinds, points, config):
    (policy,) = load_settings(str(config("anywhere")), [f"prompts=[{prompt}]"]).prompts
    assert (policy.provenance, policy.kinds, policy.points_at_object) == (provenance, kinds, points)


def test_a_metric_may_not_hide_a_column(config):
    with pytest.raises(ConfigError, match="metric 'size' has the name of another column"):
        load_settings(str(config("anywhere")), ["metrics={dice: {}, size: {}}"])


def test_a_deaf_model_is_clicked_on_every_part_of_an_object_in_many():
    reference = np.zeros((9, 60), bool)
    reference[4, ::3] = True
    found = click(lambda _: np.zeros_like(reference), reference, 20)
    assert len(found.prompt) == len(set(found.prompt)) == 20
