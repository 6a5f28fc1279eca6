"""A few rounds of what ``benchmarks/peers`` does a hundred times: kill and resume, two hosts of which one is cut off."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[1] / "peers"


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_runs_end_as_undisturbed_ones():
    done = subprocess.run(
        [sys.executable, str(PEERS / "kill_and_resume.py"), "--kills", "3", "--dry"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("'damaged_checkpoints': 0") >= 2


@pytest.fixture
def two_hosts(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS))
    module = importlib.import_module("two_hosts")
    if reason := module.why_not():
        pytest.skip(reason)
    with module.network():
        yield module


def test_a_run_whose_cable_is_pulled_goes_on_alone(two_hosts, tmp_path):
    """Both sides find out by themselves; the first goes on, and nothing hangs."""
    lab = two_hosts.Lab(tmp_path, short=True)
    found = two_hosts.alone(lab, None)
    assert found["exit_codes"]["a"] == 0
    assert len(found["it_said"]) == 3
    assert sum("was lost (no answer for 3 s" in line for line in found["it_said"]) == 2
    assert "training.accumulation is 2" in found["it_said"][0]
