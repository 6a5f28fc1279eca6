"""What the node would do with the series of a folder, said before anything is sent."""

import json

import pytest
import yaml
from node_parts import ct_series
from typer.testing import CliRunner

from oncoseg_core.cli.app import app

CONFIG = {
    "data": "unused",
    "receive": {"dicom": {}},
    "rules": [
        {
            "name": "head",
            "when": {"Modality": {"equals": "CT"}, "BodyPartExamined": {"equals": "HEAD"}},
            "protocol": "head-neck",
            "models": ["thresholds"],
        },
        {
            "name": "thorax",
            "when": {"Modality": {"equals": "CT"}, "PatientID": {"absent": False}},
            "require": {"slices": [10, 100]},
            "protocol": "thorax",
            "models": ["thresholds"],
            "destinations": ["drop"],
            "off_peak": True,
        },
    ],
    "models": {"thresholds": {"model": "ct-thresholds"}},
    "destinations": {"drop": {"kind": "folder", "path": "out"}},
}


@pytest.fixture
def node(tmp_path):
    config = tmp_path / "node.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    study = tmp_path / "study"
    ct_series(study / "good")
    ct_series(study / "short", 4)
    return config, study


def run(*arguments):
    return CliRunner().invoke(app, ["node", "explain", *map(str, arguments)])


def test_every_series_every_rule_and_what_would_happen(node):
    config, study = node
    before = sorted(study.rglob("*"))
    done = run(study, "--config", config)
    assert done.exit_code == 0, done.output
    assert "series 1: 12 files: slices 12, spacing_mm 3, Modality CT" in done.stdout
    assert "rule head: does not fit" in done.stdout
    assert "NO  BodyPartExamined is CHEST; expected equal to 'HEAD'" in done.stdout
    assert "rule thorax: fits (taken)" in done.stdout
    assert (
        "would be contoured: protocol thorax, structures all, by thresholds (ct-thresholds), sent to drop, off-peak"
        in done.stdout
    )
    assert "refused: too-few-slices: the series has 4 slices; expected 10 or more" in done.stdout
    assert "would not be contoured" in done.stdout
    assert sorted(study.rglob("*")) == before
    assert not (config.parent / "unused").exists()


def test_no_patient_is_named(node):
    config, study = node
    for option in ([], ["--json"]):
        done = run(study, "--config", config, *option)
        assert "PHANTOM" not in done.output
        assert "Nobody" not in done.output
        assert "(not shown)" in done.output


def test_json_has_all_of_it(node):
    config, study = node
    good, short = json.loads(run(study, "--config", config, "--json").stdout)["series"]
    assert good["contoured"]
    assert good["then"]["destinations"] == ["drop"]
    assert [rule["fits"] for rule in good["rules"]] == [False, True]
    assert (short["contoured"], short["then"], short["rule"]) == (False, None, "thorax")
    assert short["refusals"][0]["kind"] == "too-few-slices"


def test_none_that_would_be_contoured_is_exit_code_1(node):
    config, study = node
    assert run(study / "short", "--config", config).exit_code == 1


def test_folders_without_a_series_are_named(node, tmp_path):
    config, _ = node
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / "empty", "--config", config)
    assert done.exit_code == 1
    assert "holds no DICOM file" in str(done.exception)
    assert "no such folder" in str(run(tmp_path / "none", "--config", config).exception)
