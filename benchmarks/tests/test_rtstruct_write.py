"""The comparison with rt-utils at a small size: it runs, and our file is not the larger one by much."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"


def test_both_libraries_are_measured():
    done = subprocess.run(
        [sys.executable, str(PEERS / "rtstruct_write.py"), "--dry"], capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["structures"] == 5
    assert found["oncoseg"].keys() == found["rt_utils"].keys()
    assert found["bytes_ratio"]["median"] < 1.3
