"""The measurement of passes over a series at a small size: it runs, and one pass is counted."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"


def test_one_pass_is_counted():
    done = subprocess.run(
        [sys.executable, str(PEERS / "series_once.py"), "--dry"], capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads(done.stdout)["after"]
    once = {"recognitions": 1, "header passes": 1}
    assert after["passes"] == {"rtstruct": once, "rtstruct and seg": once}
    seconds = after["seconds"]
    assert seconds["series_and_export"]["median"] < seconds["whole_export"]["median"]
