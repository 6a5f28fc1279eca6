"""Commands in processes of their own that need not load torch again: each is forked from one that has.

The libraries that are loaded beforehand are other people's only; what OncoSeg imports, and in which order, every command
still does by itself. Tests about loading, threads and signals start a fresh interpreter instead.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path

LIBRARIES = ("torch", "numpy", "scipy.ndimage", "SimpleITK", "nibabel", "pydicom", "pydantic", "typer")
CAN_FORK = hasattr(os, "fork")


def run_forked(program, arguments, *, environment, cwd=None, timeout=120):
    """Run ``main()`` of a module as ``python -m`` would, with its output captured: as :func:`subprocess.run` answers."""
    arguments = [str(argument) for argument in arguments]
    if not CAN_FORK:
        code = f"from {program} import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True, text=True, timeout=timeout, env=environment, cwd=cwd, check=False,
        )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "program": program, "arguments": arguments, "environment": dict(environment), "cwd": str(cwd or Path.cwd()),
            "folder": folder, "timeout": timeout,
        }  # fmt: skip
        code = _origin(environment.get("PYTHONPATH")).ask(request)
        written = [(Path(folder) / name).read_text() for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess([program, *arguments], code, *written)


class _Origin:
    """The process that the commands are forked from."""

    def __init__(self, python_path):
        path = {} if python_path is None else {"PYTHONPATH": python_path}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **path},
        )  # fmt: skip
        atexit.register(self.process.kill)

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@cache
def _origin(python_path):
    return _Origin(python_path)


def _serve():
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request):
    """Be the command, as if the interpreter had just started; never return."""
    signal.alarm(request["timeout"])  # ends the process if the command hangs
    code = 1
    try:
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        for descriptor, name in enumerate((os.devnull, "stdout", "stderr")):
            opened = os.open(Path(request["folder"]) / name, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.argv = ["-c", *request["arguments"]]
        importlib.import_module(request["program"]).main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter reports it
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
