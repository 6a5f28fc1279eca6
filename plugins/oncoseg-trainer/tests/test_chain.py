"""Whole chains of a tiny model on generated datasets: what they leave, and that nothing that happens to them changes it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import SimpleITK as sitk
import yaml

from oncoseg_core import DataError, RunError, load_plugins
from oncoseg_core.inference import Predictor
from oncoseg_lora.manifest import read_manifest, read_trained_on
from oncoseg_trainer.chain import manifest as chain_manifest
from oncoseg_trainer.chain import run as chain_module
from oncoseg_trainer.chain import scores as chain_scores
from oncoseg_trainer.chain import validation_sets
from oncoseg_trainer.chain.run import run_chain
from oncoseg_trainer.chain.settings import load_chain
from oncoseg_trainer.reporting.jsonl import read_metrics

TASKS = ["01-B-toy-a", "02-B-toy-b", "03-C-toy-d"]
NAMES = ["toy-a", "toy-b", "toy-d"]


def run(path, *overrides, **options):
    return run_chain(load_chain(str(path), list(overrides)), load_plugins(), **options)


STAGES = [
    {"phase": "B", "datasets": ["toy-a", "toy-b"]},
    {"phase": "C", "datasets": ["toy-d"], "overrides": {"training": {"learning_rate": 0.02}}},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_toy):
    """Three small datasets; tests that change them change a copy."""
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(NAMES):
        write_toy(folder, name, [{}] * 5, first_seed=100 * number)
    return folder


def chain_in(folder, data, **changes):
    config = {
        "name": "tiny-chain",
        "output": str(folder / "chain"),
        "data_root": str(data),
        "validation_cases": 2,
        "common": {
            "data": {"split": {"how": "made", "fractions": {"train": 0.6, "test": 0.4}}},
            "model": {"name": "tiny"},
            "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "policy": "lora+head"},
            "training": {
                "epochs": 1, "batch_size": 2, "learning_rate": 0.01, "checkpoint_every": 2, "score_every_epoch": False,
            },
            "metrics": ["dice"],
            "trackers": ["jsonl"],
        },
        "stages": STAGES,
        **changes,
    }  # fmt: skip
    path = folder / "chain.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_plugin, data):
    """A chain that nothing happened to, and how it ended."""
    return run(chain_in(tmp_path_factory.mktemp("whole"), data))


@pytest.fixture
def chain_file(tmp_path, tiny_plugin, data):
    """Write the same chain, of the test's own output; keys can be changed."""
    return lambda **changes: chain_in(tmp_path, data, **changes)


@pytest.fixture
def done(whole, tmp_path):
    """A copy of the chain that nothing happened to, with its first ``tasks`` alone, as before the others began."""

    def copy(tasks=3):
        folder = tmp_path / "chain"
        shutil.copytree(whole.folder, folder)
        for name in TASKS[tasks:]:
            shutil.rmtree(folder / "tasks" / name)
            (folder / "scores" / f"{name}.json").unlink()
        return folder

    return copy


def results(folder):
    """Everything that must be the same whatever happened on the way."""
    kept = ["manifest.json", "forgetting.json", "forgetting.html", "forgetting.png"]
    kept += [f"tasks/{task}/{name}" for task in TASKS for name in ("task.json", "metrics.jsonl", "split.json")]
    kept += [f"tasks/{task}/adapter/{name}" for task in TASKS for name in ("adapter_model.safetensors", "oncoseg.json")]
    kept += [f"validation/{name}.json" for name in NAMES]
    kept += [f"scores/{row}.json" for row in ("untouched", *TASKS)]
    return {name: (folder / name).read_bytes() for name in kept}


