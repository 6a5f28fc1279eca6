"""Chain files: what they say, what is refused, which datasets are there; the built-in chain against the records."""

import pytest
import yaml

from oncoseg_core import ConfigError, DataError, DatasetSpec, UnknownComponentError, load_plugins
from oncoseg_trainer.chain.settings import load_chain
from oncoseg_trainer.chain.tasks import plan_chain
from oncoseg_trainer.cli import main

PHASES = ["B", "C", "D", "E1", "E2", "E3", "F1", "F2", "F3"]


@pytest.fixture
def chain_file(tmp_path, tiny_plugin):
    def write(**changes):
        config = {
            "name": "tiny-chain",
            "output": str(tmp_path / "chain"),
            "data_root": str(tmp_path),
            "common": {"model": {"name": "tiny"}, "training": {"epochs": 3}},
            "stages": [{"phase": "B", "datasets": ["toy-a", "toy-b"]}, {"phase": "C", "datasets": ["toy-d"]}],
            **changes,
        }
        path = tmp_path / "chain.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    for name in ("toy-a", "toy-b", "toy-d"):
        (tmp_path / name).mkdir()
    return write


def plan(path, *overrides, skip_absent=False):
    return plan_chain(load_chain(str(path), list(overrides)), load_plugins(), skip_absent=skip_absent)


def test_the_built_in_chain_has_every_dataset_of_the_paper_in_its_phase():
    chain = load_chain("oncoseg-chain", [])
    phases = {}
    for spec in load_plugins().specs(DatasetSpec):
        if spec.phase is not None:
            phases.setdefault(spec.phase, set()).add(spec.name)
    assert set(phases) - set(PHASES) == {"eval"}
    assert [stage.phase for stage in chain.stages] == PHASES
    for stage in chain.stages:
        assert {entry.dataset for entry in stage.datasets} == phases[stage.phase]
    assert sum(len(stage.datasets) for stage in chain.stages) == 35
    weak = {spec.name for spec in load_plugins().specs(DatasetSpec) if spec.annotation in {"boxes", "class", "recist"}}
    assert set(chain.common["data"]["weak"]) == weak & {e.dataset for stage in chain.stages for e in stage.datasets}


def test_the_built_in_chain_can_be_planned_where_its_data_are(tmp_path):
    slugs = [entry.dataset for stage in load_chain("oncoseg-chain", []).stages for entry in stage.datasets]
    with pytest.raises(
        DataError, match=r"^35 of the 35 datasets of the chain are absent \(msd-brain-tumour: no folder"
    ):
        plan("oncoseg-chain")
    for slug in slugs:
        (tmp_path / slug).mkdir()
    found = plan("oncoseg-chain", f"data_root={tmp_path}")
    assert [task.phase for task in found.tasks] == [
        stage.phase for stage in load_chain("oncoseg-chain", []).stages for _ in stage.datasets
    ]
    assert [task.columns[0] for task in found.tasks] == slugs
    assert found.tasks[13].settings.data.weak.keys() == {"opensrh"}
    assert found.tasks[0].settings.data.weak == {}
    assert found.tasks[34].name == "35-F3-nsclc-radiomics"
    assert found.tasks[34].settings.phase == "F3"


def test_absent_datasets_are_all_listed_or_left_out(chain_file, tmp_path):
    (tmp_path / "toy-a").rmdir()
    (tmp_path / "toy-d").rmdir()
    with pytest.raises(DataError, match=r"2 of the 3 datasets .*toy-a: \S+/toy-a is no folder; toy-d: .*--skip-absent"):
        plan(chain_file())
    found = plan(chain_file(), skip_absent=True)
    assert [task.name for task in found.tasks] == ["02-B-toy-b"]  # the name that it has when all are there
    assert set(found.absent) == {"toy-a", "toy-d"}
    (tmp_path / "toy-b").rmdir()
    with pytest.raises(DataError, match="none of the datasets of the chain is there"):
        plan(chain_file(), skip_absent=True)


