"""The controls of the widget by themselves: what a click on each of them says."""

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog

from oncoseg_napari.table import COLUMNS, Row, StructureTable
from oncoseg_napari.tools import TOOLS, PromptTools

pytestmark = pytest.mark.usefixtures("window_environment")
INFO = {"voxels": 24644, "volume_ml": 48.44, "score": 0.912}


@pytest.fixture
def tools(qtbot):
    tools = PromptTools()
    qtbot.addWidget(tools)
    tools.show()
    return tools


@pytest.fixture
def table(qtbot):
    table = StructureTable()
    qtbot.addWidget(table)
    table.fill([Row("tumour", QColor("red"), True, INFO), Row("liver", QColor("blue"), False, None)], active="liver")
    table.show()
    return table


def text_of(table, row):
    return [table.item(row, column).text() for column in range(table.columnCount())]


def test_a_row_says_voxels_millilitres_and_score(table):
    assert text_of(table, 0) == ["", "tumour", "24,644", "48.4", "0.91"]
    assert text_of(table, 1) == ["", "liver", "", "", ""]


def test_a_structure_without_millimetres_or_score_has_a_dash(table):
    table.fill([Row("spot", QColor("red"), True, {"voxels": 3, "volume_ml": None, "score": None})], active="spot")
    assert text_of(table, 0) == ["", "spot", "3", "–", "–"]


def test_filling_keeps_the_active_structure_and_says_nothing(table, qtbot):
    assert table.active == "liver"
    with qtbot.assertNotEmitted(table.active_changed), qtbot.assertNotEmitted(table.visibility_changed):
        table.fill([Row("liver", QColor("blue"), True, INFO)], active="liver")
    assert table.active == "liver"


def test_a_selected_row_is_the_active_structure(table, qtbot):
    with qtbot.waitSignal(table.active_changed) as changed:
        qtbot.mouseClick(
            table.viewport(), Qt.MouseButton.LeftButton, pos=table.visualItemRect(table.item(0, 1)).center()
        )
    assert changed.args == ["tumour"]


def test_the_check_box_shows_and_hides(table, qtbot):
    with qtbot.waitSignal(table.visibility_changed) as changed:
        table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    assert changed.args == ["tumour", False]


def test_a_double_click_on_the_colour_chooses_another(table, qtbot, monkeypatch):
    monkeypatch.setattr(QColorDialog, "getColor", lambda *_: QColor("green"))
    with qtbot.assertNotEmitted(table.colour_changed):
        table.cellDoubleClicked.emit(0, 1)
    with qtbot.waitSignal(table.colour_changed) as changed:
        table.cellDoubleClicked.emit(0, 0)
    assert changed.args == ["tumour", QColor("green")]


def test_every_column_explains_itself(table):
    assert all(table.item(0, column).toolTip() for column in range(len(COLUMNS)))


@pytest.mark.parametrize("tool", TOOLS, ids=[tool.name for tool in TOOLS])
def test_a_tool_is_taken_and_put_down(tools, qtbot, tool):
    tools.allow([tool.kind], "the model")
    with qtbot.waitSignal(tools.chosen) as chosen:
        qtbot.mouseClick(tools.buttons[tool.name], Qt.MouseButton.LeftButton)
    assert chosen.args == [tool]
    with qtbot.waitSignal(tools.chosen) as chosen:
        qtbot.mouseClick(tools.buttons[tool.name], Qt.MouseButton.LeftButton)
    assert chosen.args == [None]


def test_one_tool_at_a_time(tools):
    tools.allow(["point", "box"], "the model")
    tools.buttons["Click +"].click()
    tools.buttons["Box"].click()
    assert [name for name, button in tools.buttons.items() if button.isChecked()] == ["Box"]


def test_what_a_model_does_not_take_is_disabled_and_says_why(tools):
    tools.allow(["box", "lasso", "point"], "litemedsam")
    enabled = {name for name, button in tools.buttons.items() if button.isEnabled()}
    assert enabled == {"Click +", "Click −", "Box", "Lasso", "Scribble +", "Scribble −", "Brush"}
    assert tools.buttons["Exemplar"].toolTip() == "litemedsam takes no exemplar prompts"
    assert not tools.text.isEnabled()
    assert tools.text.toolTip() == "litemedsam takes no text prompts"
    assert tools.buttons["Box"].toolTip().endswith("(W)")


def test_without_a_session_nothing_can_be_drawn(tools):
    assert not any(button.isEnabled() for button in tools.buttons.values())
    assert tools.buttons["Brush"].toolTip() == "Start a session first"


def test_a_text_counts_on_a_range_of_slices(tools, qtbot):
    tools.allow(["text"], "sam3", slices=40)
    tools.first.setValue(31)
    tools.last.setValue(28)
    with qtbot.waitSignal(tools.text_entered) as entered:
        qtbot.keyClicks(tools.text, " liver tumor ")
        qtbot.keyClick(tools.text, Qt.Key.Key_Return)
    assert entered.args == ["liver tumor", 28, 31]


def test_an_empty_text_is_not_sent(tools, qtbot):
    tools.allow(["text"], "sam3", slices=40)
    with qtbot.assertNotEmitted(tools.text_entered):
        qtbot.keyClicks(tools.text, "  ")
        qtbot.keyClick(tools.text, Qt.Key.Key_Return)


def test_segment_waits_while_live(tools):
    assert not tools.segment.isEnabled()
    tools.live.setChecked(False)
    assert tools.segment.isEnabled()


def test_the_keys_are_none_of_naparis():
    from napari.utils.shortcuts import default_shortcuts

    taken = {str(key).replace("+", "-") for keys in default_shortcuts.values() for key in keys}
    assert not taken & {tool.key for tool in TOOLS}
