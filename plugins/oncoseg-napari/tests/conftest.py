"""A display of its own for the tests of the window, and one napari viewer a module.

Nothing is left in the environment of other distributions' tests that the same process runs, and the user's napari
settings are neither read nor written.
"""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

os.environ["NAPARI_CONFIG"] = ""  # settings stay in memory; napari reads this when a test's module imports it

SCREEN = "1600x1000x24"


@pytest.fixture(scope="session")
def display(tmp_path_factory):
    """What a process needs in its environment to open a window here; skips where no window can be opened."""
    pytest.importorskip("napari", reason="napari is not installed: pip install 'oncoseg-napari[test]'")
    pytest.importorskip("pytestqt", reason="pytest-qt is not installed: pip install 'oncoseg-napari[test]'")
    settings = {
        "NAPARI_CONFIG": "",
        "XDG_CONFIG_HOME": str(tmp_path_factory.mktemp("config")),
        "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")),
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "GALLIUM_DRIVER": "llvmpipe",
        "LP_NUM_THREADS": "1",
    }
    if sys.platform != "linux" or os.environ.get("DISPLAY"):
        yield settings
        return
    if not shutil.which("Xvfb"):
        pytest.skip("no DISPLAY is set and Xvfb is not installed (Debian: xvfb)")
    with virtual_display() as number:
        yield {**settings, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}


@contextlib.contextmanager
def virtual_display():
    """An Xvfb on a free display. It ends with the last window's process, since Qt has no way to lose its display."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", SCREEN, "-nolisten", "tcp", "-terminate"]
    server = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if not number:
        pytest.skip(f"Xvfb did not start (exit code {server.wait()})")
    yield number
    from qtpy.QtWidgets import QApplication

    if QApplication.instance() is None:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def qapp_args(display):
    """How pytest-qt starts Qt: it does so before any fixture of a module, so the environment is not yet set."""
    number = display.get("DISPLAY")
    return ["oncoseg-napari", *(["-platform", "xcb", "-display", number] if number else [])]


@pytest.fixture(scope="module")
def window_environment(display):
    """The environment of a window, for as long as the tests of one module run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in display.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def napari_viewer(window_environment, qapp):
    """A real viewer, not on the screen until ``viewer.show()``."""
    import napari

    viewer = napari.Viewer(show=False)
    yield viewer
    with contextlib.suppress(RuntimeError):  # closed by a test
        viewer.close()
    qapp.processEvents()


@pytest.fixture
def viewer(napari_viewer, qtbot):
    """The module's viewer with nothing in it: no layers, no docks, no keys of earlier tests."""
    yield napari_viewer
    napari_viewer.window.remove_dock_widget("all")
    napari_viewer.layers.clear()
    napari_viewer.keymap.clear()
    napari_viewer.dims.ndisplay = 2
    qtbot.wait(1)


@pytest.fixture(autouse=True)
def journal_folder(monkeypatch, tmp_path):
    """Each test has a cache folder of its own, so that none is offered the sessions of another."""
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "oncoseg"))
