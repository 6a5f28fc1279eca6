"""The dock widget: an image, where it is segmented, its structures and tools. What is computed, a server computes."""

from __future__ import annotations

import inspect
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image, Layer
from qtpy import QtWidgets
from qtpy.QtCore import QEvent, QSignalBlocker, Qt, QTimer
from qtpy.QtGui import QColor

from oncoseg_client import (
    CallQueue,
    Journal,
    Server,
    ServerError,
    Servers,
    Step,
    Unfinished,
    fingerprint,
    sentences_of,
    unfinished,
)
from oncoseg_core import DataError, OncoSegError, UsageError
from oncoseg_napari import writing
from oncoseg_napari.geometry import image_of, layer_affine, lean, straighten, world_affine
from oncoseg_napari.labels import StructureLayers
from oncoseg_napari.prompts import PromptLayers
from oncoseg_napari.reading import image_layers
from oncoseg_napari.session import GuiThread, ImageSession, journals
from oncoseg_napari.table import Row, StructureTable
from oncoseg_napari.tools import TOOLS, PromptTools, Tool

log = logging.getLogger("oncoseg.napari")
ACTIONS = {  # by method, here or of the session: the button's text, its key, what it does
    "start": ("Start", "", "Open the image on the server; again: with another model, and the same prompts"),
    "choose_series": ("Open from server…", "", "Choose one of the server's series"),
    "add": ("New", "N", "Add a structure of this name"),
    "remove": ("Remove", "", "Take the selected structure out; undo brings it back"),
    "propagate": ("Propagate", "Shift-G", "Follow the structure through the volume, both ways"),
    "undo": ("Undo", "U", "Take the last step back"),
    "redo": ("Redo", "Shift-U", "Take the step again that was undone last"),
    "export": ("Export…", "", "Write the structures as RTSTRUCT, DICOM SEG or NIfTI"),
    "save": ("Save to server", "", "Write SEG, RTSTRUCT and SR to where the server has the series"),
    "cancel": ("Cancel", "", "Stop what the server is at"),
    "retry": ("Retry", "", "Ask the server again for what it did not answer"),
    "restore": ("Restore", "", "Open these images again, with all prompts and edits"),
    "discard": ("Discard", "", "Delete these prompts and edits for good"),
}
FORMATS = {"RTSTRUCT (*.dcm)": "rtstruct", "DICOM SEG (*.dcm)": "seg", "NIfTI (*.nii.gz)": "nifti"}


@dataclass(eq=False)
class Opened:
    """An image's session with its layers.

    ``new`` are structures that have no prompt yet, ``written`` the steps that were exported or saved last.
    """

    image: Image
    session: ImageSession
    prompts: PromptLayers
    masks: StructureLayers
    journal: Journal
    new: list[str] = field(default_factory=list)
    written: list[Step] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """All structures."""
        known = self.session.structures
        return [*known, *(name for name in self.new if name not in known)]

    def close(self) -> None:
        """End the session, take its prompts out of the window, and put its layers where they were."""
        self.masks.flush()
        self.prompts.close()
        self.masks.close()
        for layer in (self.image, *map(self.masks.known, self.names)):
            if layer is not None:
                lean(layer)
        self.end()

    def end(self) -> None:
        """End the session; what was asked for since the last file is kept, to be restored."""
        self.journal.end(keep=self.session.steps != self.written)
        threading.Thread(target=self.session.close).start()


