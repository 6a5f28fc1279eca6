"""The prompt tools of the dock widget: buttons with their keys, text on a range of slices, live mode."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from qtpy import QtWidgets
from qtpy.QtCore import Signal


class Tool(NamedTuple):
    """A way to prompt. ``kind`` is the wire's, or ``brush``; no layer of napari uses ``key``."""

    name: str
    kind: str
    positive: bool
    key: str
    tip: str


TOOLS = (
    Tool("Click +", "point", True, "Q", "Click inside the structure"),
    Tool("Click −", "point", False, "Shift-Q", "Click on what does not belong to the structure"),
    Tool("Box", "box", True, "W", "Drag a box around the structure"),
    Tool("Lasso", "lasso", True, "G", "Drag a line around the structure"),
    Tool("Scribble +", "scribble", True, "H", "Drag a line through what belongs to the structure"),
    Tool("Scribble −", "scribble", False, "Shift-H", "Drag a line through what does not belong to it"),
    Tool("Exemplar", "exemplar", True, "J", "Drag a box around one example of what is to be marked everywhere"),
    Tool("Brush", "brush", True, "K", "Paint with napari's brush, fill and eraser; the result is the next prompt"),
)


class PromptTools(QtWidgets.QWidget):
    """Which tool is in use; the layers take what is drawn with it."""

    chosen = Signal(object)  # a Tool, or None
    text_entered = Signal(str, int, int)  # the text, its first and last slice

    def __init__(self) -> None:
        super().__init__()
        grid = QtWidgets.QGridLayout(self, spacing=3)
        grid.setContentsMargins(0, 0, 0, 0)
        self.buttons = {tool.name: QtWidgets.QPushButton(tool.name, checkable=True) for tool in TOOLS}
        for number, tool in enumerate(TOOLS):
            grid.addWidget(self.buttons[tool.name], number // 4, number % 4)
            self.buttons[tool.name].clicked.connect(lambda on, tool=tool: self.choose(tool if on else None))
        self.text = QtWidgets.QLineEdit(placeholderText="Text, such as: liver tumor")
        self.text.returnPressed.connect(self._enter_text)
        self.first, self.last = QtWidgets.QSpinBox(prefix="from "), QtWidgets.QSpinBox(prefix="to ")
        self.live = QtWidgets.QCheckBox("Live", checked=True)
        self.live.setToolTip("Segment after every prompt; off: after Segment")
        self.segment = QtWidgets.QPushButton("Segment", enabled=False)
        self.segment.setToolTip("Segment with the prompts drawn since the last answer (Shift-W)")
        self.live.toggled.connect(lambda live: self.segment.setEnabled(not live))
        for column, part in enumerate((self.first, self.last)):
            part.setButtonSymbols(QtWidgets.QSpinBox.ButtonSymbols.NoButtons)
            grid.addWidget(part, 2, column + 2)
        grid.addWidget(self.text, 2, 0, 1, 2)
        grid.addWidget(self.live, 3, 0)
        grid.addWidget(self.segment, 3, 1, 1, 3)
        self.allow((), "Start a session first")

    def allow(self, kinds: Collection[str], model: str, slices: int = 1) -> None:
        """Enable what a model takes, and say why not the rest; without ``kinds``, ``model`` is the reason for all."""
        kinds = {*kinds, "scribble"} if "point" in kinds else kinds  # a scribble is then sent as clicks along it

        def refusal(kind: str) -> str:
            return "" if kind in kinds else f"{model} takes no {kind} prompts" if kinds else model

        for tool in TOOLS:
            why = refusal(tool.kind) if tool.kind != "brush" or not kinds else ""
            self.buttons[tool.name].setEnabled(not why)
            self.buttons[tool.name].setToolTip(why or f"{tool.tip} ({tool.key})")
        tips = {self.text: "What to mark on these slices; Enter sends it"}
        for part, tip in {**tips, self.first: "The text's first slice", self.last: "The text's last slice"}.items():
            part.setEnabled(not refusal("text"))
            part.setToolTip(refusal("text") or tip)
        self.first.setMaximum(slices - 1)
        self.last.setMaximum(slices - 1)

    def choose(self, tool: Tool | None) -> None:
        """Take a tool, or put it down."""
        for name, button in self.buttons.items():
            button.setChecked(tool is not None and name == tool.name)
        self.chosen.emit(tool)

    def keys(self) -> dict[str, tuple[str, Callable[[], object]]]:
        """By key: what it does, and the call; nothing where the tool is disabled."""
        return {tool.key: (tool.name, self.buttons[tool.name].click) for tool in TOOLS}

    def _enter_text(self) -> None:
        if text := self.text.text().strip():
            self.text_entered.emit(text, *sorted((self.first.value(), self.last.value())))