def test_a_chain_leaves_everything_that_is_promised(whole, data):
    folder = whole.folder
    matrix = json.loads((folder / "forgetting.json").read_text())
    assert matrix == whole.matrix
    assert [column["dataset"] for column in matrix["columns"]] == NAMES
    assert [column["first_task"] for column in matrix["columns"]] == TASKS
    assert [list(row["dice"]) for row in matrix["rows"]] == [NAMES[:1], NAMES[:2], NAMES]
    assert list(matrix["untouched"]) == NAMES
    last = matrix["rows"][-1]
    assert last["backward_transfer"] == pytest.approx(
        sum(last["dice"][name] - matrix["rows"][n]["dice"][name] for n, name in enumerate(NAMES[:2])) / 2
    )
    assert last["gain_over_untouched"] > 0  # it learns

    before, seen = None, 0
    for number, task in enumerate(TASKS):
        run_folder = folder / "tasks" / task
        record = json.loads((run_folder / "task.json").read_text())
        assert record["before"] == before
        before = record["sha256"]
        assert len(read_manifest(run_folder / "adapter").parents) == number
        trained_on = read_trained_on(run_folder / "adapter")
        assert list(trained_on.datasets) == NAMES[: number + 1]
        assert len(trained_on.hashes) == seen + 3
        seen = len(trained_on.hashes)
        assert (run_folder / "summary.json").exists()
        assert not list(run_folder.glob("checkpoint*"))  # the intermediates are gone
        summary = json.loads((run_folder / "summary.json").read_text())
        assert summary["phase"] == "BBC"[number]
        for name in NAMES[: number + 1]:  # never a training case
            frozen = json.loads((folder / "validation" / f"{name}.json").read_text())
            assert len(frozen["cases"]) == 2
            assert not trained_on.hashes & {case["content_hash"] for case in frozen["cases"]}
    assert (
        yaml.safe_load((folder / "tasks" / TASKS[2] / "config.yaml").read_text())["training"]["learning_rate"] == 0.02
    )
    assert not list(folder.rglob(".partial-*"))

    kept = results(folder)
    again = run(chain_in(folder.parent, data))  # all is verified, nothing done anew
    assert again.matrix == matrix
    assert results(folder) == kept


