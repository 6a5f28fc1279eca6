"""What an adapter has seen is not scored, or every result says so."""

import json

import pytest

from oncoseg_benchmarks.config.settings import load_settings
from oncoseg_benchmarks.scoring.plans import ModelPlan
from oncoseg_benchmarks.scoring.policies import build_policies
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import DataError, DatasetSpec, ModelSpec, load_plugins
from oncoseg_core.imaging.voxel_hash import content_hash
from oncoseg_core.path.settings import PathSettings
from oncoseg_lora.inject import adapt
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.settings import LoraSettings
from oncoseg_lora.store import save_adapter


@pytest.fixture
def adapter(tmp_path, bright):
    """Write an adapter that has seen the first case of a dataset, as one of the named dataset."""

    def write(root, dataset, *, tells=True, scans=1):
        registry = load_plugins()
        reader = registry.build(DatasetSpec, "bench-a", {})
        volume, _ = reader.load(next(iter(reader.discover(root))))
        seen = TrainedOn((dataset,), frozenset([content_hash(volume.voxels, volume.geometry)][:scans]))
        model = adapt(registry.build(ModelSpec, "bright", {}), LoraSettings())
        folder = tmp_path / "adapter"
        paths = {"ct": PathSettings(normalizers={"ct": {"window": [-200, 300]}})}
        save_adapter(model, folder, versions={}, paths=paths, trained_on=seen if tells else None)
        return folder

    return write


@pytest.fixture
def with_adapter(config):
    def write(root, folder, **changes):
        return config(root, models=[{"name": "bright", "adapter": str(folder)}], normalizers={}, **changes)

    return write


def test_a_case_that_the_adapter_has_seen_is_refused(write_cases, adapter, with_adapter, bench):
    root = write_cases("bench-a", [{}, {}])
    path = with_adapter(root, adapter(root, "elsewhere"))
    with pytest.raises(DataError, match=r"bench-a/bench-a-0 is the adapter's training .*leakage=mark"):
        bench(path)
    bench(path, "leakage=mark")  # nothing of the refused run is in the way


def test_marked_leaks_are_in_every_result(write_cases, adapter, with_adapter, bench, tmp_path):
    root = write_cases("bench-a", [{}, {}])
    summary, _ = bench(with_adapter(root, adapter(root, "elsewhere"), leakage="mark"))
    assert [leak["scored"] for leak in summary["leaks"]["bright+adapter"]] == ["bench-a/bench-a-0"]
    rows = [row for row in (tmp_path / "run" / "results.csv").read_text().splitlines() if row.startswith("bright")]
    assert all((",certain," in row) == ("bench-a-0" in row) for row in rows)
    assert "Such scores are no test" in (tmp_path / "run" / "report.html").read_text()
    assert summary["weights"]["bright+adapter"]["adapter_sha256"]


def test_what_was_trained_on_is_in_no_mean_with_the_rest(write_cases, adapter, config, bench, tmp_path):
    """Also of the other models, so that rows of one table are of the same cases."""
    root = write_cases("bench-a", [{} for _ in range(3)])
    models = [{"name": "bright"}, {"name": "bright", "adapter": str(adapter(root, "elsewhere")), "label": "adapted"}]
    summary, _ = bench(config(root, models=models, normalizers={}, leakage="mark", prompts=["gt-box"]))
    whole = [group for group in summary["groups"] if group["by"] == "all"]
    found = {(group["model"], group["leak"]): (group["n_patients"], group["n_leaks"]) for group in whole}
    for model in ("bright", "adapted", "floor:box"):
        assert found[model, None] == (2, 0)
        assert found[model, "certain"] == (1, 2 * (model == "adapted"))  # two targets of the case
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.index("adapted</td>") < page.index("was trained on: no test") < page.index("adapted †</td>")


