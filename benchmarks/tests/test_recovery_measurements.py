"""A few rounds of what ``benchmarks/peers`` does a hundred times: kill and resume."""

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