def test_killed_in_the_second_task_it_ends_the_same(chain_file, tmp_path, whole):
    path = chain_file()
    child = subprocess.Popen(
        [sys.executable, "-m", "oncoseg_trainer", "chain", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    metrics = tmp_path / "chain" / "tasks" / TASKS[1] / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if metrics.exists() and any(row["event"] == "train" for row in read_metrics(metrics)):
            break
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    output = child.communicate()[0].decode()
    assert child.returncode == -signal.SIGKILL, output
    assert not (tmp_path / "chain" / "tasks" / TASKS[1] / "task.json").exists()
    run(path)
    assert results(tmp_path / "chain") == results(whole.folder)


class Killed(BaseException):
    """Nothing that a program handles."""


CUTS = [
    "chain.yaml", "validation/toy-b.json", "scores/untouched.json", "forgetting.html", "scores/01-B-toy-a.json",
    "01-B-toy-a/task.json", "clear 01-B-toy-a", "manifest.json", "02-B-toy-b/task.json", "forgetting.png",
    "scores/03-C-toy-d.json", "clear 03-C-toy-d",
]  # fmt: skip


def test_cut_off_at_any_write_it_ends_the_same(chain_file, tmp_path, whole, monkeypatch):
    """One life after the other ends just before the first write of a kind."""
    path = chain_file()
    cut = [""]

    def dying(real, what=""):
        def write(target, *arguments):
            if f"{what}{target}".endswith(cut[0]):
                raise Killed
            return real(target, *arguments)

        return write

    for module in (chain_module, chain_manifest, chain_scores, validation_sets):
        monkeypatch.setattr(module, "atomic_write", dying(module.atomic_write))
    clear = chain_module.clear_checkpoints
    monkeypatch.setattr(
        chain_module, "clear_checkpoints", lambda folder: dying(lambda _: clear(folder), "clear ")(folder.name)
    )
    for cut[0] in CUTS:
        with pytest.raises(Killed):
            run(path)
    cut[0] = "nothing"
    run(path)
    assert results(tmp_path / "chain") == results(whole.folder)
    assert not list((tmp_path / "chain").rglob("step-*.pt"))


def test_every_task_and_every_validation_case_has_the_fit_of_the_chain(tmp_path, tiny_plugin, data, monkeypatch):
    seen = []
    real = validation_sets.Preprocessor
    monkeypatch.setattr(validation_sets, "Preprocessor", lambda *given: seen.append(given[-1].fit) or real(*given))
    path = chain_in(tmp_path, data, stages=STAGES[:1])
    config = yaml.safe_load(path.read_text())
    config["common"]["fit"] = "stretch"
    path.write_text(yaml.safe_dump(config))
    outcome = run(path)
    for task in TASKS[:2]:
        paths = read_manifest(outcome.folder / "tasks" / task / "adapter").paths
        assert {one.fit for one in paths.values()} == {"stretch"}
    assert set(seen) == {"stretch"}


def test_stopped_it_goes_on_with_the_same_command(chain_file, done, whole):
    folder = done(1)
    asked = []

    def stop():
        asked.append(None)
        return len(asked) in {5, 6, 16, 17}

    stops = 0
    while (outcome := run(chain_file(), should_stop=stop)).matrix is None:
        stops += 1
    assert stops >= 2
    assert outcome.folder == folder
    assert results(folder) == results(whole.folder)


def test_stopped_while_scoring_a_column_its_scored_cases_are_kept(chain_file, done, whole, monkeypatch):
    """A column has two cases of four slices, over both targets; a life of four slices scores one of them."""
    folder = done(2)
    (folder / "scores" / "untouched.json").unlink()
    predicted, real = [], Predictor.predict_slice

    def predict(self, *arguments):
        predicted.append(None)
        return real(self, *arguments)

    monkeypatch.setattr(Predictor, "predict_slice", predict)
    path, lives = folder / "scores" / "untouched.json", 0

    def complete():
        return path.exists() and len(json.loads(path.read_text())["columns"]) == len(NAMES)

    while not complete():
        before, lives = len(predicted), lives + 1
        assert lives < 20
        assert run(chain_file(), should_stop=lambda: complete() or len(predicted) - before >= 4).matrix is None  # noqa: B023
    assert len(predicted) == len(NAMES) * 8  # no slice twice
    run(chain_file())
    assert results(folder) == results(whole.folder)
    assert not list((folder / "scores").glob("scored-*"))


def test_a_changed_earlier_stage_makes_the_later_ones_stale(chain_file, done, tmp_path):
    folder = done()
    kept = results(folder)
    plain = [STAGES[0], {"phase": "C", "datasets": ["toy-d"]}]
    for stages, override, message in (
        (plain, [], r"03-C-toy-d was done with another configuration \(differs in training\.learning_rate\): it would"),
        (
            STAGES,
            ["common.lora.dropout=0"],
            r"01-B-toy-a was done .*\(differs in lora\.dropout\): it and the 2 after it",
        ),
        ([{"phase": "B", "datasets": ["toy-b"]}], [], r"01-B-toy-a is not what comes now in the chain \(01-B-toy-b\)"),
        (STAGES[:1], [], "03-C-toy-d is not in the chain any more"),
    ):
        with pytest.raises(RunError, match=f"task {message}"):
            run(chain_file(stages=stages), *override)
    assert results(folder) == kept  # nothing was touched
    outcome = run(chain_file(stages=plain), redo=True)
    assert len(outcome.matrix["rows"]) == 3
    now = results(folder)
    changed = {"tasks/03-C-toy-d/task.json", "scores/03-C-toy-d.json", "manifest.json"}
    assert {name for name in now if now[name] != kept[name]} >= changed
    assert now["tasks/02-B-toy-b/task.json"] == kept["tasks/02-B-toy-b/task.json"]
    assert not list((folder / "tasks").glob(".*"))


def test_an_unfinished_task_is_not_gone_on_with_otherwise(chain_file, done):
    folder = done(2)
    assert run(chain_file(), should_stop=iter([False] * 6 + [True] * 100).__next__).matrix is None
    assert (folder / "tasks" / TASKS[2] / "config.yaml").exists()
    with pytest.raises(RunError, match=r"03-C-toy-d was begun with another configuration \(differs in seed\)"):
        run(
            chain_file(stages=[STAGES[0], {**STAGES[1], "overrides": {"training": {"learning_rate": 0.02}, "seed": 1}}])
        )


def test_a_chain_can_grow(chain_file, done, whole):
    folder = done(2)
    (folder / "validation" / "toy-d.json").unlink()
    run(chain_file(stages=STAGES[:1]))
    assert len(json.loads((folder / "forgetting.json").read_text())["columns"]) == 2
    run(chain_file())
    assert results(folder) == results(whole.folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tasks/01-B-toy-a/adapter/adapter_model.safetensors", b"x", r"01-B-toy-a is damaged .*was altered"),
        ("tasks/01-B-toy-a/adapter/oncoseg.json", b" ", "01-B-toy-a has another adapter than its record says"),
        ("validation/toy-b.json", b"}", "is no frozen validation set"),
        ("scores/02-B-toy-b.json", b"}", "is no file of scores"),
    ],
)
def test_what_was_altered_is_named(chain_file, done, name, change, message):
    victim = done() / name
    victim.write_bytes(victim.read_bytes() + change)
    with pytest.raises(RunError, match=message):
        run(chain_file())


def test_numbers_that_were_altered_are_named(chain_file, done):
    folder = done()
    for name, message in (
        ("tasks/02-B-toy-b/task.json", "02-B-toy-b is damaged .*was changed after it was written"),
        ("validation/toy-b.json", "was changed after it was frozen"),
        ("scores/02-B-toy-b.json", "was changed after task 02-B-toy-b"),
    ):
        before = (folder / name).read_text()
        values = json.loads(before)
        if "tasks" in name:
            values["split"] = "0" * 64
        elif "validation" in name:
            values["cases"] = values["cases"][:1]
        else:
            values["columns"]["toy-a"]["dice"] = 1.0
        (folder / name).write_text(json.dumps(values))
        with pytest.raises(RunError, match=message):
            run(chain_file())
        (folder / name).write_text(before)
    with pytest.raises(RunError, match=r"toy-a\.json: the validation cases were drawn otherwise \(wanted 2, now 1\)"):
        run(chain_file(), "validation_cases=1")


def test_each_record_hangs_on_the_one_before(chain_file, done):
    folder = done()
    path = folder / "tasks" / TASKS[0] / "task.json"
    record = chain_manifest.read_record(path).model_copy(update={"split": "0" * 64})
    path.write_text(record.model_copy(update={"sha256": record.hash}).model_dump_json())  # sound in itself
    with pytest.raises(RunError, match="02-B-toy-b was done after another task than the one before it now"):
        run(chain_file())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("augmentation"), None),  # as if that key had come with a later version
        (
            lambda config: config.update(colour="red"),
            "done with keys that are not known any more .unknown key 'colour'",
        ),
    ],
)
def test_a_finished_task_outlives_new_versions_of_the_trainer(chain_file, done, change, message):
    folder = done()
    path = folder / "tasks" / TASKS[2] / "task.json"
    record = chain_manifest.read_record(path)
    change(record.config)
    path.write_text(record.model_copy(update={"sha256": record.hash}).model_dump_json())
    if message is None:
        assert len(run(chain_file()).matrix["rows"]) == 3
        return
    with pytest.raises(RunError, match=f"task 03-C-toy-d was {message}"):
        run(chain_file())


