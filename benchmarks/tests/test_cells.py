"""No cell of a table is a formula, and every text comes back as it was."""

import csv

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oncoseg_benchmarks.table.results import from_cell, read_table, to_cell, write_table, write_timing
from oncoseg_benchmarks.table.rows import DESCRIPTION

DANGEROUS = tuple("=+-@\t\r\n＝＋－＠")


@given(st.text() | st.builds("{}{}{}".format, st.sampled_from(["", "'", "''"]), st.sampled_from(DANGEROUS), st.text()))
@example('=HYPERLINK("http://a.example")')
@example("'=1")
@example("-1.5e-3")
@example("+1+cmd")
def test_no_text_is_a_formula_and_each_comes_back(text):
    cell = to_cell(text)
    assert from_cell(cell) == text
    if cell.startswith(DANGEROUS):
        assert cell == text
        float(cell)


@pytest.mark.parametrize("number", ["-0.25", "+3", "1e-05", "0.0", "-1e+20"])
def test_numbers_stay_numbers(number):
    assert to_cell(number) == number


def row_of(name):
    return {**dict.fromkeys(DESCRIPTION), "absent": False, "dataset": name, "case": name, "target": name, "prompt": "box",
            "level": "slice", "model": name, "dice": -0.5}  # fmt: skip


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A0", "@SUM(A1)", "-lesion", "+x", "\tx", "'=x", "a,b\nc"])
def test_tables_of_hostile_names(tmp_path, name):
    row = row_of(name)
    write_table(tmp_path / "results.csv", [row], ["dice"])
    latency = {"first": 0.1, "next": None}
    unit = {"model": name, "dataset": name, "case": name, "latency": latency, "seconds": 1.0, "peak_memory_mb": 1, "peak_device_mb": None}  # fmt: skip
    write_timing(tmp_path / "timing.csv", [unit])
    for file in ("results.csv", "timing.csv"):
        with (tmp_path / file).open(newline="") as stream:
            cells = [cell for line in csv.reader(stream) for cell in line]
        assert not [cell for cell in cells if cell.startswith(DANGEROUS) and cell != "-0.5"]
    (found,), _ = read_table(tmp_path / "results.csv")
    assert found == row