class OncoSegWidget(QtWidgets.QWidget):
    """One a window; each image has a session of its own, and the chosen image's is shown."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        # Through napari's proxy a layer is never the one of the list.
        self.viewer: napari.Viewer = inspect.unwrap(napari_viewer)
        self.opened: dict[Image, Opened] = {}
        self.unfinished = unfinished(journals())
        self.servers, self._calls, self._gui = Servers(), CallQueue("oncoseg-window"), GuiThread()
        self._build()
        self._connect()
        self.destroyed.connect(partial(_end, self.opened, self.servers))
        self.reset_choices()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Qt calls this; napari takes a widget out of its dock where the dock is closed, and that ends the sessions."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            while self.opened:
                self.opened.popitem()[1].close()
            _end(self.opened, self.servers)

    def _build(self) -> None:
        tips = {name: f"{tip} ({key})" if key else tip for name, (_, key, tip) in ACTIONS.items()}
        button = {name: QtWidgets.QPushButton(text, toolTip=tips[name]) for name, (text, _, _) in ACTIONS.items()}
        self.image = QtWidgets.QComboBox(toolTip="The image to segment")
        self.where = QtWidgets.QComboBox(toolTip="Where the model runs")
        self.where.addItems(["On this computer", "On a server"])
        self.model = QtWidgets.QComboBox(toolTip="One of the server's models, or an adapter by its name")
        sent, secret = "The server's address: images that you start on are sent there", "Never written to disk"
        self.address = QtWidgets.QLineEdit("http://127.0.0.1:8765", toolTip=sent)
        self.token = QtWidgets.QLineEdit(placeholderText="token", toolTip=f"{secret}; empty: that of ONCOSEG_TOKEN")
        self.token.setEchoMode(QtWidgets.QLineEdit.EchoMode.Password)
        self.name = QtWidgets.QLineEdit(placeholderText="name", toolTip="Of the next new structure, as it is exported")
        self.table, self.tools = StructureTable(), PromptTools()
        self.progress = QtWidgets.QProgressBar(toolTip="How far the server is")
        self.notice, self.measures, self.status, self.offer = (QtWidgets.QLabel(wordWrap=True) for _ in range(4))
        keys = [
            ("Shift-W", "Segment"),
            *((one.key, one.name) for one in TOOLS),
            *((key, text) for text, key, _ in ACTIONS.values() if key),
        ]
        listed = QtWidgets.QLabel("Keys: " + ", ".join(f"{key} {text}" for key, text in keys), wordWrap=True)
        content = QtWidgets.QWidget()
        rows, whole = QtWidgets.QVBoxLayout(content), QtWidgets.QVBoxLayout(self)
        rows.setContentsMargins(4, 4, 4, 4)
        for parts in (
            (self.image, self.where), (self.address, self.token), (button["choose_series"],),
            (self.model, button["start"]),
            (self.notice,), (self.table,), (self.name, button["add"], button["remove"]), (self.tools,),
            (button["propagate"], button["undo"], button["redo"]), (self.measures,), (button["export"], button["save"]),
            (listed,),
        ):  # fmt: skip
            rows.addLayout(_row(*parts))
        rows.addStretch()
        scroll = QtWidgets.QScrollArea(widgetResizable=True, frameShape=QtWidgets.QFrame.Shape.NoFrame)
        scroll.setWidget(content)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(content.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width())
        whole.addLayout(_row(self.offer, button["restore"], button["discard"]))
        whole.addWidget(scroll, 1)
        whole.addLayout(_row(self.progress, button["cancel"]))
        whole.addLayout(_row(self.status, button["retry"]))
        for part in (self.progress, button["cancel"], button["retry"]):
            part.hide()
        self.buttons = {**button, "segment": self.tools.segment}

    def _connect(self) -> None:
        keys = {tool.key: self.tools.buttons[tool.name] for tool in TOOLS} | {"Shift-W": self.tools.segment}
        for name, (_, key, _) in ACTIONS.items():
            self.buttons[name].clicked.connect(lambda _, name=name: self._safely(self._press, name))
            keys |= {key: self.buttons[name]} if key else {}
        for key, button in keys.items():
            with suppress(ValueError):  # another plugin has the key, and keeps it
                self.viewer.bind_key(key, partial(_click, button))
        for signal in (self.image.currentIndexChanged, self.where.currentIndexChanged, self.tools.live.toggled):
            signal.connect(lambda _: self._refresh())
        self.table.active_changed.connect(lambda _: self._refresh())
        self.table.visibility_changed.connect(self._show)
        self.table.colour_changed.connect(lambda name, colour: self._recolour(name, colour.name()))
        self.tools.chosen.connect(partial(self._safely, self._use))
        self.tools.segment.clicked.connect(lambda _: self._safely(self._current.prompts.send))
        self.tools.text_entered.connect(partial(self._safely, self._prompt_text))
        self.viewer.dims.events.current_step.connect(self._view)
        self.viewer.dims.events.order.connect(self._turn)

    # What the controls do.

    def _press(self, name: str) -> None:
        own = getattr(self, f"_{name}", None)
        (own or getattr(self._current.session, name))()

    def _start(self) -> None:
        """Open a session on the chosen image; where it has one, with the chosen model and the same steps."""
        layer, model = self.image.currentData(), self.model.currentText() or None
        if layer is None:
            raise UsageError("there is no image to segment: open one first, from File or from the sample data")
        if layer in self.opened:
            self.opened[layer].session.open(self._server(), model)
        else:
            self._open(layer).session.open(self._server(), model)
            self._add()
        self._view()

    def _open(self, layer: Image) -> Opened:
        axes, voxels = image_of(layer)
        straighten(layer)
        facts = layer.metadata.get("oncoseg", {})
        known = {"path": facts.get("path") or layer.source.path, "series": facts.get("series"), "name": layer.name}
        journal = Journal(journals(), known)
        self._calls.do(lambda: journal.write({"op": "image", "fingerprint": fingerprint(voxels)}))
        session = ImageSession(axes, voxels, layer.name, journal.write, facts.get("series"))
        prompts, masks = PromptLayers(self.viewer, layer, session), StructureLayers(self.viewer, layer, session)
        session.changed.connect(lambda _: self._refresh())
        session.busy.connect(partial(self._busy, layer))
        session.failed.connect(self._failed)
        prompts.refused.connect(self._say)
        masks.refused.connect(self._say)
        self.opened[layer] = Opened(layer, session, prompts, masks, journal)
        return self.opened[layer]

    def _add(self) -> None:
        """Add a structure by the name that was typed, or by a number, and make it the active one."""
        opened, typed, number = self._current, self.name.text().strip(), 1
        name = typed
        while not name or name in opened.names:
            name, number = f"{typed or 'structure'} {number}", number + 1
        opened.new.append(name)
        opened.masks.layer_of(name)  # to paint on, and of a colour
        self.name.clear()
        self._refresh(name)

    def _remove(self) -> None:
        name, opened = self.table.active, self._current
        if name in opened.session.structures:
            opened.session.remove(name)
        elif (layer := opened.masks.known(name)) is not None:
            self.viewer.layers.remove(layer)
        opened.new = [one for one in opened.new if one != name]
        self._refresh()

    def _propagate(self) -> None:
        self._current.session.propagate(self.table.active)

    def _prompt_text(self, text: str, first: int, last: int) -> None:
        for index in range(first, last + 1):
            self._current.session.prompt(self.table.active, index, text=text)

    def _use(self, tool: Tool | None) -> None:
        opened = self._current
        opened.prompts.use(
            None if tool is None or tool.kind == "brush" else tool.kind, positive=not tool or tool.positive
        )
        if tool is not None and tool.kind == "brush":
            self.viewer.layers.selection.active = layer = opened.masks.layer_of(self.table.active)
            layer.mode = "paint"

    def _show(self, name: str, visible: bool) -> None:
        self._current.masks.layer_of(name).visible = visible

    def _recolour(self, name: str, colour: str) -> None:
        self._current.masks.recolour(name, colour)
        self._refresh()

    def _retry(self) -> None:
        self.buttons["retry"].hide()
        self._current.session.retry()

    def _export(self) -> None:
        """Write the structures to the file that the user chooses."""
        path, kind = QtWidgets.QFileDialog.getSaveFileName(self, "Export", "", ";;".join(FORMATS))
        if not path:
            return
        layer, opened = self.image.currentData(), self._current
        opened.masks.flush()
        colours = {name: opened.masks.colour(name) for name in opened.session.structures}
        source, affine, axes = writing.source_of(layer), world_affine(layer), opened.session.axes

        def export(masks: Mapping[str, Any]) -> list[str]:
            turned = {name: axes.to_layer(mask) for name, mask in masks.items()}
            return writing.export(source, affine, turned, Path(path), FORMATS[kind], colours)

        done = partial(self._written, opened, opened.session.steps, f"Exported to {path}.")
        opened.session.collect(lambda masks: self._behind("exporting", partial(export, masks), done))

    def _save(self) -> None:
        opened = self._current
        opened.masks.flush()
        done = partial(self._written, opened, opened.session.steps, "Saved to the server, and read back.", ())
        opened.session.save(["seg", "rtstruct", "sr"], lambda _: done())

    def _written(self, opened: Opened, steps: list[Step], sentence: str, notes: Sequence[str]) -> None:
        opened.written = steps
        self._say(" ".join([sentence, *notes]))

    def _choose_series(self) -> None:
        connect = self._server()

        def choose(listed: dict[str, dict[str, Any]]) -> None:
            title, chosen = QtWidgets.QInputDialog.getItem(self, "OncoSeg", "Series", list(listed), 0, editable=False)
            if chosen:
                self._behind("fetching the series", partial(_fetch, connect, listed[title]), self.viewer.add_layer)

        self._behind("asking for the series", partial(_list, connect), choose)

    def _restore(self) -> None:
        """Open the images of unfinished sessions again, with their steps; one that cannot be opened stays offered."""
        for saved in self.unfinished:
            self._behind(
                "opening the image again", partial(_reopen, self._server(), saved), partial(self._resume, saved)
            )

    def _resume(self, saved: Unfinished, layer: Image) -> None:
        self.viewer.add_layer(layer)
        opened = self._open(layer)
        opened.journal.write({"op": "image", "model": saved.image.get("model")})
        opened.journal.write({"op": "begin", "steps": saved.steps, "undone": saved.undone})
        opened.session.open(self._server(), saved.image.get("model"), saved.steps, saved.undone)
        opened.prompts.restore(saved.unsent)
        saved.discard()
        self.unfinished.remove(saved)
        self.image.setCurrentText(layer.name)
        self._refresh()

    def _discard(self) -> None:
        for saved in self.unfinished:
            saved.discard()
        self.unfinished = []
        self._refresh()

    # What the widget shows.

    def reset_choices(self, _event: object = None) -> None:
        """Offer the window's images; napari calls this where its layers change."""
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        for gone in self.opened.keys() - set(layers):
            QTimer.singleShot(0, partial(self._close, self.opened.pop(gone)))  # napari still takes the layer out
        chosen = self.image.currentData()
        with QSignalBlocker(self.image):
            self.image.clear()
            for layer in layers:
                self.image.addItem(layer.name, layer)
            self.image.setCurrentIndex(layers.index(chosen) if chosen in layers else 0)
        self._refresh()

    def _close(self, opened: Opened) -> None:
        opened.close()
        self.unfinished = unfinished(journals())
        self._refresh()

    @property
    def _current(self) -> Opened:
        """What belongs to the chosen image."""
        try:
            return self.opened[self.image.currentData()]
        except KeyError:
            raise UsageError("start a session on the image first") from None

    def _refresh(self, active: str | None = None) -> None:
        """Bring all controls up to date with the session of the chosen image."""
        opened, count = self.opened.get(self.image.currentData()), len(self.unfinished)
        for part in (self.address, self.token, self.buttons["choose_series"]):
            part.setVisible(self.where.currentIndex() == 1)
        self.offer.setText(f"{count} unfinished session{'s' if count > 1 else ''}:")
        for part in (self.offer, self.buttons["restore"], self.buttons["discard"]):
            part.setVisible(count > 0)
        for name in ("add", "remove", "propagate", "undo", "redo", "export", "save"):
            self.buttons[name].setEnabled(opened is not None)
        self.buttons["start"].setText("Start again" if opened else "Start")
        if opened is None:
            self.tools.allow((), "Start a session first")
            self.table.fill([], "")
            return
        session, masks, active = opened.session, opened.masks, active or self.table.active
        rows = []
        for name in opened.names:
            visible = getattr(masks.known(name), "visible", True)
            rows.append(Row(name, QColor(masks.colour(name)), visible, session.structures.get(name)))
        self.table.fill(rows, active if active in opened.names else next(iter(opened.names), ""))
        self.tools.allow(session.prompt_kinds, session.model or "The model", session.axes.shape[0])
        opened.prompts.active, opened.prompts.live = self.table.active, self.tools.live.isChecked()
        opened.prompts.redraw()
        self.buttons["undo"].setEnabled(session.can_undo)
        self.buttons["redo"].setEnabled(session.can_redo)
        self.buttons["save"].setEnabled(session.series is not None)
        self.notice.setText(session.notice or "")
        if session.models and not self.model.count():
            self.model.addItems(session.models)
        self.measures.setText("<br>".join(sentences_of(session.structures.get(self.table.active), session.findings)))

    def _busy(self, layer: Image, what: str, done: int, total: int) -> None:
        if layer is self.image.currentData():
            for part in (self.progress, self.buttons["cancel"]):
                part.setVisible(bool(what))
            self.progress.setRange(0, total)
            self.progress.setValue(done)
            self.progress.setFormat(f"{what}: %v of %m")
            if what:
                self.buttons["retry"].hide()
                self._say(f"{what} …")
            elif self.status.text().endswith("…"):
                self._say("")

    def _failed(self, why: str) -> None:
        self.buttons["retry"].show()
        self._say(why)

    def _say(self, sentence: str) -> None:
        self.status.setText(sentence)

    def _view(self, _event: object = None) -> None:
        """Have the slice encoded that is looked at."""
        layer = self.image.currentData()
        if layer in self.opened:
            session = self.opened[layer].session
            index = int(session.axes.pixels(layer.world_to_data(self.viewer.dims.point))[0][0])
            if 0 <= index < session.axes.shape[0]:
                session.view(index)

    def _turn(self, _event: object = None) -> None:
        """Show the head up: napari's vertical axis runs down, as the patient's runs to the back, but z to the head."""
        dims, ours = self.viewer.dims, self.image.currentData() in self.opened
        head_up = ours and dims.ndim == 3 and dims.displayed[-2] == 0
        self.viewer.camera.orientation2d = ("up" if head_up else "down", "right")

    def _server(self) -> Callable[[], Server]:
        address = self.address.text().strip() if self.where.currentIndex() == 1 else None
        return partial(self.servers.connect, address, self.token.text() or os.environ.get("ONCOSEG_TOKEN"))

    def _safely(self, call: Callable[..., object], *args: object) -> None:
        """Call, and say in one sentence what went wrong."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 - no traceback window, and nothing is lost
            self._say(_sentence(error))

    def _behind(self, what: str, call: Callable[[], Any], then: Callable[[Any], Any]) -> None:
        """Call on a thread, then hand the result to ``then`` on the window's; may be called on any thread."""

        def work() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - as above
                self._gui.say(partial(self._say, _sentence(error)))
            else:
                self._gui.say(partial(self._safely, then, result))

        self._gui.say(partial(self._say, f"{what} …"))
        self._calls.do(work)