def test_places_of_datasets(chain_file, tmp_path):
    other = tmp_path / "elsewhere"
    other.mkdir()
    store = tmp_path / "toy-d"
    (store / "index.oncoseg").write_bytes(b"")  # what a prepared store is known by
    found = plan(chain_file(roots={"toy-a": str(other)}))
    choices = [task.choices[0] for task in found.tasks]
    assert [choice.root for choice in choices] == [other, tmp_path / "toy-b", None]
    assert choices[2].prepared == store
    with_settings = [{"phase": "B", "datasets": [{"dataset": "toy-d", "settings": {"x": 1}}]}]
    with pytest.raises(ConfigError, match="toy-d is a prepared store, which has its own settings"):
        plan(chain_file(stages=with_settings))
    samples = [{"phase": "B", "datasets": [{"dataset": "samples", "settings": {"sources": ["tptbox"]}}]}]
    (choice,) = plan(chain_file(stages=samples, data_root=None)).tasks[0].choices
    assert choice.root is None  # can be fetched
    assert choice.settings == {"sources": ["tptbox"]}


def test_later_settings_replace_earlier_ones_key_by_key(chain_file):
    stages = [
        {"phase": "B", "datasets": ["toy-a"]},
        {"phase": "C", "datasets": ["toy-d"], "overrides": {"training": {"workers": 2}, "data": {"split": {"how": "made"}}}},
    ]  # fmt: skip
    common = {"model": {"name": "tiny"}, "training": {"epochs": 7}, "sampling": {"mode": "foreground"}}
    one, two = plan(chain_file(stages=stages, base="quickstart", common=common)).tasks
    assert one.settings.training.epochs == two.settings.training.epochs == 7
    assert one.settings.training.batch_size == 1  # the base's
    assert (one.settings.training.workers, two.settings.training.workers) == (0, 2)
    assert (one.settings.data.split.how, two.settings.data.split.how) == ("official", "made")
    assert one.settings.prompts.train[0].settings == {"margin_px": [0, 4]}
    assert [choice.dataset for choice in one.settings.data.chosen] == ["toy-a"]  # not the base's samples
    assert one.settings.data.chosen[0].targets == ()
    assert str(two.settings.output).endswith("chain/tasks/02-C-toy-d")


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["stagess=[]"], ConfigError, "unknown key 'stagess'; did you mean 'stages'"),
        (["replay=1"], ConfigError, "replay = 1: input should be less than 1"),
        (["validation_cases=0"], ConfigError, "greater than or equal to 1"),
        (["common.training.epohcs=1"], ConfigError, r"task 01-B-toy-a: unknown key 'training\.epohcs'; did you mean 'epochs'"),
        (["common.output=x"], ConfigError, "common: the chain itself gives each task its output; remove them there"),
        (["common.data.root=x"], ConfigError, r"the chain itself gives each task its data\.root"),
        (["common.data=x"], ConfigError, r"common\.data: expected keys and values"),
        (["common.data.weak={toy-x: {weight: 1}}"], ConfigError, r"data\.weak\.toy-x: no dataset of the chain; did you mean"),
        (["roots={toy-x: /tmp}"], ConfigError, r"roots\.toy-x: no dataset of the chain; did you mean"),
        (["base=quickstrat"], ConfigError, "no built-in configuration of that name; did you mean 'quickstart'"),
        (["replay=0.1"], ConfigError, r"replay draws samples at a set rate; it needs common\.sampling: \{mode: foreground\}"),
        (["replay=0.1", "common.sampling={mode: foreground, shares: {toy-a: 0.1}}"], ConfigError, r"remove sampling\.shares"),
        (["stages=[{phase: B, datasets: [toy-a]}, {phase: B, datasets: [toy-b]}]"], ConfigError, "have the same phase"),
        (["stages=[{phase: B, datasets: [toy-a, toy-a]}]"], ConfigError, "toy-a: named twice; give each entry a name"),
        (["stages=[{phase: B, datasets: [toy-aa]}]"], UnknownComponentError, "unknown dataset 'toy-aa'; did you mean 'toy-a'"),
        (["stages=[{phase: B, datasets: [{dataset: toy-a, side: train}]}]"], ConfigError, "unknown key .*side"),
        (["stages=[{phase: B/C, datasets: [toy-a]}]"], ConfigError, "phase"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_refused_before_anything_is_done(chain_file, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        plan(chain_file(), *overrides)
    assert not (tmp_path / "chain").exists()


def test_replay_needs_one_split_and_each_dataset_once(chain_file):
    sampling = {"model": {"name": "tiny"}, "sampling": {"mode": "foreground"}}
    made = {"data": {"split": {"how": "made"}}}
    stages = [{"phase": "B", "datasets": ["toy-a"]}, {"phase": "C", "datasets": ["toy-d"], "overrides": made}]
    with pytest.raises(ConfigError, match=r"task 02-C-toy-d: data\.split is another than in 01-B-toy-a"):
        plan(chain_file(stages=stages, common=sampling, replay=0.1))
    assert len(plan(chain_file(stages=stages, common=sampling)).tasks) == 2
    twice = [
        {"phase": "B", "datasets": [{"dataset": "toy-a", "targets": ["core"], "name": "cores"}]},
        {"phase": "C", "datasets": ["toy-a"]},
    ]
    assert [task.columns for task in plan(chain_file(stages=twice, common=sampling)).tasks] == [("cores",), ("toy-a",)]
    with pytest.raises(ConfigError, match="toy-a would be replayed beside itself"):
        plan(chain_file(stages=twice, common=sampling, replay=0.1))


def test_a_replayed_dataset_with_weak_annotations_counts_as_in_its_own_task(chain_file, tmp_path):
    (tmp_path / "toy-boxes").mkdir()
    weak = {"data": {"weak": {"toy-boxes": {"weight": 0.5}}}}
    stages = [{"phase": "B", "datasets": ["toy-boxes"], "overrides": weak}, {"phase": "C", "datasets": ["toy-d"]}]
    common = {"model": {"name": "tiny"}, "sampling": {"mode": "foreground"}}
    _, second = plan(chain_file(stages=stages, common=common, replay=0.1)).tasks
    assert second.settings.data.weak["toy-boxes"].weight == 0.5
    assert second.data_without_replay.weak == {}
    assert [choice.dataset for choice in second.data_without_replay.chosen] == ["toy-d"]
    assert [choice.replayed for choice in second.settings.data.chosen] == [True, False]
    _, second = plan(chain_file(stages=stages, common=common)).tasks
    assert second.settings.data.weak == {}


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["oncoseg-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, " ".join("".join(capsys.readouterr()).split())


def test_the_program_tells_a_chain_from_a_configuration(monkeypatch, capsys, chain_file):
    for arguments, code, told in (
        (["--help"], 0, "Many datasets, one after the other: oncoseg-train chain --help"),
        (["chain", "--help"], 0, "measure what is forgotten"),
        (["--set", "seed=1", "quickstrat"], 2, "no built-in configuration of that name; did you mean 'quickstart'"),
        (["quickstart", "--set", "seeed=1"], 2, "unknown key 'seeed'; did you mean 'seed'"),
        ([], 2, "Missing argument 'config'"),
        (["chain"], 2, "Missing argument 'chain'"),
        (["chain", "oncoseg-chian"], 2, "no built-in chain of that name; did you mean 'oncoseg-chain'"),
        (["chain", "oncoseg-chain", "--set", "replayy=1"], 2, "unknown key 'replayy'; did you mean 'replay'"),
        (["chain", str(chain_file(data_root=None))], 1, "3 of the 3 datasets of the chain are absent"),
    ):
        found, text = command(monkeypatch, capsys, *arguments)
        assert (found, told in text) == (code, True), text
