"""The curves and the page: resumed runs, a hundred thousand steps, values that are not finite."""

import copy
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from oncoseg_testing import check_tracker
from oncoseg_testing.checks.trackers import CONFIG, SUMMARY
from oncoseg_trainer.reporting import html_report
from oncoseg_trainer.reporting.curves import COLOURS, MOST_POINTS, draw_scores, draw_training, thinned
from oncoseg_trainer.reporting.html_page import MOST_PICTURES, ReportPage, page
from oncoseg_trainer.reporting.html_report import HtmlTracker
from oncoseg_trainer.reporting.summary import prompt_words
from oncoseg_trainer.reporting.terminal import Terminal


def train(step, loss=0.5, **more):
    return {
        "step": step,
        "event": "train",
        "epoch": (step - 1) // 10,
        "loss": loss,
        "dice": loss / 2,
        "focal": loss / 2,
        **more,
    }


def score(step, case, target, dice, event="score", **more):
    return {
        "step": step,
        "event": event,
        "case": case,
        "target": target,
        "dice": dice,
        "per_slice": {"dice": []},
        **more,
    }


def drawn_lines(monkeypatch, draw, *arguments):
    """What is drawn: title -> label -> (x, y)."""
    figures = []
    from oncoseg_trainer.reporting import curves

    monkeypatch.setattr(curves, "png_bytes", lambda figure: figures.append(figure) or b"")
    draw(*arguments)
    (figure,) = figures
    return {
        axes.get_title(): {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
        for axes in figure.axes
        if axes.get_title()
    }


def test_thinning_keeps_the_extremes_and_leaves_out_what_is_not_finite():
    steps, values = np.arange(1.0, 100_001), np.full(100_000, 0.5)
    values[77_777], values[5], values[6] = 9.0, math.nan, math.inf
    line = thinned(steps, values)
    assert len(line.steps) <= MOST_POINTS
    assert line.together == 334
    assert np.nanmax(line.high) == 9.0
    assert line.low.min() == 0.5
    assert line.mean[0] == 0.5
    gap = thinned(np.arange(3.0), np.array([1.0, math.nan, 3.0]))
    assert gap.together == 1
    assert np.isnan(gap.mean[1])
    assert list(gap.mean[[0, 2]]) == [1.0, 3.0]


def test_the_terms_the_measures_and_the_marks_are_drawn(monkeypatch):
    rows = [train(step, lr=1e-4, grad_norm=2.0) for step in range(1, 21)]
    rows[4] = train(5, math.nan, lr=1e-4, skipped=1)
    rows.append(train(7, 0.25, lr=2e-4))  # came a second time
    lines = drawn_lines(monkeypatch, draw_training, rows, [12])
    assert set(lines) == {"training loss", "learning rate", "gradient norm", "steps skipped"}
    loss = lines["training loss"]
    assert {"loss", "dice", "focal", "not finite (1 steps)", "resumed"} <= set(loss)
    assert loss["loss"][0] == list(range(1, 21))
    assert loss["loss"][1][6] == 0.25
    assert math.isnan(loss["loss"][1][4])
    assert loss["not finite (1 steps)"][0] == [5]
    assert lines["learning rate"]["resumed"][0] == [12, 12]


def test_each_target_has_its_line_and_each_dataset_its_panel(monkeypatch):
    regions = ("whole tumour", "tumour core", "enhancing tumour")
    rows = [
        score(step, case, region, 0.1 * (1 + i) + step / 100, dataset="brats-gli")
        for step in (0, 10)
        for case in "ab"
        for i, region in enumerate(regions)
    ]
    rows += [score(10, "a", "whole tumour", 0.5, dataset="brats-gli"), score(10, "c", "liver", None, dataset="lits")]
    rows += [score(10, "v", "whole tumour", 0.7, event="validation", dataset="brats-gli")]
    rows += [train(step) for step in range(1, 21)]
    lines = drawn_lines(monkeypatch, draw_scores, rows)
    assert set(lines) == {
        "Dice of the scored cases of brats-gli", "Dice of the scored cases of lits", "Dice of the validation cases of brats-gli",
    }  # fmt: skip
    brats = lines["Dice of the scored cases of brats-gli"]
    assert list(brats) == [f"{region} (2 cases)" for region in sorted(regions)]
    steps, dice = brats["whole tumour (2 cases)"]
    assert steps == [0, 10]
    assert dice == pytest.approx([0.1, 0.35])  # the later of the two rows of case a counts
    assert lines["Dice of the scored cases of lits"] == {}
    assert lines["Dice of the validation cases of brats-gli"]["whole tumour (1 case)"] == ([10], [0.7])


def test_very_many_targets_have_no_names_but_a_mean(monkeypatch):
    rows = [score(step, "a", f"organ {i}", 0.5) for step in (0, 10) for i in range(104)]
    (lines,) = drawn_lines(monkeypatch, draw_scores, rows).values()
    assert lines["mean of 104 targets"] == ([0, 10], [0.5, 0.5])


def test_a_loss_that_would_flatten_all_others_is_told_in_words(monkeypatch):
    rows = [train(step) for step in range(1, 101)]
    rows[50] = train(51, 1e6)
    assert "training loss\n(highest 1e+06, not shown)" in drawn_lines(monkeypatch, draw_training, rows)


@pytest.mark.parametrize(
    "rows", [[], [train(1)], [train(1, math.nan), train(2, math.inf)], [train(1, 0.0)], [score(0, "a", "t", None)]]
)
def test_odd_runs_are_drawn(rows):
    for png in (draw_training(rows), draw_scores(rows)):
        assert png is None or Image.open(io.BytesIO(png)).size[0] == 1100


@pytest.mark.parametrize("resumed", [[], [12]])
def test_no_legend_covers_a_curve(resumed, monkeypatch):
    from oncoseg_trainer.reporting import curves

    figures = []
    monkeypatch.setattr(curves, "png_bytes", lambda figure: figures.append(figure) or b"")
    draw_training([train(step, 1 / step, lr=1e-4) for step in range(1, 21)], resumed)
    targets = [f"a target with a long name {i}" for i in range(10)]
    draw_scores([score(step, "a", target, 0.9) for step in (0, 10) for target in targets], resumed)
    for figure in figures:
        figure.draw_without_rendering()
        legends = [axes for axes in figure.axes if axes.get_legend() is not None]
        assert legends
        for axes in legends:
            box = axes.get_legend().get_window_extent()
            assert not any(box.overlaps(other.get_window_extent()) for other in figure.axes)
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0


def with_floors(dice, box):
    """The kit's summary with floors, of a model that scores so."""
    summary = copy.deepcopy(SUMMARY)
    metrics = ("dice", "iou", "nsd", "hd95")
    for part, value in (("zero_shot", 0.5), ("adapted", dice)):
        summary[part]["mean"] = {m: {"mean": value, "std": None, "n_cases": 1} for m in metrics}
        for row in summary[part]["cases"]:
            row |= dict.fromkeys(metrics, value)
            row |= {
                "per": "lesion",
                "floors": {"box": dict.fromkeys(metrics, box), "nothing": dict.fromkeys(metrics, 0.0)},
            }
    summary["floors"] = {
        name: {m: {"mean": value, "std": None, "n_cases": 1} for m in metrics}
        for name, value in (("box", box), ("nothing", 0.0))
    }
    summary["split"] |= {"score_split": "test", "hash": "0" * 64}
    summary["prompt"]["per"] = {summary["adapted"]["cases"][0]["target"]: "lesion"}
    return summary


@pytest.mark.parametrize(("box", "warned"), [(0.8, True), (0.75, True), (0.6, False)])
def test_the_floors_stand_beside_before_and_after(box, warned, tmp_path, capsys, monkeypatch):
    summary = with_floors(0.75, box)
    monkeypatch.setenv("COLUMNS", "120")
    Terminal().scores(summary)
    said = capsys.readouterr().out
    assert re.search(rf"box itself +no model +{box:.3f} +{box:.3f} +{box:.3f}", said)
    assert re.search(r"nothing +no model +0.000 +0.000 +0.000", said)
    assert "Also scored: hd95. They are in report.html and summary.json." in said
    assert ("NO BETTER THAN THE PROMPT" in said) is warned
    assert "per lesion on each labelled slice" in said
    write(tmp_path, [train(1)])
    tracker = HtmlTracker(run_directory=tmp_path)
    tracker.start(CONFIG, None)
    tracker.finish(summary)
    text = (tmp_path / "report.html").read_text()
    assert text.count("<th>box itself</th><th>nothing</th>") == 2 * 4
    assert f"<td>0.750</td><td>+0.250</td><td>{box:.3f}</td><td>0.000</td>" in text
    assert ("NO BETTER THAN THE PROMPT" in text) is warned


@pytest.mark.parametrize(("width", "shown"), [(60, 1), (80, 2), (120, 3), (400, 4)])
def test_a_narrow_table_cuts_no_number_and_names_the_other_scores(width, shown, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    Terminal().scores(with_floors(0.75, 0.6))
    said = capsys.readouterr().out
    assert said.count("0.500 → 0.750 +0.250") == shown
    assert "…" not in said
    others = ["dice", "iou", "nsd", "hd95"][shown:]
    assert (f"Also scored: {', '.join(others)}." in said) is bool(others)


@pytest.mark.parametrize(
    ("per", "words"),
    [
        ({}, "one box per labelled slice"),
        ({"liver": "target"}, "one box per labelled slice"),
        ({"tumour": "lesion"}, "one box per lesion on each labelled slice"),
        ({"tumour": "lesion", "liver": "target"}, "one box per labelled slice, of tumour one per lesion on it"),
    ],
)
def test_the_prompt_is_told_in_words(per, words):
    assert prompt_words({"name": "box", "per": per}) == words


def test_the_colours_differ_in_lightness_and_hue():
    assert len(set(COLOURS)) == len(COLOURS)


def test_the_contract_is_kept(tmp_path):
    check_tracker(HtmlTracker, tmp_path)


def write(folder, rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_page_of_a_hundred_thousand_steps_stays_small(tmp_path):
    write(tmp_path, [train(step, 1 / step) for step in range(1, 100_001)])
    tracker = HtmlTracker(run_directory=tmp_path)
    tracker.start(CONFIG, None)
    tracker.finish(copy.deepcopy(SUMMARY))
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_the_page_tells_what_happened(tmp_path):
    write(
        tmp_path,
        [train(1), {"step": 1, "event": "warning", "message": "the loader <starves>"}, score(1, "a", "t", 0.5)],
    )
    for resumed in (None, 0, 1):
        tracker = HtmlTracker(run_directory=tmp_path)
        tracker.start(CONFIG, resumed)
    summary = copy.deepcopy(SUMMARY)
    summary["model"]["weights_sha256"] = "random:3"
    summary["warnings"] = ["tracker 'wandb' failed", "the loader <starves>"]
    tracker.finish(summary)
    text = (tmp_path / "report.html").read_text()
    assert re.search(r"Resumed after step 0 \(20\d\d-", text)
    assert "Resumed after step 1 (" in text
    assert text.count("<li>the loader &lt;starves&gt;</li>") == 1
    assert "<li>tracker &#x27;wandb&#x27; failed</li>" in text
    assert "RANDOM WEIGHTS" in text
    assert "random:3" in text
    assert "10.0% of the training time was spent waiting for data" in text
    assert not re.search(r"""(src|href)=["']?(http|//|/)""", text)
    assert '<td class="text">liver tumour</td><td>1</td><td>0.500</td><td>0.500</td><td>+0.000</td>' in text


def test_a_run_under_way_has_a_page_now_and_then(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(html_report.time, "monotonic", lambda: clock[0])
    write(tmp_path, [train(1), train(2), score(2, "a", "t", 0.5)])
    tracker = HtmlTracker(run_directory=tmp_path)
    tracker.start(CONFIG, None)
    clock[0] = 1700.0
    tracker.checkpoint(1, tmp_path / "checkpoint.pt")
    assert not (tmp_path / "report.html").exists()
    clock[0] = 1900.0
    tracker.checkpoint(2, tmp_path / "checkpoint.pt")
    assert "This run is not finished. The page shows it up to step 2." in (tmp_path / "report.html").read_text()


def test_of_very_many_pictures_the_first_are_shown():
    tracker = HtmlTracker(run_directory=None)
    for number in range(MOST_PICTURES + 3):
        tracker.image(f"case {number}", b"png", f"caption {number}")
    text = page(tracker._report, [], None)
    assert f"The first {MOST_PICTURES} of {MOST_PICTURES + 3}." in text
    assert text.count("<img") == MOST_PICTURES
    assert "How it went" not in page(ReportPage(), [], None)
