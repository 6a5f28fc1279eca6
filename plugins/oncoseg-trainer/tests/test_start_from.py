"""Cross-task transfer: what passes from one adapter to the next task, and what does not."""

import dataclasses
import hashlib
import json

import pytest
import torch
import yaml

from oncoseg_core import ConfigError, DataError, DatasetSpec, ModelSpec, Overlap, RunError, WeightsError, load_plugins
from oncoseg_lora.leakage import Scan
from oncoseg_lora.manifest import read_manifest, read_trained_on
from oncoseg_lora.store import load_adapter
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.distributed.processes import Processes
from oncoseg_trainer.loop.run import TrainingRun, train
from oncoseg_trainer.reporting.terminal import Terminal

SHORT = {"epochs": 1, "batch_size": 2, "learning_rate": 0.01, "checkpoint_every": 2, "score_every_epoch": False}


def run(path, *overrides, **options):
    return train(load_settings(str(path), list(overrides)), load_plugins(), **options)


@pytest.fixture
def tasks(toy, toy_config, tmp_path):
    """A finished run on toy-a, and the configuration of one on toy-b that starts from its adapter."""
    data = {name: {"dataset": name, "root": str(toy(name, [{}] * 3, first_seed=seed)), "split": {"how": "made"}}
            for name, seed in (("toy-a", 0), ("toy-b", 100))}  # fmt: skip
    first = run(toy_config(data["toy-a"], training=SHORT, output=str(tmp_path / "first")))
    second = toy_config(data["toy-b"], training=SHORT, name="second")
    config = yaml.safe_load(second.read_text())
    second.write_text(yaml.safe_dump({**config, "start_from": str(first.folder / "adapter"), "phase": "B"}))
    return first.folder / "adapter", second


def test_only_the_weights_pass_and_the_ancestors_are_recorded(tasks, tmp_path):
    adapter, config = tasks
    built = TrainingRun(load_settings(str(config), []), load_plugins(), Processes(0, 1, torch.device("cpu")),
                Terminal(speaks=False))  # fmt: skip
    base = load_plugins().build(ModelSpec, "tiny", {})
    expected = load_adapter(base, adapter).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in built.model.state_dict().items())
    assert built.optimizer.state_dict()["state"] == {}  # no moments from the task before

    outcome = run(config)
    found = read_manifest(outcome.folder / "adapter")
    assert found.parents == (hashlib.sha256((adapter / "oncoseg.json").read_bytes()).hexdigest(),)
    seen, before = read_trained_on(outcome.folder / "adapter"), read_trained_on(adapter)
    assert seen.datasets == ("toy-a", "toy-b")
    assert len(before.hashes) == 2
    assert before.hashes < seen.hashes
    assert len(seen.hashes) == 4
    assert outcome.summary["started_from"] == {"adapter": str(adapter), "parents": list(found.parents)}
    assert outcome.summary["phase"] == "B"
    assert all(row.before is None for row in found.metrics)  # what it had before is not the untouched model's
    card = (outcome.folder / "adapter" / "README.md").read_text()
    assert f"started from the adapter whose manifest has the SHA-256 {found.parents[0]}" in card
    assert "toy-a" in card  # its licence and citation count too
    assert "Trained on from the adapter" in (outcome.folder / "report.html").read_text()

    third = run(config, f"start_from={outcome.folder / 'adapter'}", f"output={tmp_path / 'third'}")
    parents = read_manifest(third.folder / "adapter").parents
    assert parents[1:] == found.parents
    assert len(parents) == 2


def test_what_an_ancestor_has_seen_is_not_scored(tasks, toy, toy_config):
    """The held-out case of the second task is a training case of the first, under another name."""
    adapter, config = tasks
    seen = json.loads((adapter.parent / "split.json").read_text())["sides"]["train"]["toy-a"]
    number = int(next(iter(seen)).removeprefix("p"))
    data = yaml.safe_load(config.read_text())["data"]
    root = toy("toy-b2", [{"split": "train", "seed": 200}, {"split": "test", "seed": number}])
    changes = {"data": {**data, "root": str(root), "split": {"how": "official"}}}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **changes}))
    with pytest.raises(DataError, match=r"toy-b/toy-b2-1 is the adapter's training \(the same voxels\)"):
        run(config)
    outcome = run(config, "data.allow_leakage=true")
    assert outcome.summary["leakage"]["found"][0]["trained"] == "the adapter's training"


