"""``python -m oncoseg_benchmarks.peers`` lists the measurements of the checkout, and runs the one that is named."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from oncoseg_benchmarks.recording import RESULTS
from oncoseg_core.command_line import run_app
from oncoseg_core.errors import UsageError, close_matches

SCRIPTS = RESULTS.parent / "peers"


class Measurement(NamedTuple):
    """A script, what it measures, and whether its result is recorded."""

    path: Path
    summary: str
    recorded: bool


def measurements(scripts: Path = SCRIPTS, results: Path = RESULTS) -> list[Measurement]:
    """All scripts, by name.

    Raises:
        UsageError: there are none: the package is not run from a checkout.
    """
    if not scripts.is_dir():
        raise UsageError(
            f"{scripts}: no such folder; the measurements are in a checkout, installed with pip install -e"
        )
    found = []
    for path in sorted(scripts.glob("*.py")):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        recorded = any(results.glob(f"{path.stem}.json")) or any(results.glob(f"{path.stem}_*.json"))
        found.append(Measurement(path, words.partition("\n")[0], recorded))
    return found


def start(arguments: Sequence[str]) -> int:
    """List the measurements, or run the one that is named; its exit code.

    Raises:
        UsageError: there is none of that name.
    """
    known = {each.path.stem: each for each in measurements()}
    if not arguments or arguments[0] in {"-h", "--help"}:
        for name, each in known.items():
            print(f"{name:24} {'recorded' if each.recorded else '-':9} {each.summary}")  # noqa: T201 - the answer
        print("\npython -m oncoseg_benchmarks.peers NAME [ARGUMENTS] runs one; results go to benchmarks/results.")  # noqa: T201
        return 0
    name, *own = arguments
    if name not in known:
        raise UsageError(f"no measurement {name!r}{close_matches(name, known)}")
    return subprocess.run([sys.executable, str(known[name].path), *own], check=False).returncode


def _app(args: Sequence[str], *, standalone_mode: bool) -> int:  # as run_app calls an app
    del standalone_mode
    return start(args)


if __name__ == "__main__":
    run_app(_app)
