"""``oncoseg structures``, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from oncoseg_core import OncoSegError
from oncoseg_structures.cli.structures_command import app


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, standalone_mode=False)


def test_right_names_exit_with_0_and_wrong_ones_with_1():
    right = _run("check", "Parotid_L", "PTV_7000")
    assert (right.exit_code, right.output.splitlines()) == (0, ["Parotid_L: primary", "PTV_7000: target"])
    wrong = CliRunner().invoke(app, ["check", "Parotid_L", "Lt Parotid", "Qwxyz"])
    assert wrong.exit_code == 1
    lines = wrong.output.splitlines()
    assert lines[1].startswith("Lt Parotid: characters: it has a space")
    assert "nearest: Parotid_L" in lines[1]
    assert lines[2].endswith("; no name is near")


def test_names_of_a_file_and_of_a_protocol(tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_text("# our names\nLiver\n\n  Lung_L  \n", encoding="utf-8")
    assert _run("check", "--file", str(file)).output.splitlines() == ["Liver: primary", "Lung_L: primary"]
    assert len(_run("check", "--protocol", "head-neck").output.splitlines()) == 40


def test_json_is_one_document():
    found = json.loads(CliRunner().invoke(app, ["check", "parotid_l", "--json"]).output)
    assert [(one["problem"], one["nearest"][0]) for one in found] == [("case", "Parotid_L")]
    assert len(json.loads(_run("list", "--names", "--json").output)) == 693
    assert len(json.loads(_run("list", "--json").output)) == 6
    assert json.loads(_run("list", "--protocol", "thorax", "--json").output)["name"] == "thorax"


def test_lists():
    assert [line.split()[0] for line in _run("list").output.splitlines()][:2] == ["abdomen", "breast"]
    assert "A_LAD" in _run("list", "--names").output
    lines = _run("list", "--protocol", "head-neck").output.splitlines()
    assert len(lines) == 41
    assert lines[0] == "head-neck: Head and neck (CT; body part HEAD or NECK or HEADNECK)"
    assert any(line.startswith("Parotid_L") and "left" in line and "mL" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check",), "no names to check"),
        (("check", "--file", "nowhere.txt"), "nowhere.txt: No such file or directory"),
        (("check", "--protocol", "neck"), "neck: no such file, and no built-in protocol"),
        (("list", "--names", "--protocol", "thorax"), "give one of them"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], message: str):
    error = _run(*arguments).exception
    assert isinstance(error, OncoSegError)
    assert message in str(error)
    assert "\n" not in str(error)


def test_a_file_that_is_no_text(tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in str(_run("check", "--file", str(file)).exception)


def test_help_reads_no_table_and_loads_nothing_heavy():
    code = (
        "import sys; from oncoseg_structures.cli.structures_command import app\n"
        "print(*sorted({'numpy', 'scipy', 'pydantic', 'yaml', 'torch'} & sys.modules.keys()))\n"
        "print('oncoseg_structures.names.table' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "numpy" not in out[0]
    assert "scipy" not in out[0]
    assert "torch" not in out[0]
    assert out[1] == "False"
