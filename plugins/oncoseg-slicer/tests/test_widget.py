"""The panel against a stand-in for Qt that knows no other names than the real classes have; no Slicer ran it."""

import importlib.util
import sys
import types
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

SOURCE = Path(__file__).parents[1] / "src"
UI = ET.parse(SOURCE / "Resources" / "UI" / "OncoSeg.ui")
COMMON = {"enabled", "visible", "toolTip"}
CLASSES = {
    "QPushButton": (COMMON | {"text"}, {"clicked()"}, set()),
    "QLineEdit": (COMMON | {"text"}, {"textChanged(QString)", "returnPressed()"}, set()),
    "QComboBox": (
        COMMON | {"currentText", "count"},
        {"currentTextChanged(QString)"},
        {"addItem", "addItems", "clear", "findText"},
    ),
    "QCheckBox": (COMMON | {"checked"}, {"toggled(bool)"}, set()),
    "QSpinBox": (COMMON | {"value", "maximum", "minimum"}, {"valueChanged(int)"}, set()),
    "QLabel": (COMMON | {"text"}, set(), set()),
    "QProgressBar": (COMMON | {"value", "maximum", "minimum"}, set(), set()),
    "qMRMLNodeComboBox": (COMMON, {"currentNodeChanged(vtkMRMLNode*)"}, {"currentNode", "setCurrentNode"}),
    "qMRMLWidget": (COMMON, {"mrmlSceneChanged(vtkMRMLScene*)"}, {"setMRMLScene"}),
}
"""Properties, signals and methods as Qt and Slicer document them, of what the panel is made of."""


class Part:
    """A widget of the .ui file: reading or writing anything that its class does not have fails."""

    def __init__(self, kind):
        object.__setattr__(self, "kind", kind)
        first = {
            "text": "",
            "currentText": "",
            "checked": False,
            "value": 0,
            "maximum": 99,
            "enabled": True,
            "visible": True,
        }
        object.__setattr__(self, "values", first)
        object.__setattr__(self, "slots", {})
        object.__setattr__(self, "items", [])
        object.__setattr__(self, "node", None)

    def __getattr__(self, name):
        properties, _, methods = CLASSES[self.kind]
        if name == "count" and name in properties:
            return len(self.items)
        if name in properties:
            return self.values[name]
        assert name in methods, f"{self.kind} has no {name}"
        return {"addItem": self.items.append, "addItems": self.items.extend, "findText": self._find, "clear": self.items.clear, "setMRMLScene": lambda _: None,
                "currentNode": lambda: self.node, "setCurrentNode": self._set_node}[name]  # fmt: skip

    def __setattr__(self, name, value):
        assert name in CLASSES[self.kind][0] - {"count"}, f"{self.kind} has no property {name}"
        self.values[name] = value
        for signal in (f"{name}Changed(QString)", f"{name}Changed(int)"):
            for slot in self.slots.get(signal, ()):
                slot(value)

    def connect(self, signal, slot):
        assert signal in CLASSES[self.kind][1], f"{self.kind} has no signal {signal}"
        self.slots.setdefault(signal, []).append(slot)

    def click(self):
        assert self.values["enabled"]
        for slot in self.slots["clicked()"]:
            slot()

    def _find(self, text):
        return self.items.index(text) if text in self.items else -1

    def _set_node(self, node):
        object.__setattr__(self, "node", node)
        for slot in self.slots.get("currentNodeChanged(vtkMRMLNode*)", ()):
            slot(node)


class Timer:
    """QTimer."""

    def setInterval(self, ms):
        assert 0 < ms <= 100

    def connect(self, signal, slot):
        assert signal == "timeout()"
        self.slot = slot

    def start(self):
        self.on = True

    def stop(self):
        self.on = False


def parameter_node(wrapped):
    """The decorator: values by annotation, kept in the node that it wraps, of the declared types only."""

    class Wrapped:
        def __init__(self, node):
            object.__setattr__(self, "_node", node)

        def __getattr__(self, name):
            assert name in wrapped.__annotations__
            return self._node.setdefault(name, getattr(wrapped, name, None))

        def __setattr__(self, name, value):
            assert name in wrapped.__annotations__
            self._node[name] = value

    return Wrapped


