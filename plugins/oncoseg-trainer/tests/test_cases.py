"""From the configuration to the cases: one dataset or several, splits, sides, weak annotations, wrong combinations."""

import json

import pytest
from generated_dataset import Manifest

from oncoseg_core import ConfigError, DataError, Fault, ImageReadError, load_plugins
from oncoseg_core.plugins.configuration import validate
from oncoseg_lora import read_manifest
from oncoseg_store import PreparationJob, prepare_dataset
from oncoseg_trainer.config.data_settings import DataSettings
from oncoseg_trainer.config.settings import TrainSettings, load_settings
from oncoseg_trainer.data.case_selection import DatasetLookup, choose_cases
from oncoseg_trainer.loop.run import train
from oncoseg_trainer.reporting.jsonl import JsonlTracker, read_metrics


def choose(**data):
    settings = validate(DataSettings, data, "data")
    return choose_cases(DatasetLookup(load_plugins(), settings.chosen).open(None), settings)


def ids(rows):
    return [row.case_id for row in rows]


@pytest.fixture
def official(toy, tiny_plugin):
    return toy("toy-a", [{"split": "train"}, {"split": "test"}, {"split": "train"}, {"split": None}])


def test_one_dataset_by_its_official_split(official):
    chosen = choose(dataset="toy-a", root=official, targets=["core"])
    assert ids(chosen.train_rows()) == ["toy-a-0", "toy-a-2"]
    assert ids(chosen.scored_rows()) == ["toy-a-1"]
    assert {row.targets for row in chosen.train_rows()} == {("core",)}
    assert chosen.split.sides["unused"] == {"toy-a": {"p3": ["toy-a-3"]}}
    assert chosen.modalities == ["ct"]


def test_the_single_form_and_a_list_of_one_are_the_same(official):
    one = choose(dataset="toy-a", root=official)
    other = choose(datasets=[{"dataset": "toy-a", "root": official}])
    assert one.hash == other.hash
    assert one.split.sha256 == other.split.sha256


def test_several_datasets_and_a_side_as_a_whole(official, toy):
    other = toy("toy-b", [{}, {}], first_seed=100)
    chosen = choose(
        datasets=[{"dataset": "toy-a", "root": official}, {"dataset": "toy-b", "root": other, "side": "score"}]
    )
    assert ids(chosen.train_rows()) == ["toy-a-0", "toy-a-2"]
    assert ids(chosen.scored_rows()) == ["toy-a-1", "toy-b-0", "toy-b-1"]


def test_a_made_split_and_the_same_from_its_file(toy, tiny_plugin, tmp_path):
    root = toy("toy-a", [{} for _ in range(10)])
    made = choose(dataset="toy-a", root=root, split={"how": "made", "fractions": {"train": 0.7, "test": 0.3}})
    assert len(ids(made.train_rows())) == 7
    made.split.write(tmp_path / "split.json")
    again = choose(dataset="toy-a", root=root, split={"how": "file", "file": tmp_path / "split.json"})
    assert again.hash == made.hash
    assert again.split.sha256 == made.split.sha256
    other = choose(dataset="toy-a", root=root, split={"how": "made", "seed": 1})
    assert other.hash != made.hash


def test_no_split_at_all_is_told_what_to_set(toy, tiny_plugin):
    root = toy("toy-a", [{}, {}])
    with pytest.raises(
        DataError, match=r"no labelled case is in the split 'train' .*core, tumour; .*data\.split\.how: made"
    ):
        choose(dataset="toy-a", root=root)


def test_weak_annotations_are_used_only_when_asked_for_by_name(official, toy):
    boxes = toy("toy-boxes", [{"split": "train"}, {"split": "test"}, {"split": "train"}], first_seed=100)
    datasets = [{"dataset": "toy-a", "root": official}, {"dataset": "toy-boxes", "root": boxes}]
    with pytest.raises(
        ConfigError, match=r"annotated with boxes, not with masks \(3 .*data\.weak\.toy-boxes: \{shape: box"
    ):
        choose(datasets=datasets)
    chosen = choose(datasets=datasets, weak={"toy-boxes": {"weight": 0.3}})
    assert ids(chosen.train_rows()) == ["toy-a-0", "toy-a-2", "toy-boxes-0", "toy-boxes-2"]
    assert ids(chosen.scored_rows()) == ["toy-a-1"]  # boxes are no reference
    assert [each.weak.weight if each.weak else None for each in chosen.datasets] == [None, 0.3]
    assert [(each.n_weak, each.n_not_scored) for each in chosen.datasets] == [(0, 0), (2, 1)]
    with pytest.raises(
        ConfigError, match=r"data\.weak\.toy-box: no such dataset in this run; did you mean 'toy-boxes'"
    ):
        choose(datasets=datasets, weak={"toy-box": {"weight": 0.3}})
    with pytest.raises(ConfigError, match=r"data\.weak\.toy-a: this dataset has masks; remove the key"):
        choose(datasets=datasets, weak={"toy-boxes": {"weight": 0.3}, "toy-a": {"weight": 0.3}})


