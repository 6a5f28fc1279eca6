"""The rules of a command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import typer
from typer.testing import CliRunner

from oncoseg_core import CommandSpec
from oncoseg_testing.checks.rules import require, rule

HEAVY = ("torch", "monai", "SimpleITK", "pydicom")

_PROGRAM = """
import importlib, json, sys
module, _, attribute = sys.argv[1].partition(":")
from typer.testing import CliRunner
CliRunner().invoke(getattr(importlib.import_module(module), attribute), ["--help"])
print(json.dumps(sorted(sys.modules)))
"""


def check_command(spec: CommandSpec) -> None:
    """Check the app behind a command's record: its help, its answer to wrong usage, and what help imports.

    Args:
        spec: the record.

    Raises:
        AssertionError: a rule is broken.
    """
    module_name, _, attribute = spec.factory.partition(":")
    with rule("the factory is a typer.Typer app", spec.factory):
        app = getattr(importlib.import_module(module_name), attribute)
        require(isinstance(app, typer.Typer), type(app).__name__)
    with rule("--help ends with exit code 0 and shows an example", f"{spec.name} --help"):
        outcome = CliRunner().invoke(app, ["--help"])
        right = outcome.exit_code == 0 and "example" in outcome.output.lower()
        require(right, f"exit code {outcome.exit_code}: {outcome.output} {outcome.exception or ''}")
    with rule("an unknown option ends with exit code 2", f"{spec.name} --no-such-option"):
        outcome = CliRunner().invoke(app, ["--no-such-option"])
        require(outcome.exit_code == 2, f"exit code {outcome.exit_code}")
    with rule(f"--help imports none of {', '.join(HEAVY)}", f"{spec.name} --help"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        arguments = [sys.executable, "-c", _PROGRAM, spec.factory]
        child = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
        require(child.returncode == 0, child.stderr)
        imported = json.loads(child.stdout)
        require(not set(HEAVY) & set(imported), f"imported: {', '.join(sorted(set(HEAVY) & set(imported)))}")
