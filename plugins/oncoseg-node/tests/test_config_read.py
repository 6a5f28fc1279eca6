"""The node's YAML file: what is wrong with it is named, key by key, before anything starts."""

from pathlib import Path

import pytest
import yaml

from oncoseg_core import ConfigError
from oncoseg_node.config.read import read_settings

RULE = {"name": "thorax", "when": {"Modality": {"equals": "CT"}}, "protocol": "thorax", "models": ["thresholds"]}
SETTINGS = {
    "data": "node-data",
    "receive": {"dicom": {}},
    "rules": [RULE],
    "models": {"thresholds": {"model": "ct-thresholds"}},
}


def read(folder: Path, **changes):
    file = folder / "node.yaml"
    file.write_text(yaml.safe_dump(SETTINGS | changes))
    return read_settings(file)


def ruled(folder: Path, **changes):
    return read(folder, rules=[RULE | changes])


def test_a_small_file_is_read(tmp_path):
    settings = read(tmp_path)
    assert settings.rules[0].when["Modality"].equals == "CT"
    assert settings.receive.dicom.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"SeriesDescripton": {"equals": "x"}}, "did you mean SeriesDescription"),
        ({"PixelData": {"absent": False}}, "'PixelData' has no value that can be compared"),
        ({"ContrastBolusAgentSequence": {"equals": "x"}}, "is a sequence, or bytes"),
        ({"KVP": {"equals": "120"}}, "`when.KVP` is a number and compared with '120'"),
        ({"KVP": {"matches": "1.0"}}, "`when.KVP` is a number; `matches` is for text"),
        ({"SeriesDescription": {"any_of": ["a", 5]}}, "is text and compared with the number 5"),
        ({"SeriesDescription": {"at_least": 5}}, "`at_least` and `at_most` are for numbers"),
        ({"SliceThickness": {"at_least": 5, "at_most": 1}}, "the least, 5, is more than the most, 1"),
        ({"SeriesDescription": {"matches": "thorax("}}, "`when.SeriesDescription`: `matches` is no regular expression"),
        ({"SeriesDescription": {"matches": "a" * 501}}, "`matches` has 501 characters"),
        ({"SeriesDescription": {"any_of": []}}, "`any_of` is empty"),
        ({"SeriesDescription": {"absent": True, "equals": "x"}}, "`absent: true` stands alone"),
    ],
)
def test_conditions_that_cannot_be_meant_name_their_field(tmp_path, when, message):
    with pytest.raises(ConfigError) as caught:
        ruled(tmp_path, when=when)
    assert message in str(caught.value)
    assert "rule 'thorax'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ["threshold"]}, "names 'threshold', and there is no such model; did you mean 'thresholds'?"),
        ({"destinations": ["pacs"]}, "`destinations` names 'pacs', and there is no such destination"),
        ({"require": {"slices": [20, 10]}}, "`require.slices`: the least, 20"),
        ({"require": {"spacing_mm": [5, 1]}}, "`require.spacing_mm`: the least, 5"),
        ({"require": {"kernel": {"at_least": 30}}}, "`require.kernel` is text"),
        ({"require": {"body_part": {"matches": "["}}}, "`require.body_part`: `matches` is no regular"),
    ],
)
def test_what_a_rule_names_must_be_there(tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        ruled(tmp_path, **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("receive", "message"),
    [
        ({}, "nothing would ever arrive"),
        ({"dicom": {"host": "0.0.0.0"}}, "names nobody: only this machine could send"),
        ({"dicom": {"allowed": [{"address": "pacs.local"}]}}, "`receive.dicom.allowed.0.address` is 'pacs.local'"),
        ({"web": {"host": "10.0.0.1"}}, "`token_file` and `tls` are needed"),
    ],
)
def test_doors_that_cannot_work_or_stand_open_are_refused(tmp_path, receive, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, receive=receive)
    assert message in str(caught.value)


def test_two_rules_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="'thorax' is there 2 times"):
        read(tmp_path, rules=[RULE, RULE])


def test_doors_for_others_are_taken(tmp_path):
    peer = {"ae_title": "CT1", "address": "10.1.0.0/16"}
    assert read(tmp_path, receive={"dicom": {"host": "0.0.0.0", "allowed": [peer]}}).receive.dicom.allowed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quiet_seconds": float("inf")}, "quiet_seconds = inf: input should be a finite number"),
        ({"keep": {"images_days": float("nan")}}, "keep.images_days = nan"),
        ({"work": {"devices": ["gpu0"]}}, "expected cpu, cuda, or cuda:0 and so on"),
        ({"receive": {"dicom": {"ae_title": "   "}}}, "receive.dicom.ae_title"),
        ({"data": "~/node"}, "`data` is ~/node; write the whole path"),
        ({"destinations": {"drop": {"kind": "folder", "path": "x", "formats": []}}}, "formats = []"),
    ],
)
def test_values_that_would_only_fail_at_work_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://u:secret@pacs/x", "http://pacs/x?token=secret", "pacs"])
def test_a_url_that_is_none_or_holds_a_password_is_refused_and_not_repeated(tmp_path, url):
    with pytest.raises(ConfigError, match=r"`destinations\.pacs\.url`: expected http://") as caught:
        read(tmp_path, destinations={"pacs": {"kind": "dicomweb", "url": url}})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8042/dicom-web", "https://pacs.example", "https://[::1]:8043/a/"])
def test_urls_of_dicomweb_are_taken(tmp_path, url):
    assert read(tmp_path, destinations={"pacs": {"kind": "dicomweb", "url": url}}).destinations["pacs"].url == url