@pytest.fixture
def module(slicer, scene, monkeypatch):
    parts = {part.get("name"): Part(part.get("class")) for part in UI.iter("widget")}
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")

    class Base:
        def __init__(self, parent=None):
            self.parent = parent

    class Widget(Base):
        def setup(self):
            self.layout = types.SimpleNamespace(addWidget=lambda _: None)

        def resourcePath(self, name):
            assert (SOURCE / "Resources" / name).is_file()
            return str(SOURCE / "Resources" / name)

    class Logic:
        def __init__(self):
            self.node = {}

        def getParameterNode(self):
            return self.node

    scripted.ScriptedLoadableModule = Base
    scripted.ScriptedLoadableModuleWidget = Widget
    scripted.ScriptedLoadableModuleLogic = Logic
    scripted.ScriptedLoadableModuleTest = Base
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper = parameter_node
    qt = types.ModuleType("qt")
    qt.QTimer = Timer
    for name, stand_in in {"qt": qt, scripted.__name__: scripted, wrapper.__name__: wrapper}.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(slicer.util, "loadUI", lambda _: parts["OncoSeg"], raising=False)
    monkeypatch.setattr(slicer.util, "childWidgetVariables", lambda _: types.SimpleNamespace(**parts), raising=False)
    selection, interaction = (scene.AddNewNodeByClass(f"vtkMRML{name}Node") for name in ("Selection", "Interaction"))
    logic = types.SimpleNamespace(GetSelectionNode=lambda: selection, GetInteractionNode=lambda: interaction)
    monkeypatch.setattr(slicer, "app", types.SimpleNamespace(applicationLogic=lambda: logic), raising=False)
    spec = importlib.util.spec_from_file_location("OncoSeg", SOURCE / "OncoSeg.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "OncoSeg", loaded)
    spec.loader.exec_module(loaded)
    return loaded


class Session:
    """What the panel asks of :class:`oncoseg_client.QueuedSession`."""

    def __init__(self):
        self.asked, self.structures, self.findings, self.models = [], {}, ["leans"], ("toy",)
        self.notice, self.series, self.can_undo, self.can_redo = "a licence", None, True, False

    def __getattr__(self, name):
        assert name in {"redo", "cancel", "retry"}
        return lambda *arguments: self.asked.append((name, *arguments))


class Logic:
    """What it asks of :class:`oncoseg_slicer.logic.SessionLogic`."""

    def __init__(self, volume, segments):
        self.volume = volume
        self.session, self.segments = Session(), segments
        self.busy, self.sentence, self.waits, self.asked = ("", 0, 0), "", False, []

    def poll(self):
        return True

    def open(self, connect, model, series_uid=None):
        self.connect = connect

    def close(self):
        self.asked.append(("close",))

    def __getattr__(self, name):
        assert name in {
            "prompt",
            "prompt_last_point",
            "prompt_text",
            "take_edits",
            "propagate",
            "undo",
            "remove",
            "save",
        }
        return lambda *arguments, **more: self.asked.append((name, *arguments, *more.items()))


@pytest.fixture
def volume(add_volume):
    return add_volume(np.zeros((5, 6, 7), np.int16), np.diag([0.5, 0.5, 2.5, 1.0]))


@pytest.fixture
def widget(module):
    widget = module.OncoSegWidget(None)
    widget.setup()
    yield widget
    widget.cleanup()
    assert widget.timer.on is False


@pytest.fixture
def started(widget, volume, monkeypatch):
    import oncoseg_slicer.logic

    monkeypatch.setattr(
        oncoseg_slicer.logic,
        "SessionLogic",
        lambda scene, node: Logic(node, types.SimpleNamespace(grid=types.SimpleNamespace(shape=(5, 6, 7)))),
    )
    widget.ui.volume.setCurrentNode(volume)
    widget.ui.structure.currentText = "tumour"
    widget.ui.start.click()
    widget.made = widget.logic.session(volume)
    return widget


def test_every_control_has_a_tooltip_and_a_name_of_its_own():
    for part in UI.iter("widget"):
        if part.get("class") != "qMRMLWidget":
            (tip,) = [one for one in part.findall("property") if one.get("name") == "toolTip"]
            assert tip.findtext("string")
    names = [part.get("name") for part in UI.iter("widget")]
    assert len(set(names)) == len(names)
    assert {part.get("class") for part in UI.iter("widget")} <= CLASSES.keys()


def test_the_files_that_slicer_installs_are_there():
    text = (SOURCE / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", "OncoSeg")
    listed = {word for word in text.split() if word.endswith((".py", ".ui", ".svg"))}
    assert listed == {
        "OncoSeg.py", "Resources/UI/OncoSeg.ui", "Resources/Icons/OncoSeg.svg",
        *(f"oncoseg_slicer/{path.name}" for path in (SOURCE / "oncoseg_slicer").glob("*.py")),
    }  # fmt: skip
    assert all((SOURCE / name).is_file() for name in listed)


def test_without_a_session_nothing_but_start_can_be_pressed_and_says_what_is_missing(widget):
    assert not widget.ui.prompt.enabled
    assert not widget.ui.undo.enabled
    widget.ui.start.click()
    assert "load one first" in widget.ui.status.text


def test_start_asks_before_it_installs_and_sends_nothing_without_the_client(widget, slicer, monkeypatch):
    asked, installed = [], []
    monkeypatch.setitem(sys.modules, "oncoseg_client", None)
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, windowTitle: asked.append(text) or False, raising=False
    )
    monkeypatch.setattr(slicer.util, "pip_install", installed.append, raising=False)
    widget.ui.start.click()
    assert "oncoseg-client" in asked[0]
    assert installed == []
    assert "nothing was sent" in widget.ui.status.text


def test_each_button_asks_for_what_it_says(started, scene):
    ui, logic = started.ui, started.made
    assert ui.last.maximum == 4
    ui.text.text, ui.first.value, ui.last.value = "liver", 4, 2
    ui.promptText.click()
    assert logic.asked[-1] == ("prompt_text", "tumour", "liver", range(2, 5))
    ui.prompt.click()
    assert "place markups first" in ui.status.text
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "roi")
    ui.markups.setCurrentNode(node)
    ui.exemplar.checked = True
    ui.prompt.click()
    assert logic.asked[-1] == ("prompt", "tumour", node, ("positive", True), ("exemplar", True))
    ui.takeEdits.click()
    ui.propagate.click()
    assert [one[0] for one in logic.asked[-2:]] == ["take_edits", "propagate"]
    for name in ("undo", "remove", "cancel", "retry"):
        getattr(ui, name).click()
    assert [one[0] for one in logic.asked[-2:]] == ["undo", "remove"]
    assert [one[0] for one in logic.session.asked] == ["cancel", "retry"]
    assert not ui.redo.enabled
    assert not ui.save.enabled
    logic.session.series = {"source": "scans"}
    started.poll()
    ui.save.click()
    assert logic.asked[-1][0] == "save"
    logic.asked[-1][1]({})
    assert "read back" in ui.status.text