def test_a_test_between_models_leaves_out_what_one_was_trained_on(write_cases, adapter, config, bench):
    root = write_cases("bench-a", [{"core": ()} for _ in range(4)])
    models = [{"name": "bright"}, {"name": "bright", "adapter": str(adapter(root, "elsewhere")), "label": "adapted"}]
    summary, _ = bench(config(root, models=models, normalizers={}, leakage="mark", prompts=["gt-box"]))
    assert [each["n_patients"] for each in summary["comparisons"]] == [3]


def test_a_declared_overlap_refuses_the_whole_dataset(write_cases, adapter, with_adapter, bench):
    root, other = write_cases("bench-a", [{"seed": 7}]), write_cases("other", [{}])
    path = with_adapter(root, adapter(other, "bench-b"))
    with pytest.raises(DataError, match="declared in the test"):
        bench(path)


@pytest.mark.parametrize("says", [{"tells": False}, {"scans": 0}])
def test_an_adapter_that_does_not_tell_is_refused(says, write_cases, adapter, with_adapter, bench, tmp_path):
    root = write_cases("bench-a", [{}])
    folder = adapter(root, "elsewhere", **says)
    with pytest.raises(DataError, match="does not tell what it was trained on"):
        bench(with_adapter(root, folder))
    summary, _ = bench(with_adapter(root, folder, leakage="mark"), f"output={tmp_path / 'marked'}")
    assert summary["adapters_that_do_not_tell"] == ["bright+adapter"]


def test_an_unseen_case_passes_and_another_modality_is_not_scored(write_cases, adapter, with_adapter, bench, tmp_path):
    root, other = write_cases("bench-a", [{"seed": 7}]), write_cases("other", [{}])
    folder = adapter(other, "elsewhere")
    manifest = json.loads((folder / "oncoseg.json").read_text())
    summary, outcome = bench(with_adapter(root, folder))
    assert outcome.failed == 0
    assert summary["leaks"] == {"bright+adapter": []}
    (folder / "oncoseg.json").write_text(json.dumps({**manifest, "paths": {"mri": manifest["paths"]["ct"]}}))
    summary, _ = bench(with_adapter(root, folder), f"output={tmp_path / 'mri'}")
    assert "the adapter was trained on mri, not on 'ct'" in [skip["reason"] for skip in summary["skipped"]]


def test_an_overlap_with_a_dataset_whose_plugin_is_gone_is_still_a_leak(write_cases, adapter, with_adapter, bench):
    root, other = write_cases("bench-b", [{"seed": 7}]), write_cases("other", [{}])
    folder = adapter(other, "bench-gone")
    with pytest.raises(DataError, match="declared of a dataset that is not installed"):
        bench(with_adapter(root, folder, datasets=[{"name": "bench-b", "root": str(root)}]))


def test_an_image_that_was_changed_after_a_refused_run_is_compared_anew(write_cases, adapter, with_adapter, bench):
    root = write_cases("bench-a", [{}, {"seed": 7}])
    folder = adapter(root, "elsewhere")
    with pytest.raises(DataError, match="bench-a-0 is the adapter's training"):
        bench(with_adapter(root, folder))
    seen, unseen = (root / f"bench-a-{number}.nrrd" for number in (0, 1))
    first, second = seen.read_bytes(), unseen.read_bytes()
    seen.write_bytes(second)
    unseen.write_bytes(first)
    with pytest.raises(DataError, match="bench-a-1 is the adapter's training"):
        bench(with_adapter(root, folder))


def test_a_case_that_could_be_read_only_later_is_compared_before_it_is_scored(
    write_cases, adapter, with_adapter, bench, tmp_path, monkeypatch
):
    from oncoseg_benchmarks.run import run as running

    root = write_cases("bench-a", [{}, {"seed": 7}])
    path = with_adapter(root, adapter(root, "elsewhere"))
    seen = root / "bench-a-0.nrrd"
    content = seen.read_bytes()
    seen.write_bytes(b"not yet copied")
    run = running._score

    def mended(*arguments):  # the file is whole when its turn comes
        seen.write_bytes(content)
        run(*arguments)

    monkeypatch.setattr(running, "_score", mended)
    summary, outcome = bench(path)
    assert outcome.failed == 1
    assert "could not be read when the cases were compared" in summary["failures"][0]["reason"]
    assert summary["failures"][0]["model"] == "bright+adapter"
    assert "bright+adapter,bench-a,bench-a-0" not in (tmp_path / "run" / "results.csv").read_text()
    monkeypatch.undo()
    with pytest.raises(DataError, match="bench-a-0 is the adapter's training"):
        bench(path, resume=True)


