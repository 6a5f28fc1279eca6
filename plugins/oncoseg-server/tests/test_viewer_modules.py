"""The viewer's modules that need no viewer, by their own tests (vitest), where node is."""

import os
import shutil
import subprocess
from pathlib import Path

from node_tools import node_modules

ROOT = Path(__file__).parents[1]


def test_the_modules_own_tests_pass(tmp_path):
    tools = node_modules(ROOT / "viewer")
    shutil.copytree(ROOT / "viewer" / "tests", tmp_path / "viewer" / "tests")
    shutil.copy(ROOT / "viewer" / "package.json", tmp_path / "viewer")
    modules = Path("src") / "oncoseg_server" / "viewer" / "modules"
    shutil.copytree(ROOT / modules, tmp_path / modules)
    (tmp_path / "viewer" / "node_modules").symlink_to(tools)
    command = [tools / ".bin" / "vitest", "run", "--no-color"]
    done = subprocess.run(
        command, cwd=tmp_path / "viewer", capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "CI": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "8 passed" in done.stdout
