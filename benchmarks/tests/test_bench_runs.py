"""Whole runs of a tiny model: scores, resumption, shards, failures, floors and ceilings."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_dataset import Manifest

from oncoseg_benchmarks.config.settings import load_settings
from oncoseg_benchmarks.run.run import prepare, shard
from oncoseg_benchmarks.run.run_folder import RunFolder
from oncoseg_benchmarks.run.verify import verify
from oncoseg_benchmarks.scoring.case_scoring import ScoringTask
from oncoseg_benchmarks.scoring.case_scoring import score_case as score_case_by_prompts
from oncoseg_benchmarks.scoring.saved_masks import load_masks, pack, save_masks, unpack
from oncoseg_benchmarks.scoring.subjects import ZoomCeiling
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import (
    ConfigError,
    DataError,
    DatasetSpec,
    Fault,
    Metric,
    MetricSpec,
    ModelSpec,
    PromptGeneratorSpec,
    RunError,
    box_around,
    load_plugins,
)
from oncoseg_core.inference.predictor import Predictor
from oncoseg_core.path import ZoomSettings, window_for
from oncoseg_core.path.preprocess import Preprocessor
from oncoseg_core.path.settings import PathSettings
from oncoseg_prompts.api import Prompting
from oncoseg_trainer.data.scoring import score_case

COMMAND = [sys.executable, "-m", "oncoseg_benchmarks"]


def table(folder):
    return (Path(folder) / "results.csv").read_bytes()


def test_a_run_scores_every_case_by_every_prompt(config, write_cases, bench, tmp_path):
    path = config(write_cases("bench-a", [{}, {"category": "malignant"}, {"core": ()}]))
    summary, outcome = bench(path)
    rows, metrics = read_table(tmp_path / "run" / "results.csv")
    assert (outcome.failed, outcome.missing) == (0, 0)
    assert summary["engines"] == {"bright": ["toy 1"]}
    assert metrics == list(summary["metric_records"])
    own = [row for row in rows if row["model"] == "bright"]
    assert len(own) == 2 * (3 + 2)  # the third case has no core
    assert all(row["dice"] > 0.8 for row in own if row["target"] == "tumour")
    assert {row["slices"] for row in own if row["target"] == "tumour" and row["level"] == "slice"} == {3}
    assert {row["slices"] for row in own if row["level"] == "volume"} == {1}
    skipped = [skip for skip in summary["skipped"] if skip["model"] == "bright"]
    assert [skip["what"] for skip in skipped] == ["bench-a-2 core"]
    for name in ("results.csv", "timing.csv", "summary.json", "report.html"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_slice_scores_are_those_of_the_core(config, write_cases, bench, bright, tmp_path):
    root = write_cases("bench-a", [{}])
    bench(config(root, prompts=[{"kind": "gt-box-jittered", "margin_px": [0, 4]}]), "seed=5")
    registry = load_plugins()
    adapter = registry.build(DatasetSpec, "bench-a", {})
    (case,) = adapter.discover(root)
    volume, masks = adapter.load(case)
    model = registry.build(ModelSpec, "bright", {})
    paths = {"ct": Preprocessor(registry, "ct", model.spec, PathSettings(normalizers={"ct": {"window": [-200, 300]}}))}
    generator = registry.build(PromptGeneratorSpec, "box", {"margin_px": [0, 4]})
    metrics = {"dice": registry.build(MetricSpec, "dice", {})}
    expected = score_case(Predictor(model, paths), case, volume, masks, Prompting(generator), metrics, seed=5)
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    found = {row["target"]: row["dice"] for row in rows if row["model"] == "bright"}
    assert found == {score.target: score.metrics["dice"] for score in expected}


def test_floors_and_ceiling_stand_beside_the_model(config, write_cases, bench, tmp_path):
    bench(config(write_cases("bench-a", [{}, {}]), references={"grids": [{"input": 64, "logits": 64}]}))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    dice = {}
    for row in rows:
        if row["level"] == "slice" and row["target"] == "tumour":
            dice.setdefault(row["model"], []).append(row["dice"])
    assert dice["floor:nothing"] == [0.0, 0.0]
    assert dice["floor:box"] == [1.0, 1.0]  # the tumours are boxes
    coarse, fine = (np.mean(dice[f"ceiling:logits-{name}"]) for name in ("16@32", "64@64"))
    assert 0.7 < coarse < fine <= 1
    assert np.mean(dice["bright"]) <= fine
    nothing = [row for row in rows if row["model"] == "floor:nothing"]
    assert {row["nsd"] for row in nothing} == {0.0}
    assert {row["hd95"] for row in nothing} == {None}
    volume = [row for row in rows if row["model"] == "floor:box" and row["level"] == "volume"]
    assert all(row["predicted_voxels"] < row["reference_voxels"] for row in volume if row["target"] == "tumour")


@pytest.mark.parametrize("level", ["slice", "volume"])
def test_a_model_that_zooms_has_a_ceiling_of_its_own_windows(level, config, write_cases, bench, bright, tmp_path):
    root = write_cases("bench-a", [{}, {}])
    zoom = {"when": "always", "context": 1.2}
    models = [{"name": "bright", "zoom": zoom}, {"name": "bright"}]
    bench(config(root, models=models, prompts=[{"kind": "gt-box", "level": level}]))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    dice = {(row["model"], row["case"]): row["dice"] for row in rows if row["target"] == "core"}
    for case in ("bench-a-0", "bench-a-1"):
        whole, windows = dice["ceiling:logits-16@32", case], dice["ceiling:bright+zoom", case]
        assert whole < windows
        assert dice["bright+zoom", case] <= windows + 0.05
    # The windows are those of the predictor: what it is shown of a slice is the whole of the ceiling's answer.
    settings = ZoomSettings(**zoom)
    registry = load_plugins()
    adapter = registry.build(DatasetSpec, "bench-a", {})
    case = next(iter(adapter.discover(root)))
    volume, masks = adapter.load(case)
    reference = masks["tumour"][2]
    prompt = (box_around(reference),)
    window = window_for(prompt, volume.geometry, registry.get(ModelSpec, "bright"), settings)
    session = ZoomCeiling("m", registry.get(ModelSpec, "bright"), settings).open(volume)
    (found,) = session.ask(2, [prompt], [np.ones_like(reference)])
    rows_, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert (rows_[0], columns[0], len(rows_), len(columns)) == (window.y0, window.x0, window.height, window.width)


def test_a_run_that_is_killed_goes_on_to_the_same_table(config, write_cases, bench, bright, tmp_path):
    path = config(write_cases("bench-a", [{} for _ in range(6)]), references={"floors": False, "ceilings": False})
    bench(path, f"output={tmp_path / 'whole'}")
    command = [*COMMAND, str(path), "--output", str(tmp_path / "killed"), "--resume"]
    kills, last = 0, 0
    for _ in range(20):
        process = subprocess.Popen(
            command, env={**os.environ, "BRIGHT_SECONDS": "0.1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        units = tmp_path / "killed" / "units"
        while process.poll() is None:
            done = len(list(units.rglob("*.json")))
            if done > last and kills < 2:
                last, kills = done, kills + 1
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        process.wait()
        if process.returncode != -signal.SIGKILL:
            break
    assert kills == 2
    assert process.returncode == 0, process.stderr.read().decode()
    assert table(tmp_path / "killed") == table(tmp_path / "whole")
    leftovers = list((tmp_path / "killed").rglob(".partial-*"))
    assert len(leftovers) <= kills


def test_shards_make_the_table_that_one_process_makes(config, write_cases, bench, monkeypatch, tmp_path):
    path = config(write_cases("bench-a", [{} for _ in range(5)]))
    bench(path, f"output={tmp_path / 'one'}")
    ends = []
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        ends.append(bench(path, f"output={tmp_path / 'three'}", resume=True)[1].missing)
    assert ends[0] > ends[1] > ends[2] == 0
    assert table(tmp_path / "three") == table(tmp_path / "one")


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "1"), ("x", "2")])
def test_a_rank_that_makes_no_sense_is_refused(rank, world, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(ConfigError, match="RANK"):
        shard()


def test_a_failing_case_is_told_and_the_others_are_scored(config, write_cases, bright, bench, tmp_path):
    root = write_cases("bench-a", [{}, {}, {}])
    (root / "bench-a-1.nrrd").write_bytes(b"no image")
    path = config(root)
    done = subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {failure["case"] for failure in summary["failures"]} == {"bench-a-1"}
    assert {licence["weights"] for licence in summary["licences"].values()} == {"Free too"}
    assert "bench-a-1.nrrd" in summary["failures"][0]["reason"]
    assert {row["case"] for row in read_table(tmp_path / "run" / "results.csv")[0]} == {"bench-a-0", "bench-a-2"}
    whole = write_cases("mended", [{"case_id": f"bench-a-{number}"} for number in range(3)])
    (root / "bench-a-1.nrrd").write_bytes((whole / "bench-a-1.nrrd").read_bytes())
    _, outcome = bench(path, resume=True)
    assert outcome.failed == 0


def test_a_folder_is_resumed_only_by_the_run_that_began_it(config, write_cases, bench):
    root = write_cases("bench-a", [{}, {}])
    path = config(root)
    bench(path)
    with pytest.raises(RunError, match="--resume"):
        bench(path)
    with pytest.raises(RunError, match="configuration .*seed"):
        bench(path, "seed=1", resume=True)
    rows = json.loads((root / "cases.json").read_text())
    (root / "cases.json").write_text(json.dumps(rows[:1]))
    with pytest.raises(RunError, match="choice of cases"):
        bench(path, resume=True)


def test_other_weights_do_not_go_on_with_a_run(config, write_cases, bench, tmp_path):
    path = config(write_cases("bench-a", [{}]))
    bench(path)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunError, match="other weights"):
        folder.claim_weights("bright", {**folder.weights("bright"), "weights_sha256": "1" * 64})


def test_prompts_that_a_model_does_not_take_are_skipped_with_the_reason(config, write_cases, bench):
    root = write_cases("bench-a", [{}])
    models = [{"name": "bright-boxes"}, {"name": "bright"}]
    summary, _ = bench(config(root, models=models, prompts=["gt-box", "text"]))
    assert [(skip["model"], skip["what"]) for skip in summary["skipped"]] == [("bright-boxes", "text (slice)")]
    assert "not 'text'" in summary["skipped"][0]["reason"]
    with pytest.raises(ConfigError, match="no model takes any"):
        bench(config(root, models=models[:1], prompts=["none"], output="elsewhere"))


def test_clicks_on_a_model_that_takes_boxes_only_are_scored_and_told(config, write_cases, bench, tmp_path):
    root = write_cases("bench-a", [{}])
    models = [{"name": "bright-boxes"}, {"name": "bright"}]
    summary, _ = bench(config(root, models=models, prompts=["point", {"kind": "clicks", "n": 2}]))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    scored = {row["prompt"]: row["dice"] for row in rows if (row["model"], row["target"]) == ("bright-boxes", "tumour")}
    assert set(scored) == {"point(center)", "clicks(2)"}
    assert min(scored.values()) > 0.5
    assert "a search finds" in summary["weights"]["bright-boxes"]["prompts_read_as"]["point"]
    assert "prompts_read_as" not in summary["weights"]["bright"]


def test_words_are_asked_for_everywhere_and_errors_on_empty_slices_counted(config, write_cases, bench, tmp_path):
    root = write_cases("bench-a", [{"slices": (2, 3), "core": ()}, {"slices": (), "core": ()}])
    prompts = ["none", {"kind": "text", "absent": ["screwdriver"]}]
    datasets = [{"name": "bench-a", "root": str(root), "targets": ["tumour"]}]
    summary, _ = bench(config(root, prompts=[*prompts, "gt-box"], datasets=datasets))
    skipped = [skip for skip in summary["skipped"] if skip["model"] == "bright"]
    assert [(skip["what"], skip["reason"][-8:]) for skip in skipped] == [("bench-a-1 tumour", "(gt-box)")]
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    found = {(r["case"], r["target"], r["prompt"]): r for r in rows if r["model"] == "bright"}
    everywhere = found["bench-a-0", "tumour", "none"]
    assert (everywhere["slices"], everywhere["empty_slices"], everywhere["empty_slices_with_mask"]) == (7, 5, 0)
    assert everywhere["dice"] > 0.7
    empty = found["bench-a-1", "tumour", "none"]
    assert (empty["dice"], empty["hd95"], empty["volume-difference"], empty["empty_slices"]) == (None, None, 0.0, 7)
    assert found["bench-a-0", "screwdriver", "text"]["absent"] is True
    assert found["bench-a-0", "screwdriver", "text"]["empty_slices"] == 2


def test_clicks_count_to_a_good_mask(config, write_cases, bench, tmp_path):
    bench(config(write_cases("bench-a", [{"core": ()}]), prompts=[{"kind": "clicks", "n": 6}]))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    by_model = {row["model"]: row for row in rows}
    assert by_model["floor:nothing"]["noc_90"] == 7
    assert by_model["bright"]["noc_90"] >= 1
    assert by_model["bright"]["dice"] > 0.5


@pytest.fixture
def verified(config, write_cases, bench, tmp_path):
    """A finished run, and a function that gives what verifying finds in it."""
    bench(config(write_cases("bench-a", [{"category": "malignant"}, {}])))
    registry, run = load_plugins(), tmp_path / "run"
    found = verify(run, registry, lambda *_: None)
    assert found.rows > 0
    assert found.mismatches == []
    return run, lambda: verify(run, registry, lambda *_: None).mismatches


def change_table(run, change):
    path = run / "results.csv"
    lines = list(csv.reader(path.read_text().splitlines()))
    change(lines)
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def test_verify_finds_a_score_that_was_changed_and_the_averages_that_are_not_its(verified):
    run, again = verified

    def change(lines):
        column = lines[0].index("dice")
        lines[1][column] = repr(float(lines[1][column]) - 0.001)

    change_table(run, change)
    mismatch, *averages = again()
    assert mismatch.problem.startswith("dice is")
    assert averages
    assert all(each.row.startswith("summary.json") for each in averages)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines.pop(3), "is not in the table"),
        (lambda lines: lines.append(lines[3]), "is in the table 2 times"),
        (lambda lines: lines.append([*lines[3][:2], "another", *lines[3][3:]]), "was never scored"),
    ],
)
def test_verify_finds_a_row_that_is_missing_or_added(change, problem, verified):
    run, again = verified
    change_table(run, change)
    assert problem in [each.problem for each in again()]


@pytest.mark.parametrize(
    ("column", "value"), [("patient", "somebody"), ("category", "benign"), ("leak", "certain"), ("slices", "9")]
)
def test_verify_finds_a_description_that_was_changed(column, value, verified):
    run, again = verified
    change_table(run, lambda lines: lines[1].__setitem__(lines[0].index(column), value))
    mismatch = again()[0]
    assert mismatch.problem.startswith(f"{column} was ")
    assert mismatch.problem.endswith(f"the table says {value}")


def test_verify_refuses_a_table_of_other_metrics(verified):
    run, again = verified
    change_table(run, lambda lines: lines[0].__setitem__(lines[0].index("hd95"), "hd96"))
    with pytest.raises(DataError, match="hd96.*but the run's are"):
        again()


def test_verify_finds_an_average_that_was_changed(verified):
    run, again = verified
    summary = json.loads((run / "summary.json").read_text())
    summary["groups"][0]["metrics"]["dice"]["mean"] += 0.001
    (run / "summary.json").write_text(json.dumps(summary))
    (mismatch,) = again()
    assert mismatch.problem.startswith("metrics.dice.mean is ")


def test_verify_tells_of_masks_that_were_changed_or_are_damaged(verified):
    run, again = verified
    path = next((run / "masks" / "bright").rglob("*.npz"))
    masks, spacing = load_masks(path)
    key = next(iter(masks))
    mask = unpack(masks[key])
    mask[0, 0, 0] = not mask[0, 0, 0]
    save_masks(path, {**masks, key: pack(mask)}, spacing)
    (mismatch,) = again()
    assert mismatch.problem == "the saved prediction is not the one that was scored"
    path.unlink()
    assert len(again()) > 1


def test_a_limit_takes_the_same_cases_each_time(config, write_cases, bench, tmp_path):
    root = write_cases("bench-a", [{} for _ in range(6)])
    path = config(root, datasets=[{"name": "bench-a", "root": str(root), "limit": 2}])
    summary, _ = bench(path)
    again, _ = bench(path, f"output={tmp_path / 'again'}")
    assert summary["n_cases"] == 2
    assert summary["cases_sha256"] == again["cases_sha256"]


def test_a_bad_case_is_refused_unless_it_is_left_out_and_that_is_told(config, write_cases, bench, monkeypatch):
    discover = Manifest.discover

    def marked(self, root):
        for number, case in enumerate(discover(self, root)):
            wrong = {"fault": Fault(kind="twice", message="x.nii: is there twice"), "labels": (), "targets": ()}
            yield case.model_copy(update=wrong) if number == 1 else case

    monkeypatch.setattr(Manifest, "discover", marked)
    root = write_cases("bench-a", [{}, {}, {}])
    own = {"name": "bench-a", "root": str(root)}
    with pytest.raises(DataError, match=r"1 cases cannot be used; the first, 'bench-a-1': x\.nii: is there twice"):
        bench(config(root, datasets=[own]))
    for number, choice in enumerate(({"leave_out": ["bench-a-1"]}, {"leave_out_bad": True})):
        folder = root.parent / f"out{number}"
        summary, _ = bench(config(root, datasets=[own | choice], output=str(folder)))
        assert summary["n_cases"] == 2
        assert summary["datasets"][0]["n_left_out"] == 1
        assert [skip["what"] for skip in summary["skipped"]] == ["case bench-a-1"]
        assert "1 cases of bench-a were left out on request: see Not scored." in (folder / "report.html").read_text()
        assert summary["config"]["datasets"][0]["leave_out_bad"] is (number == 1)
    with pytest.raises(
        DataError, match="leave_out of the dataset 'bench-a': dataset 'bench-a' has no case 'bench-a-7'"
    ):
        bench(config(root, datasets=[own | {"leave_out": ["bench-a-7"]}], output="elsewhere"))


def test_a_side_of_an_official_split_is_scored_alone(config, write_cases, bench):
    root = write_cases("bench-a", [{"split": "train"}, {"split": "test"}])
    datasets = [{"name": "bench-a", "root": str(root), "side": "test"}]
    summary, _ = bench(config(root, datasets=datasets))
    assert summary["n_cases"] == 1
    assert summary["splits"].keys() == {"bench-a"}
    datasets[0]["side"] = "validation"
    with pytest.raises(DataError, match="validation"):
        bench(config(root, datasets=datasets, output="elsewhere"))


@pytest.mark.parametrize(("value", "reason"), [(None, "ZeroDivisionError"), (float("inf"), "metric 'dice' is inf")])
def test_a_metric_that_fails_is_a_failure_of_its_rows_alone(value, reason, config, write_cases, bench, monkeypatch):
    from oncoseg_metrics.overlap import Dice

    path = config(write_cases("bench-a", [{}]))
    assert issubclass(Dice, Metric)
    compute = Dice.compute

    def fails(self, prediction, reference, spacing):
        if reference.sum() > 300:  # the tumour, not its core
            return value or 1 / 0
        return compute(self, prediction, reference, spacing)

    monkeypatch.setattr(Dice, "compute", fails)
    summary, outcome = bench(path)
    assert outcome.failed > 0
    assert {failure["target"] for failure in summary["failures"]} == {"tumour"}
    assert reason in summary["failures"][0]["reason"]
    assert summary["n_rows"] == 2 * 4  # of the core, by the model, two floors and the ceiling


def test_an_answer_that_is_no_number_is_a_failure_and_not_an_empty_mask(
    config, write_cases, bench, bright, monkeypatch
):
    from oncoseg_bright_model import Bright

    decode = Bright.decode
    monkeypatch.setattr(
        Bright, "decode", lambda self, *given: decode(self, *given)._replace(logits=torch.full((1, 16, 16), torch.nan))
    )
    summary, outcome = bench(config(write_cases("bench-a", [{}])))
    assert outcome.failed == 1
    assert "NaN" in summary["failures"][0]["reason"]


@pytest.mark.parametrize(("local", "expected"), [(None, 0), ("1", 1), ("5", 1)])
def test_each_process_of_a_machine_takes_a_device_of_its_own(local, expected, monkeypatch):
    from oncoseg_benchmarks.scoring import plans

    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    assert plans._process_device("auto") == chosen[0] == torch.device("cuda", expected)
    assert plans._process_device("cpu") == torch.device("cpu")


def test_a_patient_of_overlapping_datasets_is_one_patient(config, write_cases, bench, tmp_path):
    roots = {name: write_cases(name, [{}]) for name in ("bench-a", "bench-b")}
    datasets = [{"name": name, "root": str(root)} for name, root in roots.items()]
    bench(config(roots["bench-a"], datasets=datasets))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    assert {row["dataset"] for row in rows} == {"bench-a", "bench-b"}
    assert {row["patient"] for row in rows} == {"bench-a/p0"}


def test_a_first_prompt_is_one_that_encodes_and_a_next_one_is_not(config, write_cases, bright):
    """Following encodes slices that nobody asked about yet, and a small cache lets go of slices that were."""
    case = {"slices": (1, 2, 3, 4, 5), "core": (1, 2, 3)}
    settings = load_settings(str(config(write_cases("bench-a", [case]), references={"floors": False})), [])
    prepared = prepare(settings, load_plugins(), resume=False, progress=lambda *_: None)
    plan, policies = next(iter(prepared.work()))
    scored = prepared.chosen.cases[0]
    volume, masks = scored.adapter.load(scored.case)
    tasks = [ScoringTask(target, masks[target.name]) for target in scored.case.targets]
    for kept in (100, 1):
        subject = plan.build(["ct"])
        subject.cache.max_bytes = kept * 16 * 16 * 4
        session, encoded, expected = subject.open(volume), [], {True: 0, False: 0}
        encode, ask = subject.predictor.model.encode_image, session.ask
        subject.predictor.model.encode_image = lambda pixels: encoded.append(1) or encode(pixels)  # noqa: B023

        def asked(*arguments):
            before = len(encoded)  # noqa: B023
            answer = ask(*arguments)  # noqa: B023
            expected[len(encoded) > before] += 1  # noqa: B023
            return answer

        session.ask = asked
        subject.open = lambda _: session  # noqa: B023
        score_case_by_prompts(subject, scored.case, volume, tasks, policies, {}, 0)
        assert {True: len(session.first), False: len(session.following)} == expected
        assert sum(expected.values()) == 5 + 3 + 2