def test_a_placed_point_is_a_prompt_at_once(started, scene):
    import vtk

    started.ui.clickNot.click()
    node = started.ui.markups.currentNode()
    assert node.GetClassName() == "vtkMRMLMarkupsFiducialNode"
    node.AddControlPointWorld(vtk.vtkVector3d(0, 0, 0))
    node.InvokeEvent(node.PointPositionDefinedEvent)
    assert started.made.asked[-1] == ("prompt_last_point", "tumour", node, ("positive", False))
    for name, kind in (("box", "ROI"), ("lasso", "ClosedCurve"), ("scribble", "Curve")):
        getattr(started.ui, name).click()
        assert started.ui.markups.currentNode().GetClassName() == f"vtkMRMLMarkups{kind}Node"


def test_progress_failures_measurements_and_models_are_shown(started):
    logic, ui = started.made, started.ui
    info = {"long": {"mm": 41.24}, "short": {"mm": 30.0}, "diameter_slice": 20, "volume_ml": 12.3, "mean": 31.0, "unit": "HU", "score": 0.9, "findings": ["two parts"]}  # fmt: skip
    logic.session.structures = {"tumour": info}
    logic.busy = ("following", 3, 61)
    started.poll()
    assert (ui.progress.value, ui.progress.maximum, ui.cancel.visible) == (3, 61, True)
    assert "41.2 × 30.0 mm on slice 20, 12.30 mL, mean 31.0 HU, score 0.90" in ui.measures.text
    assert ui.measures.text.endswith("two parts\nleans\na licence")
    assert ui.model.items == ["toy"]
    logic.session.models = ("other", "adapter")  # of another server
    started.poll()
    assert ui.model.items == ["other", "adapter"]
    assert ui.structure.items == ["tumour"]
    logic.busy, logic.sentence, logic.waits = ("", 0, 0), "the server cannot be reached", True
    started.poll()
    assert ui.status.text == "the server cannot be reached"
    assert ui.retry.visible
    assert not ui.cancel.visible


def test_a_fault_is_a_sentence_and_no_traceback(started, monkeypatch):
    monkeypatch.setattr(started, "on_propagate", lambda: 1 / 0)
    started.ui.propagate.click()
    assert started.ui.status.text.startswith("that did not work, by a fault of OncoSeg")


def test_the_token_is_not_kept_and_the_address_is(started, module):
    started.ui.token.text = "secret"
    started.ui.address.text = "http://10.0.0.1:8765"
    assert started.logic.getParameterNode().address == "http://10.0.0.1:8765"
    assert "secret" not in str(started.logic.node)


def test_an_address_is_completed_or_asked_for(started, volume, monkeypatch):
    import oncoseg_client

    asked = []
    monkeypatch.setattr(oncoseg_client.Servers, "connect", lambda _, url, token: asked.append((url, token)))
    monkeypatch.setenv("ONCOSEG_TOKEN", "from the environment")
    started.logic.sessions[volume.GetID()].again = lambda: started.made
    started.ui.address.text = " 10.0.0.1:8765 "
    started.ui.start.click()
    started.made.connect()
    assert asked == [("http://10.0.0.1:8765", "from the environment")]
    started.ui.address.text = " "
    started.ui.start.click()
    assert "type the server's address" in started.ui.status.text


def test_an_answer_that_cannot_be_drawn_is_a_sentence_and_the_timer_goes_on(started, monkeypatch):
    monkeypatch.setattr(started.made, "poll", lambda: 1 / 0, raising=False)
    started.timer.slot()
    assert "could not be drawn" in started.ui.status.text


def test_a_volume_that_is_deleted_ends_its_session(started, scene, volume):
    scene.RemoveNode(volume)
    started.timer.slot()
    assert started.logic.sessions == {}
    assert ("close",) in started.made.asked


def test_a_closed_scene_ends_the_sessions(started, scene):
    scene.InvokeEvent(scene.StartCloseEvent)
    assert started.logic.sessions == {}
    assert ("close",) in started.made.asked
