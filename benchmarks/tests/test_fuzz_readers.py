"""A few hundred mutants, always the same: every reader gives an image or one line."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[1] / "peers"


def test_mutants_are_read_or_refused_in_one_line():
    done = subprocess.run(
        [sys.executable, str(PEERS / "fuzz_readers.py"), "--dry", "--mutants", "250"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == 250
    assert found["read"] > 20
    assert found["findings"] == []
    assert {name.partition("-")[0] for name in found["seeds"]} == {
        "adapter",
        "archive",
        "dicom",
        "image",
        "masks",
        "store",
    }
