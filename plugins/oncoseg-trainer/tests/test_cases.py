"""From the configuration to the cases: one dataset or several, splits, sides, weak annotations, wrong combinations."""

import pytest

from oncoseg_core import ConfigError, DataError, load_plugins
from oncoseg_core.plugins.configuration import validate
from oncoseg_trainer.config.data_settings import DataSettings
from oncoseg_trainer.config.settings import TrainSettings
from oncoseg_trainer.data.case_selection import DatasetLookup, choose_cases
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
