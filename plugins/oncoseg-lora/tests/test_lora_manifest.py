"""What the record beside an adapter says, what it refuses, and that older ones still load."""

import hashlib
import json

import pytest

from oncoseg_core import WeightsError
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.manifest import AdapterManifest, check_files, read_checked, read_manifest, read_trained_on

SEEN = TrainedOn(("samples",), frozenset({"a" * 64}))
FILES = {
    "adapter_model.safetensors": b"weights",
    "adapter_config.json": b"{}",
    "trained_on.txt": SEEN.encode(),
}
FIRST = {  # as the first version wrote it
    "model": "toy",
    "base_weights_sha256": "random:0",
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.1, "policy": "lora"},
    "paths": {"ct": {"normalizers": {}, "channels": None}},
    "datasets": ["samples"],
    "versions": {"oncoseg-core": "0.1.0"},
    "files": {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
}
SUMMARY = {"mean": 0.5, "std": None, "n_cases": 1}
ROW = {
    "metric": "dice",
    "unit": "1",
    "better": "higher",
    "dataset": "samples",
    "target": "lung tumour",
    "split": "test",
    "prompt": "box",
    "n_cases": 1,
    "before": SUMMARY,
    "after": SUMMARY,
}
SIDE = {"dataset": "samples", "side": "test", "used_for": "scoring", "n_cases": 1, "n_patients": 1}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "oncoseg.json").write_text(json.dumps(FIRST))
    return tmp_path


def write(folder, **changes):
    (folder / "oncoseg.json").write_text(json.dumps({**FIRST, **changes}))


def test_a_record_of_the_first_version_is_read(folder):
    manifest = check_files(folder)
    assert (manifest.splits, manifest.metrics, manifest.leakage) == (None, (), None)
    assert read_trained_on(folder) == SEEN


def test_what_is_written_is_read(folder):
    splits = {"sha256": "b" * 64, "how": "made", "sides": [SIDE]}
    write(folder, splits=splits, metrics=[ROW], leakage={"n_certain": 0, "n_suspected": 2})
    manifest = read_manifest(folder)
    assert AdapterManifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.metrics[0].after.mean == 0.5
    assert manifest.splits.sides[0].n_patients == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_any_place_is_no_json(folder, value):
    write(folder, metrics=[{**ROW, "prompt_settings": {"margin": value}}])
    with pytest.raises(
        WeightsError, match=r"oncoseg\.json: is not the record of an adapter: holds (NaN|Infinity), which is no"
    ):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"author": "me"}, "author"),
        ({"metrics": [{**ROW, "extra": 1}]}, "metrics.0.extra"),
        ({"metrics": [{**ROW, "after": {**SUMMARY, "mean": "NaN"}}]}, "metrics.0.after.mean"),
        ({"metrics": [{**ROW, "n_cases": -1}]}, "metrics.0.n_cases"),
        ({"splits": {"sha256": "short", "how": "made", "sides": []}}, "splits.sha256"),
        ({"files": {"../outside.txt": "a" * 64}}, "files"),
        ({"files": {"payload.py": "a" * 64}}, "files"),
        ({"files": {"adapter_model.safetensors": "x"}}, "files"),
    ],
)
def test_what_is_unknown_or_wrong_is_named(folder, changes, where):
    write(folder, **changes)
    with pytest.raises(WeightsError, match=rf"oncoseg\.json: is not the record of an adapter: {where}"):
        read_manifest(folder)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_checked(folder, name):
    (folder / name).write_bytes(b"altered")
    with pytest.raises(WeightsError, match=f"{name}: SHA-256 is .* altered"):
        check_files(folder)
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=f"{name}: No such file"):
        check_files(folder)


def test_a_file_that_the_record_does_not_name_is_no_part_of_the_adapter(folder):
    files = {name: digest for name, digest in FIRST["files"].items() if name != "trained_on.txt"}
    write(folder, files=files)
    with pytest.raises(WeightsError, match=r"trained_on\.txt: SHA-256 is .*, oncoseg\.json says None"):
        read_checked(folder, "trained_on.txt", read_manifest(folder))
    with pytest.raises(WeightsError, match=r"trained_on\.txt"):
        check_files(folder)  # it names datasets, so it owes the list
    write(folder, files=files, datasets=None)
    check_files(folder)