def frozen_case(folder, name):
    return json.loads((folder / "validation" / f"{name}.json").read_text())["cases"][0]["case_id"]


def test_validation_cases_stay_what_they_were(chain_file, done, data, tmp_path):
    folder = done(2)
    own = tmp_path / "data"
    shutil.copytree(data, own)
    case = frozen_case(folder, "toy-a")
    image, label = own / "toy-a" / f"{case}.nrrd", own / "toy-a" / f"{case}-l.nrrd"
    before = image.read_bytes()
    image.write_bytes((own / "toy-b" / "toy-b-0.nrrd").read_bytes())
    with pytest.raises(RunError, match=f"toy-a: the validation cases {case} are not what they were"):
        run(chain_file(data_root=str(own)))
    image.write_bytes(before)
    found = sitk.ReadImage(str(label))
    sitk.WriteImage(sitk.Cast(found > 0, found.GetPixelID()), str(label))  # without its core
    with pytest.raises(RunError, match="toy-a: the targets of the validation cases are not what they were"):
        run(chain_file(data_root=str(own)))


def test_a_validation_case_is_never_trained_on_under_another_name(chain_file, done, data, tmp_path, whole):
    """A training case of the second dataset is a validation case of the first."""
    folder = done(1)
    own = tmp_path / "data"
    shutil.copytree(data, own)
    sides = json.loads((whole.folder / "tasks" / TASKS[1] / "split.json").read_text())["sides"]
    (trained,) = next(iter(sides["train"]["toy-b"].values()))
    case = frozen_case(folder, "toy-a")
    shutil.copy(own / "toy-a" / f"{case}.nrrd", own / "toy-b" / f"{trained}.nrrd")
    with pytest.raises(DataError, match=rf"toy-a/{case} is toy-b/{trained} \(the same voxels\)"):
        run(chain_file(data_root=str(own)))


def test_overlaps_within_the_chain_are_refused_before_anything_is_done(chain_file, data, toy, tmp_path):
    roots = {"toy-c": str(toy("toy-c", [{}] * 5, first_seed=500))}
    stages = [{"phase": "B", "datasets": ["toy-a", "toy-c"]}]
    with pytest.raises(DataError, match=r"toy-a is toy-c \(declared in the test\).*common\.data\.allow_leakage: true"):
        run(chain_file(stages=stages, roots=roots))
    assert not (tmp_path / "chain").exists()
    outcome = run(chain_file(stages=stages, roots=roots), "common.data.allow_leakage=true")
    notes = {column["dataset"]: column["notes"] for column in outcome.matrix["columns"]}
    assert notes["toy-a"] == ["LEAKAGE, no test: toy-a and toy-c (declared in the test)"]
    assert "LEAKAGE, no test" in (tmp_path / "chain" / "forgetting.html").read_text()


