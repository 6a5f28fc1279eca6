"""A run's folder: who may begin, who may go on, and what is not taken for done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oncoseg_benchmarks.run.run_folder import FIXED, RunFolder, slug
from oncoseg_core import DataError, PluginError, RunError
from oncoseg_core.imaging.file_dataset import load_case

IDENTITY = {**dict.fromkeys(FIXED, "same"), "commit": None}
HERE, THERE = {"versions": {"oncoseg-core": "1"}}, {"versions": {"oncoseg-core": "2"}}


def begin(folder, process="0-of-1", *, resume=False, identity=IDENTITY, environment=HERE):
    RunFolder(folder).claim(identity, environment, process, resume=resume)


def test_the_processes_of_a_run_begin_in_any_order_and_each_but_once(tmp_path):
    for process in ("1-of-3", "2-of-3", "0-of-3"):
        begin(tmp_path, process)
    for process in ("1-of-3", "0-of-1", "0-of-4"):
        with pytest.raises(RunError, match="go on with --resume"):
            begin(tmp_path, process)
        begin(tmp_path, process, resume=True)


def test_a_process_of_another_run_does_not_join(tmp_path):
    begin(tmp_path, "0-of-2")
    for resume in (False, True):
        with pytest.raises(RunError, match="another configuration"):
            begin(tmp_path, "1-of-2", resume=resume, identity={**IDENTITY, "config": "other"})


def test_of_two_runs_that_begin_in_the_same_moment_one_is_refused(tmp_path, monkeypatch):
    check = RunFolder.check

    def beaten(folder, *arguments, **given):
        check(folder, *arguments, **given)
        monkeypatch.setattr(RunFolder, "check", check)
        begin(tmp_path, "0-of-2", identity={**IDENTITY, "config": "other"})

    monkeypatch.setattr(RunFolder, "check", beaten)
    with pytest.raises(RunError, match="another configuration"):
        begin(tmp_path, "1-of-2")
    assert RunFolder(tmp_path).identity()["config"] == "other"


def test_a_sibling_may_begin_while_the_folder_is_looked_at(tmp_path, monkeypatch):
    iterdir = Path.iterdir

    def meanwhile(folder):
        monkeypatch.setattr(Path, "iterdir", iterdir)
        begin(tmp_path, "0-of-2")
        (tmp_path / "units").mkdir()
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", meanwhile)
    begin(tmp_path, "1-of-2")
    assert len(list((tmp_path / "processes").iterdir())) == 2


def test_what_a_kill_or_a_sibling_left_behind_is_in_nobodys_way(tmp_path):
    (tmp_path / "hashes").mkdir()
    (tmp_path / ".partial-0123.json").write_text("{")
    begin(tmp_path)
    (tmp_path / "run.json").unlink()  # killed before it was written
    with pytest.raises(RunError, match="go on with --resume"):
        begin(tmp_path)
    begin(tmp_path, resume=True)


def test_a_folder_of_something_else_and_a_run_of_an_older_version_are_not_begun_in(tmp_path):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(RunError, match="no benchmark run"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]
    (tmp_path / "run.json").write_text(json.dumps(IDENTITY))  # without processes/
    with pytest.raises(RunError, match="--resume"):
        begin(tmp_path)
    begin(tmp_path, resume=True)


def test_what_was_scored_with_other_versions_is_told(tmp_path):
    begin(tmp_path)
    begin(tmp_path, resume=True)
    assert RunFolder(tmp_path).environments() == [HERE]
    begin(tmp_path, "1-of-2", resume=True, environment=THERE)
    begin(tmp_path, resume=True, environment=THERE)
    assert RunFolder(tmp_path).environments() == [HERE, THERE]


def torchrun(path, **environment):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "oncoseg_benchmarks", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_torchrun_needs_no_resume_for_an_empty_folder_and_a_failing_case_does_not_end_it(
    config, write_cases, bench, tmp_path
):
    root = write_cases("bench-a", [{}, {}, {}])
    for number in (0, 2):  # those of the first process
        (root / f"bench-a-{number}.nrrd").write_bytes(b"no image")
    path = config(root, prompts=["gt-box"])
    bench(path, f"output={tmp_path / 'alone'}")
    done = torchrun(path, BRIGHT_SECONDS="1.5")  # the second process is not done when the first is
    assert "This process is done; " in done.stdout
    assert "failed: bright bench-a bench-a-0" in done.stdout, done.stderr
    assert done.returncode == 1
    assert (tmp_path / "run" / "results.csv").read_bytes() == (tmp_path / "alone" / "results.csv").read_bytes()
    again = torchrun(path)
    assert again.returncode == 1
    assert "holds a run already; go on with --resume" in again.stderr


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"model": "bright", "failures": []}', None])
def test_a_case_whose_record_is_damaged_is_scored_again(content, config, write_cases, bench, tmp_path):
    path = config(write_cases("bench-a", [{}, {}]))
    bench(path)
    table = (tmp_path / "run" / "results.csv").read_bytes()
    first, second = sorted((tmp_path / "run" / "units" / "bright").rglob("*.json"))
    first.write_text(second.read_text() if content is None else content)
    bench(path, resume=True)
    assert (tmp_path / "run" / "results.csv").read_bytes() == table


@pytest.mark.parametrize("which", ["masks", "references"])
def test_a_case_whose_masks_are_damaged_is_scored_again(which, config, write_cases, bench, tmp_path):
    path = config(write_cases("bench-a", [{}, {}]))
    bench(path)
    damaged = next((tmp_path / "run" / which).rglob("*.npz"))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    bench(path, resume=True)
    assert damaged.read_bytes() == whole


def test_names_that_differ_in_capitals_only_are_different_files_on_every_disk():
    assert slug("Case-1").lower() != slug("case-1").lower()
    assert slug("case 1") != slug(slug("case 1"))
    assert slug("lung1-001.v2") == "lung1-001.v2"


def test_two_cases_of_one_name_are_refused(config, write_cases, bench):
    root = write_cases("bench-a", [{}, {}])
    rows = json.loads((root / "cases.json").read_text())
    (root / "cases.json").write_text(json.dumps([rows[0], {**rows[1], "case_id": rows[0]["case_id"]}]))
    with pytest.raises(PluginError, match="two cases 'bench-a-0'"):
        bench(config(root))


@pytest.mark.parametrize("changed", [{"patient_id": "p\r0"}, {"patient_id": ""}, {"case_id": "bench\udce9"}])
def test_a_name_that_no_table_can_hold_is_refused_before_anything_is_scored(changed, config, write_cases, bench):
    root = write_cases("bench-a", [{}])
    (row,) = json.loads((root / "cases.json").read_text())
    (root / "cases.json").write_text(json.dumps([{**row, **changed}]))
    with pytest.raises(DataError, match="a table cannot hold"):
        bench(config(root))


def test_a_case_id_with_a_path_in_it_stays_in_the_folder(config, write_cases, bench, tmp_path):
    root = write_cases("bench-a", [{"case_id": name} for name in ("..", "a", "A")])
    rows = json.loads((root / "cases.json").read_text())
    (root / "sub").mkdir()
    rows[0]["case_id"] = "sub/../../bench-a/a"
    (root / "cases.json").write_text(json.dumps(rows))
    before = {path for path in tmp_path.rglob("*") if "run" not in path.parts}
    summary, outcome = bench(config(root))
    assert (outcome.failed, summary["n_cases"]) == (0, 3)
    assert {path for path in tmp_path.rglob("*") if "run" not in path.parts} - before == {tmp_path / "config.yaml"}
    assert len(list((tmp_path / "run" / "units" / "bright" / "bench-a").iterdir())) == 3


@pytest.mark.parametrize("made", [lambda mask: mask.astype(np.uint8), lambda mask: mask[:-1]])
def test_a_mask_that_is_none_on_the_image_is_a_failure(made, config, write_cases, bench, bright, monkeypatch):
    from generated_dataset import Manifest

    def load(self, case):
        volume, masks = load_case(case)
        return volume, {name: made(mask) for name, mask in masks.items()}

    monkeypatch.setattr(Manifest, "load", load, raising=False)
    summary, outcome = bench(config(write_cases("bench-a", [{}])))
    assert outcome.failed > 0
    assert "expected bool (7, 32, 40)" in summary["failures"][0]["reason"]
