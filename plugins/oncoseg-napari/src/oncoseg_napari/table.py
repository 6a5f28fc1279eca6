"""The table of structures: visible, colour, name, voxels, mL, score; the selected row is the active structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QColorDialog, QHeaderView, QTableWidget, QTableWidgetItem

COLUMNS = {
    "": "Visible or not; double click for another colour",
    "Name": "Select the structure that the next prompts and edits are for",
    "Voxels": "How many voxels it has",
    "mL": "Its volume; none on a single slice or without millimetres",
    "Score": "The model's own score from 0 to 1, where it gives one",
}


class Row(NamedTuple):
    """A structure; ``info`` is the wire's StructureInfo, None where it has no prompt yet."""

    name: str
    colour: QColor
    visible: bool
    info: Mapping[str, Any] | None


class StructureTable(QTableWidget):
    """One row a structure."""

    active_changed = Signal(str)
    visibility_changed = Signal(str, bool)
    colour_changed = Signal(str, object)  # QColor

    def __init__(self) -> None:
        super().__init__(0, len(COLUMNS))
        self.setHorizontalHeaderLabels(list(COLUMNS))
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.verticalHeader().hide()
        self.setSelectionBehavior(self.SelectionBehavior.SelectRows)
        self.setSelectionMode(self.SelectionMode.SingleSelection)
        self.setEditTriggers(self.EditTrigger.NoEditTriggers)
        self.setToolTip(COLUMNS["Name"])
        self.setFixedHeight(130)
        self.itemSelectionChanged.connect(lambda: self.active_changed.emit(self.active))
        self.itemChanged.connect(self._check)
        self.cellDoubleClicked.connect(self._choose_colour)

    @property
    def active(self) -> str:
        """The selected structure; empty where there is none."""
        rows = self.selectionModel().selectedRows(1)
        return rows[0].data() if rows else ""

    def fill(self, rows: Sequence[Row], active: str) -> None:
        """Replace all rows; nothing is emitted."""
        with QSignalBlocker(self):
            self.setRowCount(len(rows))
            for number, row in enumerate(rows):
                for column, (text, tip) in enumerate(zip(_cells(row), COLUMNS.values(), strict=True)):
                    item = QTableWidgetItem(text)
                    item.setToolTip(tip)
                    self.setItem(number, column, item)
                first = self.item(number, 0)
                first.setCheckState(Qt.CheckState.Checked if row.visible else Qt.CheckState.Unchecked)
                first.setData(Qt.ItemDataRole.DecorationRole, row.colour)
                if row.name == active:
                    self.selectRow(number)

    def _check(self, item: QTableWidgetItem) -> None:
        visible = item.checkState() == Qt.CheckState.Checked
        self.visibility_changed.emit(self.item(item.row(), 1).text(), visible)

    def _choose_colour(self, row: int, column: int) -> None:
        now = self.item(row, 0).data(Qt.ItemDataRole.DecorationRole)
        colour = QColorDialog.getColor(now) if column == 0 else QColor()
        if colour.isValid():
            self.colour_changed.emit(self.item(row, 1).text(), colour)


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.info is None:
        return "", row.name, "", "", ""
    volume, score = row.info["volume_ml"], row.info["score"]
    millilitres = "–" if volume is None else f"{volume:.3g}" if volume < 100 else f"{volume:.0f}"
    return "", row.name, f"{row.info['voxels']:,}", millilitres, "–" if score is None else f"{score:.2f}"
