"""A wrong configuration is refused before a folder is begun, in words that say what to do."""

import subprocess
import sys

import pytest
import yaml

from oncoseg_benchmarks.config.settings import load_settings
from oncoseg_benchmarks.scoring.automatic import plan_subjects
from oncoseg_benchmarks.scoring.plans import ModelPlan
from oncoseg_core import ModelSpec, OncoSegError, load_plugins
from oncoseg_core.path import PathSettings
from oncoseg_lora import LoraSettings, adapt, save_adapter


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": {"nsd": {}}}, r"statistics.metric, 'dice', which is not among the metrics \(nsd\): add it, or"),
        ({"prompts": [{"kind": "gt-box", "margin": 2}]}, "unknown key 'prompts.0.gt-box.margin'; .*'margin_px'.$"),
        ({"normalizers": {"ctt": {}}}, "unknown normalizer 'ctt'; did you mean 'ct'"),
        ({"normalizers": {"mri": {}}}, "normalizers.mri: no case here is of that modality; known: ct"),
        ({"normalizers": {"ct": {"windows": [0, 1]}}}, "settings of normalizer 'ct': unknown key 'windows'"),
        (
            {"prompts": [{"kind": "text", "absent": ["screwdriver", "tumour"]}]},
            "prompts: 'tumour' is called absent, and dataset 'bench-a' has the target 'tumour'; a concept is absent",
        ),
        ({"channels": {"mri": [0]}}, "channels.mri: no case here is of that modality; known: ct"),
    ],
)
def test_it_is_told_early(change, said, config, write_cases, bench, tmp_path):
    with pytest.raises(OncoSegError, match=said):
        bench(config(write_cases("bench-a", [{}]), **change))
    assert not (tmp_path / "run").exists()


def test_a_split_of_which_no_side_is_chosen_is_refused(config, write_cases, bench):
    root = write_cases("bench-a", [{"split": "test"}])
    dataset = {"name": "bench-a", "root": str(root), "split": {"how": "official"}}
    with pytest.raises(OncoSegError, match="dataset 'bench-a' has a split but no side.* add side: test"):
        bench(config(root, datasets=[dataset]))


def test_a_dataset_without_a_folder_is_told_by_its_name(config, bench):
    with pytest.raises(OncoSegError, match=r"dataset 'bench-a' cannot be downloaded .* root of the dataset"):
        bench(config("unused", datasets=[{"name": "bench-a"}]))


def test_what_was_left_out_is_told_when_nothing_is_left(config, bench):
    gone = [{"name": "bench-a", "root": "nosuch", "optional": True}]
    with pytest.raises(OncoSegError, match=r"\(bench-a: the dataset, nosuch: no such folder\); give folders"):
        bench(config("unused", datasets=gone))


def test_what_is_not_scored_is_told_on_the_terminal(config, write_cases, tmp_path):
    root = write_cases("bench-a", [{"core": ()}, {"core": ()}, {}])
    path = config(root, models=[{"name": "bright-boxes"}], prompts=["gt-box", "text"])
    done = subprocess.run([sys.executable, "-m", "oncoseg_benchmarks", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    prompt, targets = [line for line in lines if line.startswith("not scored: ")]
    assert prompt.endswith(
        "bright-boxes text (slice): model 'bright-boxes' takes prompts of kind box, point, not 'text'"
    )
    assert "bright-boxes bench-a bench-a-0 core and 1 more: not in this case: there is nothing to point at" in targets
    assert lines[-1] == f"Results: {tmp_path / 'run'}, to be read: {tmp_path / 'run' / 'report.html'}"


def test_the_configuration_that_a_run_wrote_down_is_one(config, write_cases, bench, tmp_path):
    """Whoever takes it out of ``summary.json`` to run it again has everything in it that was left to a default."""
    summary, _ = bench(config(write_cases("bench-a", [{}])))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump({**summary["config"], "output": str(tmp_path / "again")}))
    assert bench(again)[0]["groups"] == summary["groups"]


def test_an_adapter_is_scored_with_the_fit_that_it_was_trained_with(config, bright, bench, tmp_path):
    registry = load_plugins()
    folder = tmp_path / "adapter"
    adapted = adapt(registry.build(ModelSpec, "bright", {}), LoraSettings())
    save_adapter(adapted, folder, versions={}, paths={"ct": PathSettings(fit="stretch")})

    def choice(**values):
        models = [{"name": "bright", "label": "own", "adapter": str(folder), **values}, {"name": "bright"}]
        return load_settings(str(config("unused", models=models, normalizers={}, leakage="mark")), [])

    for given in ({}, {"fit": "stretch"}):
        plans = plan_subjects(choice(**given), registry)
        assert [plan.fit for plan in plans if isinstance(plan, ModelPlan)] == ["stretch", "letterbox"]
        labels = [plan.label for plan in plans if plan.label.startswith("ceiling:logits")]
        assert len(labels) == 2  # one for each of the two ways
        assert labels[0] == f"{labels[1]}+stretch"
    with pytest.raises(OncoSegError, match="own was trained with fit stretch, not letterbox: leave its fit out"):
        plan_subjects(choice(fit="letterbox"), registry)