def test_a_declared_overlap_with_an_ancestor_is_refused(tasks, toy, toy_config, tmp_path):
    adapter, _ = tasks
    data = {"dataset": "toy-c", "root": str(toy("toy-c", [{}] * 3, first_seed=300)), "split": {"how": "made"}}
    config = toy_config(data, training=SHORT, start_from=str(adapter))
    with pytest.raises(DataError, match=r"toy-c is toy-a \(declared in the test\)"):
        run(config)
    without = load_plugins()  # the ancestor's dataset is not installed here, and the other one declares it
    others = [one for one in without.components if one.spec.component_name not in {"toy-a", "toy-c"}]
    component = without.component(DatasetSpec, "toy-c")
    declared = (Overlap(dataset="toy-a", certain=True, how="declared by the other"),)
    spec = component.spec.model_copy(update={"overlaps": declared})
    without.components = [*others, dataclasses.replace(component, spec=spec)]
    with pytest.raises(DataError, match=r"toy-c is toy-a \(declared by the other\)"):
        train(load_settings(str(config), []), without)


def test_a_case_that_will_be_scored_elsewhere_is_not_trained_on(tasks):
    _, config = tasks
    built = TrainingRun(load_settings(str(config), []), load_plugins(), Processes(0, 1, torch.device("cpu")),
                Terminal(speaks=False))  # fmt: skip
    known = next(iter(built.data.trained_on.hashes - read_trained_on(tasks[0]).hashes))
    with pytest.raises(DataError, match=r"elsewhere/frozen is toy-b/toy-b-\d \(the same voxels\)"):
        run(config, unseen=[Scan("elsewhere", "frozen", known)])


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("lora.rank=2", ConfigError, r"other LoRA settings than this run \(rank 4, not 2\)"),
        ("lora.policy=lora", ConfigError, r"policy 'lora\+head', not 'lora'"),
        ("lora.dropout=0", ConfigError, r"dropout 0\.1, not 0"),
        ("fit=stretch", ConfigError, "trained with fit letterbox, this run has stretch; give the run fit: letterbox"),
        ("model.name=litemedsam", WeightsError, "trained for model 'tiny', this run is of 'litemedsam'"),
        ("start_from=nowhere", WeightsError, "nowhere: no such folder; expected an adapter"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(tasks, tmp_path, override, error, message):
    with pytest.raises(error, match=message):
        run(tasks[1], override)
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_does_not_tell_what_it_saw_needs_permission(tasks):
    adapter, config = tasks
    manifest = json.loads((adapter / "oncoseg.json").read_text())
    (adapter / "oncoseg.json").write_text(json.dumps({**manifest, "datasets": None}))
    with pytest.raises(DataError, match="does not tell what it was trained on"):
        run(config)
    outcome = run(config, "data.allow_leakage=true")
    assert read_trained_on(outcome.folder / "adapter") is None  # nor can its child tell


def test_a_run_is_resumed_with_the_adapter_it_started_from_wherever_that_lies(tasks, tmp_path):
    adapter, config = tasks
    stopped = run(config, should_stop=iter([False] * 4 + [True] * 100).__next__)
    assert stopped.summary is None
    manifest = adapter / "oncoseg.json"
    before = manifest.read_text()
    manifest.write_text(before + "\n")  # another manifest, which its files still fit
    with pytest.raises(RunError, match=r"the run started from the adapter \w{12}, start_from is now the adapter"):
        run(config, resume=True)
    manifest.write_text(before)
    adapter.rename(tmp_path / "moved")
    assert run(config, f"start_from={tmp_path / 'moved'}", resume=True).summary is not None
