"""The Slicer module OncoSeg: prompts as markups, masks as segments, everything computed by an OncoSeg server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

POLL_MS = 50
ADDRESS = "http://127.0.0.1:8765"
PLACES = {  # by button: the markups that it places, and whether they are of the structure
    "click": ("vtkMRMLMarkupsFiducialNode", True),
    "clickNot": ("vtkMRMLMarkupsFiducialNode", False),
    "box": ("vtkMRMLMarkupsROINode", True),
    "lasso": ("vtkMRMLMarkupsClosedCurveNode", True),
    "scribble": ("vtkMRMLMarkupsCurveNode", True),
}


class OncoSeg(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "OncoSeg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The OncoSeg contributors"]
        parent.helpText = "Segments cancer images on an OncoSeg server. Research software without clinical clearance."
        parent.acknowledgementText = "Each model has a licence of its own, which is shown when a session starts."


@parameterNodeWrapper
class OncoSegParameterNode:
    """What is kept with the scene; the token is not."""

    volume: slicer.vtkMRMLVolumeNode
    markups: slicer.vtkMRMLMarkupsNode
    address: str = ADDRESS


def require_client() -> bool:
    """Whether the client can be imported; asks before anything is installed."""
    try:
        import oncoseg_client  # noqa: F401
    except ImportError:
        question = "OncoSeg needs the Python packages oncoseg-client and httpx (about 1 MB). Install them now?"
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle="OncoSeg"):
            return False
        checkout = Path(__file__).resolve().parents[2] / "oncoseg-client"
        slicer.util.pip_install([str(checkout)] if checkout.is_dir() else "oncoseg-client")
    return True


class OncoSegLogic(ScriptedLoadableModuleLogic):
    """One session a volume; the work is in :mod:`oncoseg_slicer`."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, Any] = {}
        self._servers: Any = None

    def getParameterNode(self) -> OncoSegParameterNode:  # noqa: N802 - Slicer's name
        """The wrapped parameter node."""
        return OncoSegParameterNode(super().getParameterNode())

    def session(self, volume: Any) -> Any:
        """The session of a volume, None where it has none."""
        return None if volume is None else self.sessions.get(volume.GetID())

    def start(self, volume: Any, address: str, token: str, model: str | None) -> Any:
        """Open a session on a volume, or the one that it has again with another model."""
        from oncoseg_client import Server, Servers
        from oncoseg_slicer.logic import SessionLogic
        from oncoseg_slicer.volumes import RefusedError

        if volume is None:
            raise RefusedError("there is no volume to segment: load one first")
        if not address:
            raise RefusedError(f"type the server's address first, such as {ADDRESS}")
        url = address if "://" in address else f"http://{address}"
        logic = self.session(volume)
        logic = SessionLogic(slicer.mrmlScene, volume) if logic is None else logic.again()
        self.sessions[volume.GetID()] = logic
        servers = self._servers = self._servers or Servers()
        connect: Callable[[], Server] = lambda: servers.connect(url, token or os.environ.get("ONCOSEG_TOKEN"))  # noqa: E731
        logic.open(connect, model, series_uid=self.series_of(volume))
        return logic

    @staticmethod
    def series_of(volume: Any) -> str | None:
        """The DICOM series that a volume was loaded from, as Slicer's database knows it."""
        instances = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
        database = getattr(slicer, "dicomDatabase", None)
        if not instances or database is None:
            return None
        return str(database.instanceValue(instances[0], "0020,000e")) or None

    def close_removed(self) -> None:
        """End the sessions of volumes that are no longer in the scene."""
        for key, logic in list(self.sessions.items()):
            if logic.volume.GetScene() is None:
                self.sessions.pop(key).close()

    def close(self) -> None:
        """End all sessions."""
        for logic in self.sessions.values():
            logic.close()
        self.sessions.clear()
        if self._servers is not None:
            self._servers.stop()


class OncoSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: it shows what the logic knows, and says in one sentence what went wrong."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: OncoSegLogic | None = None
        self._models: list[str] = []

    def setup(self) -> None:
        """Slicer calls this when the module is shown for the first time."""
        super().setup()
        panel = slicer.util.loadUI(self.resourcePath("UI/OncoSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = OncoSegLogic()
        parameters = self.logic.getParameterNode()
        self.ui.address.text = parameters.address
        self.ui.volume.setCurrentNode(parameters.volume)
        self.ui.address.connect("textChanged(QString)", self._keep_address)
        self.ui.volume.connect("currentNodeChanged(vtkMRMLNode*)", self._choose_volume)
        self.ui.structure.connect("currentTextChanged(QString)", lambda _: self.refresh())
        for name in (
            *("start", "prompt", "promptText", "takeEdits", "propagate", "undo"),
            *("redo", "remove", "cancel", "retry", "save"),
        ):
            getattr(self.ui, name).connect("clicked()", lambda name=name: self.safely(getattr(self, f"on_{name}")))
        for name in PLACES:
            getattr(self.ui, name).connect("clicked()", lambda name=name: self.safely(self.place, name))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, lambda *_: self._close())
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.poll)
        self.timer.start()
        self.refresh()

    def cleanup(self) -> None:
        """Slicer calls this when the module is closed."""
        self.timer.stop()
        self.removeObservers()
        self._close()

    # What the buttons do.

    def on_start(self) -> None:
        """Open the session."""
        if not require_client():
            self.say("the client is not installed; nothing was sent anywhere")
            return
        model = self.ui.model.currentText or None
        self._logic.start(self.ui.volume.currentNode(), self.ui.address.text.strip(), self.ui.token.text, model)
        slices = self._session.segments.grid.shape[0]
        for spin in (self.ui.first, self.ui.last):
            spin.maximum = slices - 1
        self.refresh()

    def place(self, button: str) -> None:
        """Let the user place markups of a kind; points are prompts as they are placed."""
        kind, positive = PLACES[button]
        self._session  # noqa: B018 - raises where there is none
        node = slicer.mrmlScene.AddNewNodeByClass(
            kind, slicer.mrmlScene.GenerateUniqueName(f"{self.structure} {button}")
        )
        node.CreateDefaultDisplayNodes()
        self.ui.markups.setCurrentNode(node)
        self.ui.negative.checked = not positive
        if kind == "vtkMRMLMarkupsFiducialNode":
            self.addObserver(
                node, node.PointPositionDefinedEvent, lambda *_: self.safely(self._clicked, node, positive)
            )
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetReferenceActivePlaceNodeClassName(kind)
        selection.SetActivePlaceNodeID(node.GetID())
        slicer.app.applicationLogic().GetInteractionNode().SetCurrentInteractionMode(
            slicer.vtkMRMLInteractionNode.Place
        )

    def _clicked(self, node: Any, positive: bool) -> None:
        self._session.prompt_last_point(self.structure, node, positive=positive)

    def on_prompt(self) -> None:
        """Prompt with the chosen markups."""
        from oncoseg_slicer.volumes import RefusedError

        node = self.ui.markups.currentNode()
        if node is None:
            raise RefusedError("choose or place markups first")
        self._session.prompt(
            self.structure, node, positive=not self.ui.negative.checked, exemplar=self.ui.exemplar.checked
        )

    def on_promptText(self) -> None:  # noqa: N802 - as its button
        """Prompt with the text."""
        first, last = sorted((self.ui.first.value, self.ui.last.value))
        self._session.prompt_text(self.structure, self.ui.text.text, range(first, last + 1))

    def on_takeEdits(self) -> None:  # noqa: N802 - as its button
        """Take what the Segment Editor changed."""
        if not self._session.take_edits(self.structure):
            self.say(f"{self.structure}: the segment is as the session knows it")

    def on_propagate(self) -> None:
        """Follow the structure."""
        self._session.propagate(self.structure)

    def on_undo(self) -> None:
        """Take the last step back."""
        self._session.undo()

    def on_redo(self) -> None:
        """Take it again."""
        self._session.session.redo()

    def on_remove(self) -> None:
        """Take the structure out."""
        self._session.remove(self.structure)

    def on_cancel(self) -> None:
        """Stop the server."""
        self._session.session.cancel()

    def on_retry(self) -> None:
        """Ask again."""
        self._session.session.retry()

    def on_save(self) -> None:
        """Let the server write SEG, RTSTRUCT and SR."""
        self._session.save(lambda _: self.say("saved to the server, and read back"))

    # What the panel shows.

    @property
    def structure(self) -> str:
        """The name that prompts are for."""
        return str(self.ui.structure.currentText).strip()

    @property
    def _logic(self) -> OncoSegLogic:
        assert self.logic is not None  # noqa: S101 - setup made it
        return self.logic

    @property
    def _session(self) -> Any:
        logic = self._logic.session(self.ui.volume.currentNode())
        if logic is None:
            from oncoseg_slicer.volumes import RefusedError

            raise RefusedError("start a session on the volume first")
        return logic

    def say(self, sentence: str) -> None:
        """Show one sentence."""
        self.ui.status.text = sentence

    def safely(self, call: Callable[..., object], *arguments: object) -> None:
        """Call, and say in one sentence what went wrong."""
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - no traceback window, and nothing is lost
            expected = type(error).__name__ in {"RefusedError", "ServerError"}
            self.say(str(error) if expected else f"that did not work, by a fault of OncoSeg ({type(error).__name__})")
        self.refresh()

    def poll(self) -> None:
        """Bring what came back onto the scene."""
        self._logic.close_removed()
        for logic in list(self._logic.sessions.values()):
            try:
                some = logic.poll()
            except Exception as error:  # noqa: BLE001 - of a timer nobody sees a traceback
                self.say(f"an answer could not be drawn, by a fault of OncoSeg ({type(error).__name__})")
                continue
            if some:
                self.refresh()

    def refresh(self) -> None:
        """Bring all controls up to date."""
        logic = self._logic.session(self.ui.volume.currentNode())
        for name in (*PLACES, "prompt", "promptText", "takeEdits", "propagate", "remove"):
            getattr(self.ui, name).enabled = logic is not None
        self.ui.start.text = "Start" if logic is None else "Start again"
        session = None if logic is None else logic.session
        what, done, total = ("", 0, 0) if logic is None else logic.busy
        for part in (self.ui.progress, self.ui.cancel):
            part.visible = bool(what)
        self.ui.progress.maximum, self.ui.progress.value = total, done
        self.ui.retry.visible = logic is not None and logic.waits
        self.ui.undo.enabled = session is not None and session.can_undo
        self.ui.redo.enabled = session is not None and session.can_redo
        self.ui.save.enabled = session is not None and session.series is not None
        if session is None:
            return
        from oncoseg_client import sentences_of

        if logic.sentence or what:
            self.say(logic.sentence or f"{what} …")
        if session.models and list(session.models) != self._models:  # the first server, or another one
            self._models = list(session.models)
            self.ui.model.clear()
            self.ui.model.addItems(self._models)
        for name in session.structures:
            if self.ui.structure.findText(name) < 0:
                self.ui.structure.addItem(name)
        lines = sentences_of(session.structures.get(self.structure), session.findings)
        self.ui.measures.text = "\n".join([*lines, *([session.notice] if session.notice else [])])

    def _keep_address(self, address: str) -> None:
        self._logic.getParameterNode().address = address

    def _choose_volume(self, volume: Any) -> None:
        self._logic.getParameterNode().volume = volume
        self.refresh()

    def _close(self) -> None:
        if self.logic is not None:
            self.logic.close()


class OncoSegTest(ScriptedLoadableModuleTest):
    """Slicer's own test of the module: that it opens, and refuses in a sentence where no volume is loaded."""

    def runTest(self) -> None:  # noqa: N802 - Slicer's name
        """What the button "Reload and Test" runs."""
        slicer.mrmlScene.Clear()
        widget = slicer.modules.oncoseg.widgetRepresentation().self()
        widget.safely(widget.on_prompt)
        assert widget.ui.status.text  # noqa: S101
        vtk.vtkObject.GlobalWarningDisplayOn()