@pytest.mark.parametrize(("side", "expected"), [("validation", "suspected"), ("all", "suspected"), ("test", None)])
def test_what_chose_among_the_epochs_is_marked(side, expected, write_cases, adapter, with_adapter, bench, tmp_path):
    root = write_cases("bench-a", [{"split": "validation", "seed": 7}, {"split": "test", "seed": 8}])
    folder = adapter(write_cases("other", [{}]), "elsewhere")
    manifest = json.loads((folder / "oncoseg.json").read_text())
    used = {"dataset": "bench-a", "side": "validation", "used_for": "validation", "n_cases": 1, "n_patients": 1}
    splits = {"sha256": "0" * 64, "how": "official", "sides": [used]}
    (folder / "oncoseg.json").write_text(json.dumps({**manifest, "splits": splits}))
    bench(with_adapter(root, folder, datasets=[{"name": "bench-a", "root": str(root), "side": side}]))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    assert {row["leak"] for row in rows if row["model"] == "bright+adapter"} == {expected}
    assert {row["leak"] for row in rows if row["model"].startswith("floor")} == {None}


@pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
def test_what_an_adapter_was_not_taught_is_not_counted_as_its_score(config, write_cases, tmp_path):
    """The untouched model would answer; its own row has that score."""
    model = adapt(load_plugins().build(ModelSpec, "sam3-tiny", {}), LoraSettings(rank=2, policy="lora"))
    save_adapter(model, tmp_path / "adapter", versions={}, paths={"ct": PathSettings()})
    models = [{"name": "sam3-tiny"}, {"name": "sam3-tiny", "adapter": str(tmp_path / "adapter"), "label": "adapted"}]
    prompts = [{"kind": "gt-box"}, {"kind": "point"}, {"kind": "clicks", "n": 2}]
    settings = load_settings(
        str(config(write_cases("bench-a", [{}]), models=models, prompts=prompts, normalizers={})), []
    )
    registry = load_plugins()
    policies = build_policies(settings.prompts, registry)
    untouched, adapted = (
        [ModelPlan(choice, settings, registry).refusal(policy) for policy in policies] for choice in settings.models
    )
    assert untouched == [None, None, None]
    assert adapted[0] is None
    assert all("LoRA policy 'lora' does not teach prompts of kind 'point'" in reason for reason in adapted[1:])


@pytest.mark.filterwarnings("ignore:SAM3 is built with random weights")
def test_a_tracker_that_an_adapter_was_not_taught_is_not_counted_as_its_score(config, write_cases, tmp_path):
    model = adapt(load_plugins().build(ModelSpec, "sam3-tiny", {}), LoraSettings(rank=2, policy="lora"))
    save_adapter(model, tmp_path / "adapter", versions={}, paths={"ct": PathSettings()})
    root, registry = write_cases("bench-a", [{}]), load_plugins()
    prompts = [{"kind": "gt-box"}, {"kind": "gt-box", "level": "volume"}, {"kind": "text"}]
    refused = {}
    for tracker in ("own", "neighbour"):
        models = [{"name": "sam3-tiny", "adapter": str(tmp_path / "adapter")}]
        changes = {"models": models, "prompts": prompts, "normalizers": {}, "propagation": {"tracker": tracker}}
        settings = load_settings(str(config(root, **changes)), [])
        plan = ModelPlan(settings.models[0], settings, registry)
        refused[tracker] = [plan.refusal(policy) is not None for policy in build_policies(settings.prompts, registry)]
    assert refused == {"own": [False, True, False], "neighbour": [False, False, False]}