def _row(*parts: QtWidgets.QWidget) -> QtWidgets.QHBoxLayout:
    row = QtWidgets.QHBoxLayout()
    for part in parts:
        row.addWidget(part)
    return row


def _click(button: QtWidgets.QAbstractButton, _viewer: object) -> None:
    button.click()


def _sentence(error: Exception) -> str:
    if isinstance(error, OncoSegError | ServerError | OSError | ValueError):
        return str(error)
    log.error("unexpected: %s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
    return f"That did not work, by a fault of OncoSeg ({type(error).__name__}); your prompts and edits are kept."


def _list(connect: Callable[[], Server]) -> dict[str, dict[str, Any]]:
    return {
        f"{number}. {one['source']}: {one['modality']}, {one['instances']} images, {one['description']}": one
        for number, one in enumerate(connect().all_series(), start=1)
    }


def _fetch(connect: Callable[[], Server], one: Mapping[str, Any]) -> Layer:
    """A series of the server as an image layer; a session on it is one on the series itself."""
    series = {key: one[key] for key in ("source", "study_uid", "series_uid")}
    with connect().open(**series) as session:
        voxels = session.voxels()
    place = {} if voxels.affine is None else {"affine": layer_affine(voxels.affine), "units": ("mm",) * 3}
    facts = {"series": series, "modality": voxels.modality, "slice_axis": 0}
    return Image(voxels.array, name=one.get("description") or "series", metadata={"oncoseg": facts}, **place)


def _reopen(connect: Callable[[], Server], saved: Unfinished) -> Layer:
    """The image of an unfinished session.

    Raises:
        DataError: it is no longer there, or another one is there.
    """
    if saved.image.get("series"):
        layers = iter([_fetch(connect, saved.image["series"])])
    elif saved.image.get("path"):
        layers = (Layer.create(*one) for one in image_layers(Path(saved.image["path"])))
    else:
        raise DataError(f"{saved.image['name']}: was no file, so it cannot be opened again; its prompts are kept")
    for layer in layers:  # a file may hold several
        if saved.image.get("fingerprint") in {None, fingerprint(image_of(layer)[1])}:
            return layer
    raise DataError(f"{saved.image['name']}: has changed since, so its prompts are kept and not opened on it")


def _end(opened: dict[Image, Opened], servers: Servers) -> None:
    for one in opened.values():
        one.end()
    opened.clear()
    threading.Thread(target=servers.stop).start()
