"""The dock widget: an image, where it is segmented, its structures and tools. What is computed, a server computes."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy import QtWidgets
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor

from oncoseg_client import LocalServer, Server, ServerError
from oncoseg_core import OncoSegError
from oncoseg_napari.geometry import image_of, layer_affine, straighten
from oncoseg_napari.labels import StructureLayers
from oncoseg_napari.prompts import PromptLayers
from oncoseg_napari.session import ImageSession
from oncoseg_napari.table import Row, StructureTable
from oncoseg_napari.tools import TOOLS, PromptTools, Tool
from oncoseg_napari.work import Worker

if TYPE_CHECKING:
    import napari

log = logging.getLogger("oncoseg.napari")
FORMATS = {"RTSTRUCT (*.dcm)": "rtstruct", "DICOM SEG (*.dcm)": "seg", "NIfTI (*.nii.gz)": "nifti"}
ACTIONS = {  # by method: the button's text, its key, what it does
    "start": ("Start", "", "Open the image on the server; again: with another model, and the same prompts"),
    "choose_series": ("Open from server…", "", "Choose one of the server's series"),
    "add": ("New", "N", "Add a structure of this name"),
    "remove": ("Remove", "", "Take the selected structure out; undo brings it back"),
    "propagate": ("Propagate", "Shift-G", "Follow the structure through the volume, both ways"),
    "undo": ("Undo", "U", "Take the last step back"),
    "redo": ("Redo", "Shift-U", "Take the step again that was undone last"),
    "choose_file": ("Export…", "", "Write the structures as RTSTRUCT, DICOM SEG or NIfTI"),
    "save": ("Save to server", "", "Write SEG, RTSTRUCT and SR to where the server has the series"),
    "cancel": ("Cancel", "", "Stop what the server is at"),
    "retry": ("Retry", "", "Ask the server again for what it did not answer"),
    "restore": ("Restore", "", "Open these images again, with all prompts and edits"),
    "discard": ("Discard", "", "Delete these prompts and edits for good"),
}


class Servers:
    """A window's servers: this computer's, a child process from when it is first needed, and those with addresses."""

    def __init__(self) -> None:
        self._local: LocalServer | None = None
        self._lock = threading.Lock()

    def connect(self, url: str, token: str) -> Server:
        """The server at an address, or this computer's where that is empty; called on any thread."""
        if url:
            return Server(url, token=token or os.environ.get("ONCOSEG_TOKEN"))
        with self._lock:
            if self._local is None or not self._local.running:
                self._local = LocalServer()
            local = self._local
        return local.server

    def stop(self) -> None:
        """End the child process."""
        if self._local is not None:
            self._local.stop()


@dataclass(eq=False)
class Opened:
    """An image's session with its layers; ``new`` are structures that have no prompt yet."""

    session: ImageSession
    prompts: PromptLayers
    masks: StructureLayers
    new: list[str] = field(default_factory=list)


