"""What leaves the program: no order to a terminal, JSON that any reader takes, one voice on standard output."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from oncoseg_core import OncoSegError
from oncoseg_core.cli.command_line import run_app
from oncoseg_core.cli.output import cell, reserved_stdout, say, say_json
from oncoseg_core.system.output import json_text, printable, prints_aside

ORDERS = (
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\r",
    "\n",
    "\t",
    "\x9b31m",
    "\x7f",
    "\x08",
    "\u202e",
    "\u2028",
    "\udcff",
    "\x00",
)


@given(st.text(st.characters()) | st.sampled_from(ORDERS))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("two\nlines", r"two\nlines"),
        ("Größe 3 µm …", "Größe 3 µm …"),
        ("\udcff", r"\udcff"),
        (7, "7"),
    ],
)
def test_what_is_shown(text, shown):
    assert printable(text) == shown


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def finite(value):
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def refuse(text):
    raise AssertionError(f"{text} is no JSON")


@given(VALUES, st.sampled_from([None, 1, 2]))
def test_json_is_what_any_reader_takes(value, indent):
    text = json_text(value, indent)
    assert json.loads(text, parse_constant=refuse) == finite(value)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()


def test_numbers_of_numpy_are_numbers():
    assert json_text({"a": (np.float64("nan"), np.float64(0.5))}) == '{"a": [null, 0.5]}'


@pytest.mark.parametrize(
    "name", ["scan[/1]", "GTV [/old]", "[red]m", "[link=http://a.example]x", ":x:", "\\[b]", "a\nb"]
)
def test_a_cell_is_the_text_that_it_is(name, capsys):
    table = Table("case", title=cell(name))
    table.add_row(cell(name))
    Console(width=80).print(table)
    title, *_, row, _ = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    assert title == row == printable(name)


def test_lines_and_documents(capsys):
    say("a\x1b[2J\nb")
    say("warning: \x07", err=True)
    say_json({"name": "\x1b", "score": math.nan})
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == r"a\x1b[2J\nb"
    assert json.loads("\n".join(out.splitlines()[1:])) == {"name": "\x1b", "score": None}
    assert "\x1b" not in out
    assert err == "warning: \\x07\n"


def test_errors_show_names_of_files_without_orders(monkeypatch, capsys):
    def broken(**_):
        raise OncoSegError("\x1b[31mscan\x07.nii.gz: is no image")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit):
        run_app(broken)
    assert capsys.readouterr().err == "error: \\x1b[31mscan\\x07.nii.gz: is no image\n"


def test_prints_are_kept_aside(capsys):
    with prints_aside("plugin loud 1.0"):
        print("one\ntwo\x1b")  # noqa: T201
    assert capsys.readouterr() == ("", "plugin loud 1.0 prints: one\nplugin loud 1.0 prints: two\\x1b\n")


def test_standard_output_is_kept_for_the_answer_from_libraries_and_processes_too():
    program = """
import os, subprocess, sys
from oncoseg_core.cli import reserved_stdout, say_json
with reserved_stdout():
    print("a component")
    os.write(1, b"a library in C\\n")
    subprocess.run([sys.executable, "-c", "print('a process')"], check=True)
say_json({"answer": 1})
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert json.loads(done.stdout) == {"answer": 1}
    assert sorted(done.stderr.splitlines()) == ["a component", "a library in C", "a process"]


def test_standard_output_comes_back_after_an_error(capfd):
    def fail():
        with reserved_stdout():
            raise ValueError

    with pytest.raises(ValueError, match="^$"):
        fail()
    say("here")
    assert capfd.readouterr().out == "here\n"
