"""Automatic models in a benchmark: scored by the targets' names, without a prompt and without floors that need one."""

import pytest

from oncoseg_benchmarks.run.verify import verify
from oncoseg_benchmarks.table.results import read_table
from oncoseg_core import ConfigError, load_plugins

AUTO = {"name": "bright-auto", "structures": {"tumour": "bright", "core": "bright"}}


@pytest.fixture
def auto_config(config, write_cases):
    root = write_cases("bench-a", [{"split": "train"}, {"split": "test"}, {"split": "test"}])

    def write(model=AUTO, **changes):
        dataset = {"name": "bench-a", "root": str(root), "side": "test"}
        return config(
            root, **{"models": [model], "datasets": [dataset], "prompts": ["none"], "normalizers": {}, **changes}
        )

    return write


def test_it_is_scored_by_the_names_of_the_targets(auto_config, bench, tmp_path):
    summary, outcome = bench(auto_config())
    assert (outcome.failed, outcome.missing) == (0, 0)
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    assert {row["model"] for row in rows} == {"bright-auto", "floor:nothing"}
    own = [row for row in rows if row["model"] == "bright-auto"]
    assert [(row["target"], row["prompt"], row["level"], row["side"]) for row in own] == [
        (target, "none", "volume", "test") for _ in range(2) for target in ("core", "tumour")
    ]
    assert all(row["dice"] == 1 for row in own if row["target"] == "tumour")
    assert all(0 < row["dice"] < 0.9 for row in own if row["target"] == "core")
    assert summary["n_cases"] == 2
    weights = summary["weights"]["bright-auto"]
    assert weights["weights_sha256"] == "1" * 64
    assert weights["version"] == "oncoseg-bright 1.0"
    assert weights["structures"] == AUTO["structures"]
    assert summary["licences"]["bright-auto"]["weights"] == "Free too"
    assert verify(tmp_path / "run", load_plugins(), lambda *_: None).mismatches == []


def test_beside_a_model_that_takes_words(auto_config, bench, tmp_path):
    summary, _ = bench(auto_config(models=[AUTO, {"name": "bright"}], prompts=["none", "gt-box"]))
    rows, _ = read_table(tmp_path / "run" / "results.csv")
    assert {(row["model"], row["prompt"]) for row in rows} >= {
        ("bright-auto", "none"),
        ("bright", "none"),
        ("bright", "gt-box"),
    }
    assert ("bright-auto", "gt-box") not in {(row["model"], row["prompt"]) for row in rows}
    assert any("takes no prompts" in skip["reason"] for skip in summary["skipped"] if skip["model"] == "bright-auto")


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ({"name": "bright-auto"}, {}, "has no structure for the targets core, tumour: .*it makes bright, dark"),
        ({**AUTO, "structures": {"tumor": "bright"}}, {}, "no target 'tumor'; did you mean 'tumour'"),
        ({**AUTO, "structures": {"tumour": "brigt"}}, {}, "makes no 'brigt'; did you mean 'bright'"),
        ({**AUTO, "zoom": {}}, {}, "is an automatic model, which has no zoom"),
        ({"name": "bright", "structures": {"tumour": "x"}}, {}, "takes prompts; structures are of automatic models"),
        (AUTO, {"prompts": ["gt-box"]}, "no model takes any of the prompts: it is an automatic model"),
        (AUTO, {"normalizers": {"ct": {}}}, "gets calibrated values; leave normalizers and channels out"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_scored(model, changes, message, auto_config, bench, tmp_path):
    with pytest.raises(ConfigError, match=message):
        bench(auto_config(model, **changes))
    assert not (tmp_path / "run").exists()
