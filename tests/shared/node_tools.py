"""Programs of the npm registry for tests, by a lock file: installed once into the user's cache, offline afterwards."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from oncoseg_core.system import cache_directory


def node_modules(folder):
    """The installed ``node_modules`` of a folder's ``package-lock.json``; skips where they cannot be had."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    files = [Path(folder) / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    target = cache_directory() / "test-tools" / digest
    if not (target / "node_modules").is_dir():
        work = target.with_name(f".{digest}-{os.getpid()}")
        work.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, work)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=180, check=False)
        if done.returncode:
            shutil.rmtree(work)
            pytest.skip(f"npm cannot install {files[0].parent.name}'s tools: {done.stderr.strip()[:200]}")
        if target.exists():
            shutil.rmtree(work)
        else:
            work.rename(target)
    return target / "node_modules"
