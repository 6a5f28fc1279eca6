"""The table and the lines of a run under way."""

import io
import math
import os
import re
import subprocess
import sys
import textwrap

import pytest
from rich.console import Console
from rich.live import Live

from oncoseg_trainer.reporting.progress_table import Figures, PlainView, Step, TableView, _duration
from oncoseg_trainer.reporting.terminal import Terminal, _bars


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def row(case, target, dice, **more):
    return {"case": case, "target": target, "dice": dice, "per_slice": {"dice": []}, **more}


VALUES = {"loss": 0.7, "dice": 0.4, "focal": 0.3, "lr": 1e-4, "grad_norm": 1.25}


def test_every_figure_is_there():
    figures = Figures(total=1000, per_epoch=100)
    for number in range(1, 251):
        figures.step(number, Step(VALUES, samples=16, seconds=2.0, waited=0.5))
    figures.scored(200, [row("a", "whole tumour", 0.9), row("b", "whole tumour", 0.7), row("b", "tumour core", None)])
    told = dict(figures.rows())
    assert told["step"] == "step 250 of 1,000, epoch 3 of 10, 0:25:00 to go"
    assert told["loss (last 50)"] == "0.7000 = dice 0.4000 + focal 0.3000"
    assert told["Dice"] == "whole tumour 0.800 (after step 200)"
    assert told["pace"] == "8.0 images/s, data wait 25%, learning rate 0.0001, gradient norm 1.25"
    assert re.search(r"\d GB", told["memory"])
    assert figures.line() == (
        "step 250 of 1,000, epoch 3 of 10, loss 0.7000 = dice 0.4000 + focal 0.3000, Dice whole tumour 0.800, "
        "learning rate 0.0001, gradient norm 1.25, 8.0 images/s, data wait 25%, 0:25:00 to go"
    )


def test_odd_figures_are_told_too():
    figures = Figures(total=10, per_epoch=3)
    assert dict(figures.rows())["step"] == "step 0 of 10, epoch 1 of 4, unknown time to go"
    figures.step(1, Step({"loss": math.nan, "dice": math.nan, "skipped": 2}, samples=1, seconds=0.0, waited=0.0))
    figures.scored(0, [row("a", f"organ {i}", i / 104, dataset="d") for i in range(104)])
    told = dict(figures.rows())
    assert told["loss"] == "nan = dice nan"
    assert told["Dice"] == "0.495, mean of 104 targets (after step 0)"
    assert told["pace"] == "steps skipped 2"
    figures.scored(3, [row("a", "t", None)])
    assert dict(figures.rows())["Dice"] == "not defined for any case (after step 3)"
    figures.scored(3, [])
    assert dict(figures.rows())["Dice"] == "not defined for any case (after step 3)"
    other = Figures(total=10, per_epoch=3)
    other.scored(0, [{"case": "a", "target": "t", "nsd": 0.5, "per_slice": {"nsd": []}}])
    assert dict(other.rows())["nsd"] == "t 0.500 (after step 0)"
    assert [_duration(s) for s in (0.4, 59.6, 3 * 86_400 + 3661)] == ["0:00:00", "0:01:00", "3 d 1:01:01"]


def test_lines_come_every_half_minute_and_at_the_end():
    clock, said = Clock(), []
    view = PlainView(Figures(100, 10), said.append, clock)
    for number in range(1, 101):
        clock.now += 1.0
        view.step(number, VALUES, samples=1, seconds=1.0, waited=0.0)
    assert [re.match(r"step (\d+)", line) and line.split()[1] for line in said] == ["30", "60", "90", None]
    assert said[-1] == "training: done"


def table(clock, columns=100):
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    live = Live(console=console, auto_refresh=False)
    return TableView(Figures(1000, 100), live, _bars(console), clock), live


def test_the_table_is_drawn_four_times_a_second_at_most(monkeypatch):
    clock = Clock()
    view, live = table(clock)
    drawn = []
    monkeypatch.setattr(live, "update", lambda *_, **__: drawn.append(clock.now))
    for number in range(1, 1001):
        clock.now += 0.01
        view.step(number, VALUES, samples=1, seconds=0.01, waited=0.0)
    assert len(drawn) == 40


def test_a_table_that_takes_long_to_draw_is_drawn_less_often(monkeypatch):
    clock = Clock()
    view, live = table(clock)
    drawn = []

    def slowly(*_, **__):
        clock.now += 0.1
        drawn.append(clock.now)

    monkeypatch.setattr(live, "update", slowly)
    for number in range(1, 901):
        clock.now += 0.1
        view.step(number, VALUES, samples=1, seconds=0.1, waited=0.0)
    assert sum(0.1 for _ in drawn) < 0.01 * (clock.now - 100)


@pytest.mark.parametrize("columns", [20, 44, 200])
def test_it_fits_the_terminal(columns):
    view, live = table(Clock(), columns)
    with live:
        view.step(1, VALUES, samples=1, seconds=0.01, waited=0.0)
        view.scored(1, [row("a", "enhancing tumour of a long name", 0.5)])
        view.refresh(now=True)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", live.console.file.getvalue())
    assert max(len(line) for line in text.replace("\r", "\n").split("\n")) <= columns
    assert "images/s" in text.replace("\n", "") or columns == 20


def test_nothing_is_drawn_into_a_file_even_in_colour(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal = Terminal()
    with terminal.training(2, 1) as view, terminal.progress() as progress:
        for number in (1, 2):
            view.step(number, VALUES, samples=1, seconds=1.0, waited=0.0)
            progress("scoring", number, 2)
    assert capsys.readouterr().out == "training: done\nscoring: done\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_bars_of_scoring_stand_below_the_table():
    import pty

    program = """
        from oncoseg_trainer.reporting.terminal import Terminal
        terminal = Terminal()
        with terminal.training(2, 1) as view:
            for number in (1, 2):
                view.step(number, {"loss": 1.0}, samples=1, seconds=1.0, waited=0.0)
                with terminal.progress() as progress:
                    progress("scoring", 1, 1)
                    view.refresh(now=True)
                terminal.say("Warning: something")
    """
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=its, stderr=its, env=environment)
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert child.wait(60) == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert text.count("Warning: something") == 2
    assert "step 2 of 2, epoch 2 of 2, 0:00:00 to go" in text
    frame = text[text.index("step 1 of 2") :]
    assert frame.index("memory") < frame.index("training") < frame.index("scoring")
    assert "scoring" not in text[text.rindex("memory") :]  # gone when it is over