class OncoSegWidget(QtWidgets.QWidget):
    """One a window; each image has a session of its own, and the chosen image's is shown."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        # Through napari's proxy a layer is never the one of the list.
        self.viewer: napari.Viewer = inspect.unwrap(napari_viewer)
        self.opened: dict[Image, Opened] = {}
        self.servers, self._worker = Servers(), Worker("oncoseg-window")
        self.unfinished: list[Any] = []
        self._build()
        self._bind_keys()
        self.viewer.dims.events.current_step.connect(self._view)
        self.destroyed.connect(partial(_end, self.opened, self.servers))
        self.reset_choices()

    def _build(self) -> None:
        self.buttons = {name: QtWidgets.QPushButton(text) for name, (text, _, _) in ACTIONS.items()}
        for name, (_, key, tip) in ACTIONS.items():
            self.buttons[name].setToolTip(f"{tip} ({key})" if key else tip)
            self.buttons[name].clicked.connect(lambda _=False, name=name: self._safely(getattr(self, name)))
        self.image, self.where, self.model = QtWidgets.QComboBox(), QtWidgets.QComboBox(), QtWidgets.QComboBox()
        self.image.setToolTip("The image to segment")
        self.where.setToolTip("Where the model runs")
        self.where.addItems(["On this computer", "On a server"])
        self.model.setToolTip("One of the server's models, or an adapter by its name")
        self.address, self.token, self.name = (QtWidgets.QLineEdit(text) for text in ("http://127.0.0.1:8765", "", ""))
        self.address.setToolTip("The server's address: images that you start on are sent there")
        self.token.setToolTip("The server's token; never written to disk. ONCOSEG_TOKEN is taken where this is empty")
        self.token.setEchoMode(QtWidgets.QLineEdit.EchoMode.Password)
        self.token.setPlaceholderText("token")
        self.name.setToolTip("The name of the next new structure, as it is exported")
        self.name.setPlaceholderText("name")
        self.table, self.tools, self.progress = StructureTable(), PromptTools(), QtWidgets.QProgressBar()
        self.progress.setToolTip("How far the server is")
        self.notice, self.measures, self.status, self.offer = (QtWidgets.QLabel(wordWrap=True) for _ in range(4))
        keys = [f"{one.key} {one.name}" for one in TOOLS]
        keys += ["Shift-W Segment", *(f"{key} {text}" for text, key, _ in ACTIONS.values() if key)]
        shortcuts = QtWidgets.QLabel("Keys: " + ", ".join(keys), wordWrap=True)
        content = QtWidgets.QWidget()
        rows = QtWidgets.QVBoxLayout(content)
        rows.setContentsMargins(4, 4, 4, 4)
        button = self.buttons
        for parts in (
            (self.image, self.where), (self.address, self.token), (self.model, button["start"]), (self.notice,),
            (button["choose_series"],), (self.table,), (self.name, button["add"], button["remove"]), (self.tools,),
            (button["propagate"], button["undo"], button["redo"]), (self.measures,),
            (button["choose_file"], button["save"]), (shortcuts,),
        ):  # fmt: skip
            rows.addLayout(_row(parts))
        rows.addStretch()
        scroll = QtWidgets.QScrollArea(widgetResizable=True, frameShape=QtWidgets.QFrame.Shape.NoFrame)
        scroll.setWidget(content)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setMinimumWidth(content.minimumSizeHint().width() + scroll.verticalScrollBar().sizeHint().width())
        whole = QtWidgets.QVBoxLayout(self)
        whole.addLayout(_row((self.offer, button["restore"], button["discard"])))
        whole.addWidget(scroll, 1)
        whole.addLayout(_row((self.progress, button["cancel"])))
        whole.addLayout(_row((self.status, button["retry"])))
        for signal in (self.image.currentIndexChanged, self.where.currentIndexChanged, self.tools.live.toggled):
            signal.connect(lambda _: self._refresh())
        self.table.active_changed.connect(lambda _: self._refresh())
        self.table.visibility_changed.connect(partial(self._safely, self._set_visible))
        self.table.colour_changed.connect(lambda name, colour: self._current.masks.recolour(name, colour.name()))
        self.tools.chosen.connect(lambda tool: self._safely(self._use, tool))
        self.tools.segment.clicked.connect(lambda: self._safely(self._current.prompts.send))
        self.tools.text_entered.connect(partial(self._safely, self.prompt_text))

    def _bind_keys(self) -> None:
        calls = {key: self.buttons[name].click for name, (_, key, _) in ACTIONS.items() if key}
        calls |= {tool.key: self.tools.buttons[tool.name].click for tool in TOOLS}
        calls["Shift-W"] = self.tools.segment.click
        for key, call in calls.items():
            with suppress(ValueError):  # another plugin has it: it keeps it
                self.viewer.bind_key(key, lambda _, call=call: call())

    # What the buttons do.

    def start(self) -> None:
        """Open a session on the chosen image; on one that has a session, with the chosen model and the same steps."""
        layer, model = self.image.currentData(), self.model.currentText() or None
        if layer is None:
            raise OncoSegError("there is no image to segment: open one first, from File or from the sample data")
        if layer in self.opened:
            session = self.opened[layer].session
            session.open(self._server(), model, session.steps, session.undone)
        else:
            self._open(layer).session.open(self._server(), model)
            self.add()
        self._view()

    def _open(self, layer: Image) -> Opened:
        axes, voxels = image_of(layer)
        straighten(layer)
        session = ImageSession(axes, voxels, layer.name, series=layer.metadata.get("oncoseg", {}).get("series"))
        session.changed.connect(lambda _: self._refresh())
        session.failed.connect(self._failed)
        session.busy.connect(partial(self._busy, layer))
        prompts, masks = PromptLayers(self.viewer, layer, session), StructureLayers(self.viewer, layer, session)
        prompts.refused.connect(self.say)
        self.opened[layer] = Opened(session, prompts, masks)
        return self.opened[layer]

    def add(self) -> None:
        """Add a structure by the name that was typed, or by a number, and make it the active one."""
        taken, name, number = self._names(), self.name.text().strip(), 1
        while not name or name in taken:
            name, number = f"{self.name.text().strip() or 'structure'} {number}", number + 1
        self._current.new.append(name)
        self._current.masks.layer_of(name)  # to paint on, and of a colour
        self.name.clear()
        self._refresh(active=name)

    def remove(self) -> None:
        """Take the active structure out."""
        name, opened = self.table.active, self._current
        if name in opened.session.structures:
            opened.session.remove(name)
        opened.new = [one for one in opened.new if one != name]
        self._refresh()

    def propagate(self) -> None:
        """Follow the active structure."""
        self._current.session.propagate(self.table.active)

    def undo(self) -> None:
        """Take the last step back."""
        self._current.session.undo()

    def redo(self) -> None:
        """Take it again."""
        self._current.session.redo()

    def cancel(self) -> None:
        """Stop the server."""
        self._current.session.cancel()

    def retry(self) -> None:
        """Ask again."""
        self.buttons["retry"].hide()
        self._current.session.retry()

    def _use(self, tool: Tool | None) -> None:
        opened = self._current
        if tool is not None and tool.kind == "brush":
            layer = opened.masks.layer_of(self.table.active)
            self.viewer.layers.selection.active = layer
            layer.mode = "paint"
        else:
            opened.prompts.use(tool and tool.kind, positive=tool is None or tool.positive)

    def prompt_text(self, text: str, first: int, last: int) -> None:
        """Prompt the active structure by a text on slices, ends included."""
        for index in range(first, last + 1):
            self._current.session.prompt(self.table.active, index, text=text)

    def choose_file(self) -> None:
        """Let the user say where to export to, and do it."""
        path, kind = QtWidgets.QFileDialog.getSaveFileName(self, "Export", "", ";;".join(FORMATS))
        if path:
            self.export(path, FORMATS[kind])

    def export(self, path: str, file_format: str) -> None:
        """Write what the layers show, and say what there is to know of it."""
        layer, opened = self.image.currentData(), self._current
        masks = {name: opened.masks.layer_of(name).data != 0 for name in opened.session.structures}
        colours = {name: opened.masks.colour(name) for name in masks}
        write = importlib.import_module("oncoseg_napari.writing").export
        self._behind("exporting", partial(write, layer, masks, path, file_format, colours=colours),
                     lambda notes: self.say(" ".join([f"exported to {path}.", *notes])))  # fmt: skip

    def save(self) -> None:
        """Let the server write the structures to where its series is."""
        self._current.session.save(["seg", "rtstruct", "sr"], lambda _: self.say("saved to the server, and read back"))

    def choose_series(self) -> None:
        """List the server's series, and open the one that the user chooses."""
        connect = self._server()

        def listed() -> dict[str, dict[str, Any]]:
            server, found = connect(), dict[str, dict[str, Any]]()
            for source in server.info()["sources"]:
                for one in server.series(source["name"]):
                    title = f"{source['name']}: {one['modality']}, {one['instances']} images, {one['description']}"
                    found[f"{len(found) + 1}. {title}"] = {"source": source["name"], **one}
            return found

        def choose(found: dict[str, dict[str, Any]]) -> None:
            title, taken = QtWidgets.QInputDialog.getItem(self, "OncoSeg", "Series", list(found), 0, editable=False)
            if taken:
                self.open_series(connect, found[title])

        self._behind("asking for the series", listed, choose)

    def open_series(self, connect: Callable[[], Server], one: dict[str, Any]) -> None:
        """Get a series' voxels as an image layer; a session on it is one on the server's own series."""
        series = {key: one[key] for key in ("source", "study_uid", "series_uid")}

        def fetched() -> Any:
            with connect().open(**series) as session:
                return session.voxels()

        def add(voxels: Any) -> None:
            metadata = {"oncoseg": {"series": series, "modality": voxels.modality, "slice_axis": 0}}
            self.viewer.add_image(
                voxels.array, name=one["description"] or "series", affine=layer_affine(voxels.affine), metadata=metadata
            )

        self._behind("fetching the series", fetched, add)

    def restore(self) -> None:
        """Open the images of unfinished sessions again, with their steps."""
        for saved in self.unfinished:
            (layer, *_) = self.viewer.open(saved.path, plugin="oncoseg-napari")
            self._open(layer).session.open(self._server(), saved.model, saved.steps, saved.undone)
        self.unfinished = []
        self._refresh()

    def discard(self) -> None:
        """Delete the unfinished sessions."""
        for saved in self.unfinished:
            saved.discard()
        self.unfinished = []
        self._refresh()

    # What the widget shows.

    def say(self, sentence: str) -> None:
        """Show one sentence."""
        self.status.setText(sentence)

    def reset_choices(self, _event: object = None) -> None:
        """Offer the window's images; napari calls this where its layers change."""
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        for gone in self.opened.keys() - set(layers):
            opened = self.opened.pop(gone)
            opened.session.close()
        chosen = self.image.currentData()
        with QSignalBlocker(self.image):
            self.image.clear()
            for layer in layers:
                self.image.addItem(layer.name, layer)
            self.image.setCurrentIndex(max(0, self.image.findText(chosen.name)) if chosen in layers else 0)
        self._refresh()

    @property
    def _current(self) -> Opened:
        """What belongs to the chosen image."""
        try:
            return self.opened[self.image.currentData()]
        except KeyError:
            raise OncoSegError("start a session on the image first") from None

    def _names(self) -> list[str]:
        opened = self._current
        return [*opened.session.structures, *(name for name in opened.new if name not in opened.session.structures)]

    def _refresh(self, active: str | None = None) -> None:
        """Bring all controls up to date with the chosen image's session."""
        opened = self.opened.get(self.image.currentData())
        remote = self.where.currentIndex() == 1
        for part in (self.address, self.token, self.buttons["choose_series"]):
            part.setVisible(remote)
        self.offer.setText(f"{len(self.unfinished)} unfinished session{'s' if len(self.unfinished) > 1 else ''}:")
        for part in (self.offer, self.buttons["restore"], self.buttons["discard"]):
            part.setVisible(bool(self.unfinished))
        for name in ("add", "remove", "propagate", "undo", "redo", "choose_file", "save"):
            self.buttons[name].setEnabled(opened is not None)
        self.buttons["start"].setText("Start again" if opened else "Start")
        if opened is None:
            self.tools.allow((), "Start a session first")
            self.table.fill([], "")
            return
        session, masks, active = opened.session, opened.masks, active or self.table.active
        self.tools.allow(session.prompt_kinds, session.model or "the model", session.axes.shape[0])
        rows = []
        for name in self._names():
            visible = getattr(masks.known(name), "visible", True)
            rows.append(Row(name, QColor(masks.colour(name)), visible, session.structures.get(name)))
        self.table.fill(rows, active if active in self._names() else next(iter(self._names()), ""))
        opened.prompts.active, opened.prompts.live = self.table.active, self.tools.live.isChecked()
        opened.prompts.redraw()
        self.buttons["undo"].setEnabled(session.can_undo)
        self.buttons["redo"].setEnabled(session.can_redo)
        self.buttons["save"].setEnabled(session.series is not None)
        self.notice.setText(session.notice or "")
        if session.models and not self.model.count():
            self.model.addItems(session.models)
        self.measures.setText("<br>".join(_sentences(session.structures.get(self.table.active), session.findings)))

    def _set_visible(self, name: str, visible: bool) -> None:
        self._current.masks.layer_of(name).visible = visible

    def _busy(self, layer: Image, what: str, done: int, total: int) -> None:
        if layer is self.image.currentData():
            self.progress.setVisible(bool(what))
            self.buttons["cancel"].setVisible(bool(what))
            self.progress.setRange(0, total)
            self.progress.setValue(done)
            self.progress.setFormat(f"{what}: %v of %m")
            self.say(f"{what} …" if what else "")

    def _failed(self, why: str) -> None:
        self.buttons["retry"].show()
        self.say(why)

    def _view(self, _event: object = None) -> None:
        """Have the slice encoded that is looked at."""
        layer = self.image.currentData()
        if layer in self.opened:
            session = self.opened[layer].session
            index = int(session.axes.pixels(layer.world_to_data(self.viewer.dims.point))[0][0])
            if 0 <= index < session.axes.shape[0]:
                session.view(index)

    def _server(self) -> Callable[[], Server]:
        address = self.address.text().strip() if self.where.currentIndex() == 1 else ""
        return partial(self.servers.connect, address, self.token.text())

    def _safely(self, call: Callable[..., object], *args: object) -> None:
        """Call, and say in one sentence what went wrong."""
        try:
            call(*args)
        except (OncoSegError, ServerError, OSError, ValueError) as error:
            self.say(str(error))
        except Exception as error:  # noqa: BLE001 - no traceback window, and nothing is lost
            self.say(_unexpected(error))

    def _behind(self, what: str, call: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call on a thread, then go on with the result on this one."""

        def work() -> None:
            try:
                result = call()
            except (OncoSegError, ServerError, OSError, ValueError) as error:
                sentence = str(error)
                self._worker.say(lambda: self.say(sentence))
            except Exception as error:  # noqa: BLE001 - as in _safely
                sentence = _unexpected(error)
                self._worker.say(lambda: self.say(sentence))
            else:
                self._worker.say(lambda: self._safely(then, result))

        self.say(f"{what} …")
        self._worker.do(work)


def _row(parts: tuple[QtWidgets.QWidget, ...]) -> QtWidgets.QHBoxLayout:
    row = QtWidgets.QHBoxLayout()
    for part in parts:
        row.addWidget(part)
    return row


def _unexpected(error: Exception) -> str:
    log.error("unexpected: %s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
    return f"that did not work, by a fault of OncoSeg ({type(error).__name__}); your prompts and edits are kept"


def _sentences(structure: dict[str, Any] | None, findings: list[str]) -> list[str]:
    lines = []
    if structure is not None:
        if structure["long"] is not None:
            short = structure["short"]
            across = "" if short is None else f" × {short['mm']:.1f}"
            lines.append(f"<b>{structure['long']['mm']:.1f}{across} mm</b> on slice {structure['diameter_slice']}")
        if structure["volume_ml"] is not None:
            lines.append(f"volume <b>{structure['volume_ml']:.2f} mL</b>")
        if structure["mean"] is not None:
            lines.append(f"mean {structure['mean']:.1f} {structure['unit'] or ''}")
        lines = [", ".join(lines), *structure["findings"]] if lines else structure["findings"]
    return [*lines, *findings]


def _end(opened: dict[Image, Opened], servers: Servers) -> None:
    for one in opened.values():
        one.session.close()
    servers.stop()
