"""What the report says of the numbers that it shows."""

import re
import shutil

import numpy as np
import pytest

from oncoseg_benchmarks.report.overlays import extreme_rows, slice_to_show
from oncoseg_benchmarks.report.plots import bland_altman
from oncoseg_benchmarks.report.report import MOST_BOXES, _plots, _volumes, warnings
from oncoseg_benchmarks.report.tables import comparison_table, ranking_table
from oncoseg_benchmarks.run.compare import compare_runs
from oncoseg_benchmarks.table.results import read_table, write_table


@pytest.mark.parametrize(("better", "words"), [("higher", "and higher is better"), ("lower", "and lower is better")])
def test_an_effect_says_which_way_is_better(better, words):
    """The table called an effect of +1 better for B, also where the score was a distance."""
    summary = {
        "comparisons": [],
        "config": {"statistics": {"test": "wilcoxon", "metric": "score"}},
        "metric_records": {"score": {"better": better}},
    }
    told = comparison_table(summary)
    assert words in told
    assert "B is higher everywhere" in told


def test_concepts_in_no_image_are_listed_by_concept_with_all_patients(config, write_cases, bench, tmp_path):
    """The table also had a row for each dataset and modality as if they were concepts, and counted only the patients in
    whom one was found."""
    root = write_cases("bench-a", [{}, {}])
    bench(config(root, prompts=[{"kind": "text", "absent": ["screwdriver", "tumours"]}], references={"floors": False}))
    page = (tmp_path / "run" / "report.html").read_text()
    table = page.partition("Concepts that are in no image")[2].partition("</table>")[0]
    rows = re.findall('<tr><td class="text">bright</td><td>(.*?)</td><td>(.*?)</td>', table)
    assert rows == [("2<br><small>2 patients</small>", concept) for concept in ("screwdriver", "tumours")]


def test_the_volumes_of_all_models_are_plotted_in_the_order_of_the_other_plots():
    """There were four, in the order of the rows, and the rest was left out silently."""
    models = ("floor:box", "e", "d", "c", "b", "a")
    rows = [row("x", 1, model=model, voxel_mm3=2000.0, predicted_voxels=3) for model in models]
    volumes = _volumes([*rows, row("in pixels", 1, model="a", voxel_mm3=None)])
    assert list(volumes.items()) == [(model, [(6.0, 10.0)]) for model in "abcde"]
    assert bland_altman(volumes).startswith(b"\x89PNG")


def test_a_ranking_tells_of_how_many_patients_it_is():
    """Of one patient, a ranking is always the same: 100 % looked as sure as with a hundred."""
    one = {"prompt": "text", "level": "slice", "n_rows": 3, "n_patients": 1, "models": ["a"], "shares": [[1.0]]}
    told = ranking_table({"ranking": [one]})
    assert "n = 3, 1 patients" in told
    assert "of a few patients they say little" in told


def test_a_picture_of_a_followed_object_shows_where_it_went_wrong():
    """It showed the slice of the prompt, where most was right."""
    reference, prediction = np.zeros((5, 8, 8), bool), np.zeros((5, 8, 8), bool)
    reference[1, 1:7, 1:7] = reference[2, 2:4, 2:4] = True
    prediction[1, 1:7, 1:6] = prediction[4, 0:4, 0:4] = True
    assert slice_to_show(reference, prediction, "volume") == (1, 4)
    assert slice_to_show(reference, prediction, "slice") == (1, 1)
    assert slice_to_show(reference, reference, "volume") == (1, 1)
    assert slice_to_show(np.zeros_like(reference), prediction, "slice") == (1, 1)


def test_sides_and_versions_that_are_mixed_are_told():
    summary = {
        "weights": {},
        "leaks": {},
        "adapters_that_do_not_tell": [],
        "failures": [],
        "environments": [{"commit": "a"}],
        "engines": {"m": ["openvino 1 fp32"]},
        "datasets": [{"side": "test", "n_cases": 3}, {"side": "all", "n_cases": 0}],
    }
    assert warnings(summary) == []
    summary["datasets"][1]["n_cases"] = 1
    summary["environments"].append({"commit": "b"})
    summary["engines"]["m"].append("torch 2")
    first, second, third = warnings(summary)
    assert "different sides (all, test)" in first
    assert "2 sets of versions" in second
    assert third == "Model m was computed by 2 engines: openvino 1 fp32 | torch 2."


def test_a_box_plot_that_is_left_out_is_told_of():
    facts = {"model": "a", "voxel_mm3": None, "dice": 0.5}
    rows = [{**facts, "target": f"t{number}"} for number in range(MOST_BOXES + 1)]
    assert "<img" in "".join(_plots(rows[:-1], "dice", "dice"))
    (told,) = _plots(rows, "dice", "dice")
    assert "No box plot of 13 targets" in told


def row(case, dice, **changes):
    facts = {"dataset": "d", "case": case, "target": "t", "dice": dice, "hd95": None, "leak": None}
    return {**facts, "predicted_voxels": 5, "reference_voxels": 5, **changes}


def test_the_worst_and_the_best():
    rows = [row("a", 0.5), row("b", 0.9), row("c", None), row("d", 0.1), row("e", 0.7)]
    found = [(what, each["case"]) for what, each in extreme_rows(rows, "dice", "higher", 1)]
    assert found == [("worst", "d"), ("best", "b")]
    found = [(what, each["case"]) for what, each in extreme_rows(rows, "dice", "lower", 3)]
    assert found == [("worst", "b"), ("worst", "e"), ("worst", "a"), ("best", "d")]


def test_what_was_missed_is_worse_than_any_distance():
    rows = [row("a", 1, hd95=30.0), row("b", 0, predicted_voxels=0), row("c", 1, hd95=2.0)]
    found = [(what, each["case"]) for what, each in extreme_rows(rows, "hd95", "lower", 1)]
    assert found == [("worst", "b"), ("best", "c")]


def test_worst_and_best_are_of_one_kind_of_prompt(config, write_cases, bench, tmp_path):
    """They were of all kinds together: the worst were those followed through a volume, the best had a box a slice."""
    root = write_cases("bench-a", [{"core": ()}, {"core": ()}])
    bench(config(root, pictures=1))
    page = (tmp_path / "run" / "report.html").read_text()
    for level in ("slice", "volume"):
        shown = page.partition(f"<h2>Worst and best of bright: gt-box, {level} level</h2>")[2].partition("<h2>")[0]
        assert re.findall(r"tumour \((worst|best): dice", shown) == ["worst", "best"]
        assert shown.count(f"gt-box, {level} level; slice 2 of 0 to 6") == 2


def test_comparing_runs_tells_what_was_or_may_have_been_trained_on(config, write_cases, bench, tmp_path):
    """Cases left out, and cases that nobody is sure of, were compared without a word."""
    root = write_cases("bench-a", [{"core": ()} for _ in range(3)])
    bench(config(root, prompts=["gt-box"]))
    before, after = tmp_path / "run", tmp_path / "after"
    shutil.copytree(before, after)
    rows, metrics = read_table(after / "results.csv")
    for each in rows:
        if each["model"] == "bright":
            each["leak"] = "certain" if each["case"] == "bench-a-0" else "suspected"
    write_table(after / "results.csv", rows, metrics)
    (found,), notes = compare_runs(before, after, "dice", (None, None), method="wilcoxon", seed=0)
    assert found.n_rows == 2
    assert notes == [
        "1 scores of B are left out: a model was trained on their cases",
        "2 scores of B may be of cases that a model was trained on",
    ]
