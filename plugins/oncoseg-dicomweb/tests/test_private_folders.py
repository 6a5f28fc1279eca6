"""Private folders of processes that run, ended, or were killed."""

import os
import subprocess
import sys

from oncoseg_dicomweb import PrivateFolders


def test_what_a_killed_process_left_is_deleted_and_what_runs_is_not(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from oncoseg_dicomweb import PrivateFolders\n"
        "private = PrivateFolders(Path(sys.argv[1])); folder = private.make(); (folder / 'patient.dcm').write_bytes(b'x')\n"
        "print(folder, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "p"], stdout=subprocess.PIPE, text=True)
    try:
        left = process.stdout.readline().strip()
        running = PrivateFolders(tmp_path / "p")
        assert os.path.exists(f"{left}/patient.dcm")
        assert os.stat(left).st_mode & 0o777 == 0o700
    finally:
        process.kill()
        process.communicate()
    other = PrivateFolders(tmp_path / "p")
    assert not os.path.exists(left)
    assert running.make().is_dir()
    for private in (running, other):
        private.close()
    assert not list((tmp_path / "p").iterdir())