def test_a_dataset_with_weak_annotations_is_a_task_without_a_column(chain_file, done, toy):
    done(1)
    roots = {"toy-boxes": str(toy("toy-boxes", [{}] * 5, first_seed=700))}
    stages = [{"phase": "B", "datasets": ["toy-a", "toy-boxes"]}]
    outcome = run(chain_file(stages=stages, roots=roots), "common.data.weak.toy-boxes.weight=0.3")
    assert [row["task"] for row in outcome.matrix["rows"]] == ["01-B-toy-a", "02-B-toy-boxes"]
    assert list(outcome.matrix["rows"][1]["dice"]) == ["toy-a"]
    assert outcome.matrix["rows"][1]["backward_transfer"] is not None
    assert outcome.matrix["not_scored"] == ["toy-boxes"]


def test_the_cases_are_of_the_validation_side_where_there_is_one(chain_file, tmp_path, toy):
    """Also with a task that has nothing to validate on, though its runs stop early by validation cases."""
    roots = {"toy-boxes": str(toy("toy-boxes", [{}] * 5, first_seed=700))}
    fractions = {"train": 0.4, "validation": 0.2, "test": 0.4}
    run(
        chain_file(stages=[{"phase": "B", "datasets": ["toy-boxes", "toy-a"]}], roots=roots),
        f"common.data={{validation_split: validation, split: {{how: made, fractions: {fractions}}}}}",
        "common.data.weak.toy-boxes.weight=0.3",
        "common.training.early_stopping={patience: 1}",
        "common.training.score_every_epoch=true",
    )
    frozen = json.loads((tmp_path / "chain" / "validation" / "toy-a.json").read_text())
    sides = json.loads((tmp_path / "chain" / "tasks" / "02-B-toy-a" / "split.json").read_text())["sides"]
    assert frozen["side"] == "validation"
    assert [[case["case_id"]] for case in frozen["cases"]] == list(sides["validation"]["toy-a"].values())


def test_a_chain_with_replay_trains_on_earlier_cases_too(chain_file, tmp_path):
    outcome = run(chain_file(), "common.sampling={mode: foreground}", "replay=0.5")
    assert len(outcome.matrix["rows"]) == 3
    summary = json.loads((tmp_path / "chain" / "tasks" / TASKS[2] / "summary.json").read_text())
    assert summary["sampling"]["shares"] == {"toy-a": 0.25, "toy-b": 0.25}
    assert [(each["name"], each["n_score_cases"]) for each in summary["datasets"]] == [
        ("toy-a", 0), ("toy-b", 0), ("toy-d", 2),
    ]  # fmt: skip
    new = 3 * 4  # three training cases with three slices of the tumour and one of its core
    assert summary["training"]["n_samples"] == 2 * new


def test_stages_together_are_one_task(chain_file):
    stages = [{"phase": "B", "datasets": ["toy-a", "toy-b"], "together": True}]
    outcome = run(chain_file(stages=stages))
    assert [row["task"] for row in outcome.matrix["rows"]] == ["01-B"]
    assert list(outcome.matrix["rows"][0]["dice"]) == ["toy-a", "toy-b"]


def test_two_processes_walk_the_chain_together(chain_file, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "oncoseg_trainer", "chain"]
    done = subprocess.run(
        [sys.executable, *launcher, str(chain_file())],
        capture_output=True, text=True, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "After 03-C-toy-d: average Dice" in done.stdout
    assert done.stdout.count("Results:") == 1
    matrix = json.loads((tmp_path / "chain" / "forgetting.json").read_text())
    assert [len(row["dice"]) for row in matrix["rows"]] == [1, 2, 3]
    summary = json.loads((tmp_path / "chain" / "tasks" / TASKS[2] / "summary.json").read_text())
    assert summary["training"]["processes"] == 2


def test_another_folder_is_left_alone(chain_file, tmp_path):
    (tmp_path / "chain").mkdir()
    (tmp_path / "chain" / "thesis.txt").write_text("dear")
    with pytest.raises(RunError, match="holds other files than a chain's"):
        run(chain_file())