def test_an_unknown_target_is_answered_with_the_nearest(official):
    with pytest.raises(DataError, match="target 'tumor' is in no case; did you mean 'tumour'"):
        choose(dataset="toy-a", root=official, targets=["tumor"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "give either one dataset"),
        ({"dataset": "a", "datasets": [{"dataset": "b"}]}, "give either one dataset"),
        ({"datasets": [{"dataset": "b"}], "root": "x"}, "stand with each of the datasets"),
        ({"datasets": [{"dataset": "b"}, {"dataset": "b"}]}, "named twice"),
        ({"dataset": "a", "train_split": "test"}, "are the same side"),
        ({"dataset": "a", "prepared": "s", "root": "x"}, "has its own root and settings"),
        ({"datasets": [{"dataset": "a", "prepared": "s", "settings": {"x": 1}}]}, "has its own root and settings"),
        ({"datasets": [{"dataset": "a", "side": "train"}], "split": {"how": "file", "file": "f"}}, "leave side out"),
        ({"dataset": "a", "split": {"how": "made", "file": "f"}}, "unknown key 'split.made.file'"),
        ({"dataset": "a", "split": {"how": "official", "seed": 1}}, "unknown key 'split.official.seed'"),
        ({"dataset": "a", "weak": {"b": {"shape": "blob", "weight": 1}}}, "'box' or 'drawn'"),
        ({"dataset": "a", "weak": {"b": {}}}, "missing key 'weak.b.weight'"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        validate(DataSettings, data, "data")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sampling", {"mode": "labelled", "foreground_share": 0.5}, "unknown key 'sampling.labelled.foreground_share'"),
        ("sampling", {"mode": "foreground", "temperature": 0}, "greater than 0"),
        ("sampling", {"mode": "foreground", "foreground_share": 1.1}, "less than or equal to 1"),
        ("augmentation", {"flip": 0.5}, "unknown key 'augmentation.flip'"),
        ("augmentation", {"scale": 1.0}, "less than 1"),
        ("training", {"workers": -1}, "greater than or equal to 0"),
    ],
)
def test_other_keys_about_data_are_checked(key, value, message):
    given = {"name": "n", "output": "o", "data": {"dataset": "a"}, "model": {"name": "m"}, key: value}
    with pytest.raises(ConfigError, match=message):
        validate(TrainSettings, given, "c")


def test_scores_of_two_datasets_with_one_case_id_are_not_taken_for_repeats(tmp_path):
    """A run that died while it logged the scores of a step logs the rest when it is resumed."""
    row = {"event": "score", "case": "case1", "target": "tumour", "dice": 0.5}
    first = JsonlTracker(run_directory=tmp_path)
    first.start({}, None)
    first.metrics(4, {"dataset": "a", **row})
    again = JsonlTracker(run_directory=tmp_path)
    again.start({}, 4)
    for dataset in ("a", "b"):
        again.metrics(4, {"dataset": dataset, **row})
    assert [row["dataset"] for row in read_metrics(tmp_path / "metrics.jsonl")] == ["a", "b"]


@pytest.fixture
def bad(official, monkeypatch):
    """The official set, of which the adapter finds one training case to be unusable."""
    discover = Manifest.discover

    def marked(self, root):
        for case in discover(self, root):
            wrong = {"fault": Fault(kind="twice", message="x.nii: is there twice"), "labels": (), "targets": ()}
            yield case.model_copy(update=wrong) if case.case_id == "toy-a-2" else case

    monkeypatch.setattr(Manifest, "discover", marked)
    return official


