"""A recorded measurement says what it was made with."""

import json

import pytest

from oncoseg_benchmarks.record import record, spread


def test_a_record_holds_command_versions_and_machine(tmp_path):
    path = record("speed", "python speed.py", {"ratio": spread([1.0, 3.0, 2.0])}, tmp_path)
    content = json.loads(path.read_text())
    assert content["command"] == "python speed.py"
    assert content["found"]["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}
    assert content["versions"]["plugins"]["oncoseg-trainer"] == "0.1.0"
    assert content["seconds"] >= 0
    assert content["versions"]["machine"]["cores"] >= 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["speed.json"]


def test_nothing_measured_has_no_median():
    with pytest.raises(ValueError, match="empty|no median"):
        spread([])
