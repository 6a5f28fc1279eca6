"""The figures of the forgetting matrix, by hand, and its drawing."""

import json
import re
import xml.etree.ElementTree as ET

import pytest

from oncoseg_trainer.chain.forgetting import Column, ForgettingMatrix, ForgettingRow
from oncoseg_trainer.chain.forgetting_drawing import draw_html, draw_png

COLUMNS = [Column("a", 1, 3), Column("b", 2, 2), Column("c", 3, 1, ("LEAKAGE, no test: <c> and a (the same voxels)",))]
UNTOUCHED = {"a": 0.5, "b": 0.4, "c": 0.3}
ROWS = [
    ForgettingRow("01-B-a", {"a": 0.8}),
    ForgettingRow("02-B-b", {"a": 0.9, "b": 0.7}),
    ForgettingRow("03-C-c", {"a": 0.6, "b": 0.75, "c": 0.9}),
]
MATRIX = ForgettingMatrix(COLUMNS, UNTOUCHED, ROWS)


def test_the_figures_by_hand():
    assert MATRIX.average(3) == pytest.approx((0.6 + 0.75 + 0.9) / 3)
    assert MATRIX.backward_transfer(3) == pytest.approx(((0.6 - 0.8) + (0.75 - 0.7)) / 2)  # since each one's own task
    assert MATRIX.forgetting(3) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.75)) / 2)  # since the best before
    assert MATRIX.gain(3) == pytest.approx((0.1 + 0.35 + 0.6) / 3)
    assert MATRIX.average(2) == pytest.approx(0.8)
    assert MATRIX.backward_transfer(2) == pytest.approx(0.1)
    assert MATRIX.backward_transfer(1) is None
    assert MATRIX.forgetting(1) is None
    assert MATRIX.gain(1) == pytest.approx(0.3)


def test_datasets_of_one_task_are_learnt_together():
    columns = [Column("a", 1, 1), Column("b", 1, 1), Column("c", 2, 1)]
    rows = [ForgettingRow("01-B", {"a": 0.8, "b": 0.6}), ForgettingRow("02-C-c", {"a": 0.7, "b": 0.3, "c": 0.5})]
    matrix = ForgettingMatrix(columns, {"a": 0, "b": 0, "c": 0}, rows)
    assert matrix.backward_transfer(1) is None
    assert matrix.backward_transfer(2) == pytest.approx((-0.1 - 0.3) / 2)


def test_as_json_it_says_what_is_trained_on_and_what_is_not():
    values = json.loads(json.dumps(MATRIX.as_json()))
    assert values["rows"][1] == {
        "task": "02-B-b", "dice": {"a": 0.9, "b": 0.7}, "average": pytest.approx(0.8),
        "backward_transfer": pytest.approx(0.1), "forgetting": pytest.approx(-0.1),
        "gain_over_untouched": pytest.approx(0.35),
    }  # fmt: skip
    first = ForgettingMatrix(COLUMNS, UNTOUCHED, ROWS[:1]).as_json()
    assert [column["first_task"] for column in first["columns"]] == ["01-B-a", None, None]
    assert first["untouched"] == UNTOUCHED


def test_the_drawing_has_every_number_and_loads_nothing():
    page = draw_html(MATRIX, "three <tasks>", ["boxes"])
    assert page == draw_html(MATRIX, "three <tasks>", ["boxes"])  # the same each time
    for number in ("0.50", "0.40", "0.30", "0.80", "0.70", "0.60", "0.75"):
        assert f">{number}<" in page
    assert page.count(">0.90<") == 2
    assert "<td>-0.075</td>" in page
    assert "c: LEAKAGE, no test: &lt;c&gt; and a" in page
    assert "boxes: not scored" in page
    assert "three &lt;tasks&gt;" in page
    assert not re.search(r"""(src|href)=["']?(?!#)[^"']""", page.replace('xlink:href="#', "").replace('href="#', ""))
    ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert draw_png(MATRIX, "x").startswith(b"\x89PNG")
    empty = ForgettingMatrix(COLUMNS, UNTOUCHED, [])
    assert ">0.50<" in draw_html(empty, "none yet", [])


LOUD = "RANDOM WEIGHTS: tiny was built with random:0 and knows nothing. These <scores> mean nothing"


def test_the_drawing_says_that_weights_are_random():
    page = draw_html(MATRIX, "three", [], [LOUD])
    assert page.index("<strong>RANDOM WEIGHTS: tiny was built with random:0") < page.index("<figure>")
    assert "<scores>" not in page
    assert "RANDOM WEIGHTS" not in draw_html(MATRIX, "three", [])
    assert draw_png(MATRIX, "three", [LOUD]) != draw_png(MATRIX, "three")


@pytest.mark.parametrize("name", ["$\\frac$", "GTV $x_$", "a$b$", "</svg><script>", "[/old]", "&lt;b&gt;"])
def test_names_are_drawn_as_they_are(name):
    matrix = ForgettingMatrix([Column(name, 1, 3, (name,))], {name: 0.5}, [ForgettingRow(name, {name: 0.8})])
    assert draw_png(matrix, name).startswith(b"\x89PNG")
    page = draw_html(matrix, name, [name])
    assert "<script" not in page
    svg = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert name in "".join(svg.itertext())