def test_a_bad_case_is_refused_unless_it_is_left_out(bad):
    message = (
        r"dataset 'toy-a': 1 cases cannot be used; the first, 'toy-a-2': x\.nii: is there twice; .*name them in "
        r"data\.leave_out, .*`leave_out_bad`: true"
    )
    with pytest.raises(DataError, match=message):
        choose(dataset="toy-a", root=bad)
    for choice in ({"leave_out": ["toy-a-2"]}, {"leave_out_bad": True}):
        chosen = choose(dataset="toy-a", root=bad, **choice)
        assert ids(chosen.train_rows()) == ["toy-a-0"]
        assert list(chosen.datasets[0].left_out) == ["toy-a-2"]
    several = choose(datasets=[{"dataset": "toy-a", "root": bad, "leave_out": ["toy-a-2"]}])
    assert ids(several.train_rows()) == ["toy-a-0"]
    with pytest.raises(DataError, match="data.leave_out: dataset 'toy-a' has no case 'toy-a-9'; did you mean 'toy-a-"):
        choose(dataset="toy-a", root=bad, leave_out=["toy-a-9"])


def test_a_good_case_can_be_left_out_too_and_the_split_stays(official):
    whole, less = (choose(dataset="toy-a", root=official, leave_out=names) for names in ([], ["toy-a-0"]))
    assert ids(less.train_rows()) == ["toy-a-2"]
    assert less.split.sha256 == whole.split.sha256, "a frozen split fits with or without cases that are left out"
    assert less.hash != whole.hash


def test_a_case_that_proves_unreadable_is_left_out_with_all_bad_ones(official):
    chosen = choose(dataset="toy-a", root=official)
    broken = chosen.datasets[0].source(chosen.datasets[0].train, {"ct": None}, 0)[0].record(1).labels[0]
    broken.write_bytes(broken.read_bytes()[:40])
    chosen = choose(dataset="toy-a", root=official, leave_out_bad=True)
    assert ids(chosen.train_rows()) == ["toy-a-0"]
    assert broken.name in chosen.datasets[0].left_out["toy-a-2"]
    (row,) = (row for row in choose(dataset="toy-a", root=official).train_rows() if row.case_id == "toy-a-2")
    source, _ = chosen.datasets[0].source([row], {"ct": None}, 0)
    with pytest.raises(ImageReadError, match=r"to go on without case 'toy-a-2', name it in leave_out of toy-a"):
        source.case(0)


def test_cases_that_a_store_lacks_are_refused_unless_they_are_left_out(bad, tmp_path):
    store = tmp_path / "store"
    report = prepare_dataset(load_plugins(), PreparationJob("toy-a", store, {}, {}), bad, workers=1)
    assert [(one.case_id, one.reason) for one in report.skipped] == [("toy-a-2", "x.nii: is there twice")]
    with pytest.raises(DataError, match="'toy-a-2': x.nii: is there twice"):
        choose(dataset="toy-a", prepared=store)
    assert ids(choose(dataset="toy-a", prepared=store, leave_out_bad=True).train_rows()) == ["toy-a-0"]


def test_what_was_left_out_and_how_labels_were_read_stand_in_summary_report_and_card(bad, toy_config, monkeypatch):
    class Trusting(Manifest.Settings):
        trust_image_grid: bool = False

    monkeypatch.setattr(Manifest, "Settings", Trusting)
    path = toy_config(
        {"dataset": "toy-a", "root": str(bad), "leave_out_bad": True, "settings": {"trust_image_grid": True}}
    )
    folder = train(load_settings(str(path), []), load_plugins()).folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["datasets"][0]["left_out"] == {"toy-a-2": "x.nii: is there twice"}
    assert summary["datasets"][0]["flags"] == ["trust_image_grid"]
    sentences = ["1 cases of toy-a are left out because they cannot be used", "toy-a was read with trust_image_grid."]
    for file, which in (("report.html", ": toy-a-2."), ("adapter/README.md", ".")):
        text = (folder / file).read_text().replace("\\", "")
        assert sentences[0] + which in text, file
        assert sentences[1] in text, file
    assert "toy-a-2" not in (folder / "adapter/README.md").read_text()
    assert {side.flags for side in read_manifest(folder / "adapter").splits.sides} == {("trust_image_grid",)}
