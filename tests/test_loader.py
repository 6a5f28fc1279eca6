"""Plugins that are sound, broken, misspelt, contested, shadowed or switched off: real distributions, written for the test.

Each test writes ``*.dist-info`` folders and modules to a temporary folder on ``sys.path``, as an installer would.
"""

import importlib
import importlib.metadata
import itertools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from oncoseg_core import (
    AutomaticModelSpec,
    CommandSpec,
    ConfigError,
    DatasetSpec,
    ExporterSpec,
    LossSpec,
    MetricSpec,
    MissingDependencyError,
    ModelSpec,
    NormalizerSpec,
    PluginConflictError,
    PluginError,
    PromptGeneratorSpec,
    ReaderSpec,
    TrackerSpec,
    UnknownComponentError,
    UsageError,
    load_plugins,
)
from oncoseg_core.contract.hookspecs import HOOK_RECORDS
from oncoseg_core.plugins.discovery import allows

NORMALIZER = """
from oncoseg_core import NormalizerSpec, hookimpl

@hookimpl
def oncoseg_normalizers():
    yield NormalizerSpec(modality={modality!r}, factory={factory!r}, summary="for a test")
"""

HALF = np.full((1, 1, 1), 0.5, np.float32)

BEHAVIOUR = """
from oncoseg_core import Normalizer, Settings

class HalfSettings(Settings):
    factor: float = 0.5

class Half(Normalizer):
    Settings = HalfSettings

    def fit(self, voxels):
        return {}

    def apply(self, voxels, stats):
        return voxels * self.settings.factor
"""


class Site:
    """Folders on ``sys.path`` with distributions in them."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.monkeypatch = monkeypatch

    def folder(self, name="site"):
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        return folder

    def module(self, name, source, folder="site"):
        path = self.folder(folder).joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))

    def distribution(self, name, version="1.0", source=None, *, value=None, folder="site"):
        """Install ``name`` with the plugin module ``source``; without one it is no plugin."""
        info = self.folder(folder) / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nName: not this\n")
        module = name.replace("-", "_").lower() + "_plugin"
        if source is not None:
            self.module(module, source, folder)
        if source is not None or value is not None:
            points = f"[console_scripts]\nx = y:z\n\n[oncoseg]\n{name} = {value or module}\n"
            (info / "entry_points.txt").write_text(points)
        return info

    def normalizer(self, name, version="1.0", modality="ct", factory="nowhere:Nothing", folder="site"):
        return self.distribution(name, version, NORMALIZER.format(modality=modality, factory=factory), folder=folder)

    def load(self, **environment):
        """Load these distributions, and not those that are installed here."""
        importlib.invalidate_caches()
        ours = [p for p in sys.path if not any(Path(p).glob("oncoseg*.dist-info")) or Path(p).parent == self.root]
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "path", ours)
            return load_plugins(environment=environment)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield Site(tmp_path, monkeypatch)
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def only_plugin(registry):
    (plugin,) = registry.plugins
    return plugin


# Rule 1: explicit, once, de-duplicated, sorted.


def test_a_sound_plugin_is_found_and_its_behaviour_built(site):
    site.module("oncoseg_half", BEHAVIOUR)
    site.normalizer("oncoseg-half", "1.2", "thermography", "oncoseg_half:Half")
    registry = site.load()
    assert registry.versions() == {"oncoseg-half": "1.2"}
    assert [spec.modality for spec in registry.specs(NormalizerSpec)] == ["thermography"]
    assert "oncoseg_half" not in sys.modules  # behind the factory, and nobody asked
    normalizer = registry.build(NormalizerSpec, "thermography", {"factor": 0.25})
    assert normalizer.apply(HALF, {}) == 0.125
    registry.require_sound()


def test_loading_twice_gives_the_same_twice(site):
    site.normalizer("oncoseg-a")
    site.distribution("oncoseg-b", source="raise ValueError('no')")
    first, second = site.load(), site.load()
    assert first == second
    assert [plugin.status for plugin in second.plugins] == ["ok", "broken"]


@pytest.mark.parametrize("order", list(itertools.permutations(["a", "b", "c"])))
def test_the_order_of_path_and_installation_does_not_matter(site, order):
    folders = [site.folder(letter) for letter in order]
    assert sys.path[-3:] == [str(folder) for folder in folders]
    for letter in reversed(order):
        site.normalizer(f"oncoseg-{letter}", modality="same", folder=letter)
        site.normalizer(f"oncoseg-{letter}{letter}", modality=letter, folder="a")
    registry = site.load()
    imported = [name for name in sys.modules if name.startswith("oncoseg_") and name.endswith("_plugin") and "." not in name]  # fmt: skip
    assert imported == sorted(imported)
    assert len(imported) == 6
    assert [plugin.name for plugin in registry.plugins] == [f"oncoseg-{n}" for n in ("a", "aa", "b", "bb", "c", "cc")]
    assert [(c.spec.component_name, c.plugin.name) for c in registry.components] == [
        ("a", "oncoseg-aa"), ("b", "oncoseg-bb"), ("c", "oncoseg-cc"),
        ("same", "oncoseg-a"), ("same", "oncoseg-b"), ("same", "oncoseg-c"),
    ]  # fmt: skip
    assert [spec.modality for spec in registry.specs(NormalizerSpec)] == ["a", "b", "c", "same", "same", "same"]


@pytest.mark.parametrize(("first", "second"), [("1.0", "2.0"), ("2.0", "1.0")])
def test_of_two_versions_the_first_on_the_path_is_used_and_the_second_reported(site, first, second):
    for version, folder in ((first, "early"), (second, "late")):
        site.normalizer("oncoseg-twice", version, f"of-{version}", folder=folder)
    registry = site.load()
    used, shadowed = registry.plugins
    assert (used.name, used.version, used.status) == ("oncoseg-twice", first, "ok")
    assert (shadowed.name, shadowed.version, shadowed.status) == ("oncoseg-twice", second, "shadowed")
    assert f"version {first} comes first on the path" in shadowed.cause
    assert [spec.modality for spec in registry.specs(NormalizerSpec)] == [f"of-{first}"]
    assert registry.versions() == {"oncoseg-twice": first}


def test_a_plugin_behind_an_older_version_that_was_none_is_not_loaded(site):
    site.distribution("oncoseg-twice", "0.9", folder="early")
    site.normalizer("oncoseg-twice", "1.0", folder="late")
    plugin = only_plugin(site.load())
    assert (plugin.version, plugin.status) == ("1.0", "shadowed")
    assert "version 0.9 comes first" in plugin.cause


def test_the_same_version_twice_on_the_path_is_one_plugin(site):
    site.normalizer("oncoseg-same", "1.0", folder="early")
    site.normalizer("oncoseg-same", "1.0", folder="late")
    assert only_plugin(site.load()).status == "ok"


def test_names_that_differ_only_in_spelling_are_one_distribution(site):
    site.normalizer("Oncoseg_Foo.Bar", "1.0", "first", folder="early")
    site.normalizer("oncoseg-foo-bar", "2.0", "second", folder="late")
    registry = site.load()
    assert [(p.name, p.version, p.status) for p in registry.plugins] == [
        ("oncoseg-foo-bar", "1.0", "ok"),
        ("oncoseg-foo-bar", "2.0", "shadowed"),
    ]


def test_metadata_of_packages_that_are_no_plugins_is_not_read(site, monkeypatch):
    site.normalizer("oncoseg-a")
    site.distribution("numerics")
    site.distribution("drawing", value=None)
    read = []
    # The class of the backport where a library has imported that one: it takes the place of Python's own.
    kind = type(next(iter(importlib.metadata.distributions())))
    original = kind.read_text

    def recording(self, filename):
        if filename == "METADATA":
            read.append(self._path.name)
        return original(self, filename)

    monkeypatch.setattr(kind, "read_text", recording)
    site.load()
    assert set(read) == {"oncoseg_a-1.0.dist-info"}


# Rule 2: a contested name.


def test_a_contested_name_names_hook_and_both_distributions_and_drops_neither(site):
    site.module("oncoseg_half", BEHAVIOUR)
    site.normalizer("oncoseg-one", "1.1", "ct")
    site.normalizer("oncoseg-two", "2.2", "ct")
    site.normalizer("oncoseg-three", "3.3", "mri", "oncoseg_half:Half")
    registry = site.load()
    assert [plugin.status for plugin in registry.plugins] == ["ok", "ok", "ok"]
    assert [spec.modality for spec in registry.specs(NormalizerSpec)] == ["ct", "ct", "mri"]
    message = (
        "oncoseg_normalizers: the normalizer 'ct' is provided by oncoseg-one 1.1 and oncoseg-two 2.2; "
        "uninstall one, or choose with ONCOSEG_DISABLE_PLUGINS=oncoseg-two"
    )
    assert registry.conflicts() == [message]
    for ask in (lambda: registry.get(NormalizerSpec, "ct"), registry.require_sound):
        with pytest.raises(PluginConflictError) as caught:
            ask()
        assert str(caught.value) == message
    assert registry.build(NormalizerSpec, "mri").apply(HALF, {}) == 0.25
    site.load(ONCOSEG_DISABLE_PLUGINS="oncoseg-two").require_sound()


def test_two_distributions_with_one_module_contest_its_names(site):
    site.normalizer("oncoseg-original", "1.0")
    site.distribution("oncoseg-fork", "2.0", value="oncoseg_original_plugin")
    (conflict,) = site.load().conflicts()
    assert "provided by oncoseg-fork 2.0 and oncoseg-original 1.0" in conflict


def test_one_name_for_two_kinds_is_no_conflict(site):
    site.distribution(
        "oncoseg-both",
        source="""
        from oncoseg_core import LossSpec, TrackerSpec, hookimpl

        @hookimpl
        def oncoseg_losses():
            yield LossSpec(name="same", factory="a:b", summary="s")

        @hookimpl
        def oncoseg_trackers():
            yield TrackerSpec(name="same", factory="a:b", summary="s")
        """,
    )
    registry = site.load()
    registry.require_sound()
    assert isinstance(registry.get(LossSpec, "same"), LossSpec)
    assert isinstance(registry.get(TrackerSpec, "same"), TrackerSpec)


# Rules 3 and 4: a plugin that fails is recorded, and the host goes on.

HOOK = "from oncoseg_core import LossSpec, NormalizerSpec, hookimpl\n\n@hookimpl\n"
CT = 'NormalizerSpec(modality="ct", factory="a:b", summary="s")'

BROKEN = {
    "import error": ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
    "syntax error": ("def (:", "SyntaxError: "),
    "error at import": ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    "exit at import": ("import sys\nsys.exit('no GPU')", "SystemExit: no GPU"),
    "error in a hook": (
        HOOK + "def oncoseg_normalizers():\n    raise RuntimeError('bad day')\n    yield",
        "RuntimeError: bad day",
    ),
    "error after the first record": (
        HOOK + f"def oncoseg_normalizers():\n    yield {CT}\n    1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "misspelt hook": (
        HOOK + f"def oncoseg_normalisers():\n    yield {CT}",
        "there is no hook 'oncoseg_normalisers'; did you mean 'oncoseg_normalizers'?",
    ),
    "misspelt name of a renamed hook": (
        f"from oncoseg_core import NormalizerSpec, hookimpl\n@hookimpl(specname='oncoseg_normalisers')\ndef f():\n    yield {CT}",
        "there is no hook 'oncoseg_normalisers'; did you mean 'oncoseg_normalizers'?",
    ),
    "hook that is not marked": (
        f"from oncoseg_core import NormalizerSpec\ndef oncoseg_normalizers():\n    yield {CT}",
        "oncoseg_normalizers is not marked as a hook: put @hookimpl above it",
    ),
    "misspelt hook that is not marked": (
        f"from oncoseg_core import NormalizerSpec\ndef oncoseg_normalisers():\n    yield {CT}",
        "oncoseg_normalisers is not marked as a hook: put @hookimpl above it; did you mean 'oncoseg_normalizers'?",
    ),
    "hook that pluggy passes over": (
        f"from functools import cache\n{HOOK.replace('@hookimpl', '@cache')}@hookimpl\ndef oncoseg_normalizers():\n    yield {CT}",
        "oncoseg_normalizers is not marked as a hook: put @hookimpl above it",
    ),
    "hook with an argument": (
        HOOK + f"def oncoseg_normalizers(registry):\n    yield {CT}",
        "oncoseg_normalizers is declared with arguments; hooks take none: def oncoseg_normalizers()",
    ),
    "wrong record": (
        HOOK + "def oncoseg_normalizers():\n    yield LossSpec(name='x', factory='a:b', summary='s')",
        "oncoseg_normalizers yielded LossSpec; expected NormalizerSpec",
    ),
    "not a record": (
        HOOK + "def oncoseg_normalizers():\n    yield 'ct'",
        "oncoseg_normalizers yielded str; expected NormalizerSpec",
    ),
    "a record that is returned": (
        HOOK + f"def oncoseg_normalizers():\n    return {CT}",
        "oncoseg_normalizers returned NormalizerSpec; expected it to yield NormalizerSpec",
    ),
    "nothing returned": (
        HOOK + "def oncoseg_normalizers():\n    pass",
        "oncoseg_normalizers returned NoneType; expected it to yield NormalizerSpec",
    ),
    "misspelt field": (
        HOOK + "def oncoseg_normalizers():\n    yield NormalizerSpec(modalty='ct', factory='a:b', summary='s')",
        "oncoseg_normalizers: NormalizerSpec: missing key 'modality'; unknown key 'modalty'; did you mean 'modality'?",
    ),
    "value of a field": (
        HOOK + "def oncoseg_normalizers():\n    yield NormalizerSpec(modality='CT', factory='a:b', summary='s')",
        "oncoseg_normalizers: NormalizerSpec: modality = 'CT': expected small letters, digits and any of _ . + -",
    ),
    "field of a record in a record": (
        "from oncoseg_core import Target, hookimpl\n@hookimpl\ndef oncoseg_datasets():\n    yield Target(name='x', label={1})",
        "oncoseg_datasets: Target: missing key 'labels'; unknown key 'label'; did you mean 'labels'?",
    ),
    "record yielded twice": (
        HOOK + f"def oncoseg_normalizers():\n    yield {CT}\n    yield {CT}",
        "oncoseg_normalizers yields the normalizer 'ct' twice",
    ),
}


@pytest.mark.parametrize(("source", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_recorded_with_its_cause_and_the_host_goes_on(site, source, cause):
    site.distribution("oncoseg-broken", "0.3", source)
    site.module("oncoseg_half", BEHAVIOUR)
    site.normalizer("oncoseg-sound", "1.0", "mri", "oncoseg_half:Half")
    registry = site.load()
    broken, sound = registry.plugins
    assert (broken.name, broken.version, broken.status) == ("oncoseg-broken", "0.3", "broken")
    assert cause in broken.cause
    assert "\n" not in broken.cause
    assert sound.status == "ok"
    assert [c.plugin for c in registry.components] == [sound]  # nothing of the broken one, not even its first records
    assert registry.versions() == {"oncoseg-sound": "1.0"}
    assert registry.build(NormalizerSpec, "mri").apply(HALF, {}) == 0.25
    with pytest.raises(PluginError) as asked:
        registry.get(NormalizerSpec, "ct")
    assert "unknown normalizer 'ct'" in str(asked.value)
    assert f"oncoseg-broken 0.3: {broken.cause}" in str(asked.value)
    with pytest.raises(PluginError) as strict:
        registry.require_sound()
    assert f"oncoseg-broken 0.3: {broken.cause}" in str(strict.value)
    assert "--allow-broken-plugins" in str(strict.value)


def test_a_hook_may_be_implemented_under_another_name(site):
    source = f"from oncoseg_core import NormalizerSpec, hookimpl\n@hookimpl(specname='oncoseg_normalizers')\ndef f():\n    yield {CT}"
    site.distribution("oncoseg-renamed", source=source)
    assert site.load().get(NormalizerSpec, "ct").modality == "ct"


def test_a_module_that_imports_its_names_lazily_is_not_made_to(site):
    lazy = "\ndef __getattr__(name):\n    raise RuntimeError(f'asked for {name}')\n"
    site.distribution("oncoseg-lazy", source=NORMALIZER.format(modality="ct", factory="a:b") + lazy)
    assert only_plugin(site.load()).status == "ok"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("oncoseg_shapes:Plugin", "the entry point 'oncoseg_shapes:Plugin' is a type; expected a module"),
        ("oncoseg_shapes:function", "the entry point 'oncoseg_shapes:function' is a function; expected a module"),
        ("oncoseg_shapes:missing", "has no attribute 'missing'"),
        ("oncoseg_absent.plugin", "No module named 'oncoseg_absent'"),
        ("not a module", "Error"),
    ],
)
def test_an_entry_point_that_is_no_module_is_refused(site, value, cause):
    site.module("oncoseg_shapes", "class Plugin:\n    pass\n\ndef function():\n    pass\n")
    site.distribution("oncoseg-shapes", value=value)
    plugin = only_plugin(site.load())
    assert plugin.status == "broken"
    assert cause in plugin.cause


def test_damaged_installations_stop_nobody(site):
    site.normalizer("oncoseg-sound")
    (site.distribution("stranger") / "entry_points.txt").write_bytes(b"\xff\xfe[oncoseg]")
    (site.normalizer("oncoseg-nameless", "1.0", "mri") / "METADATA").unlink()
    (site.normalizer("oncoseg-binary", "1.0", "pet") / "METADATA").write_bytes(b"\xff\xfe\x00")
    (site.distribution("oncoseg-garbled") / "entry_points.txt").write_text("[oncoseg]\nnothing here\n")
    (site.folder() / "empty-1.0.dist-info").mkdir()
    (site.folder() / "file-1.0.dist-info").write_text("not a folder")
    registry = site.load()
    assert [(p.name, p.version, p.status) for p in registry.plugins] == [
        ("oncoseg-binary", "unknown", "ok"),
        ("oncoseg-garbled", "1.0", "broken"),
        ("oncoseg-nameless", "unknown", "ok"),
        ("oncoseg-sound", "1.0", "ok"),
    ]


# What is behind a factory.

FACTORIES = {
    "missing library": (
        "import no_such_library",
        "oncoseg_behind:Half",
        MissingDependencyError,
        (
            "normalizer 'ct' of oncoseg-front 1.0 needs the library 'no_such_library', which is not installed; "
            "reinstall the plugin with its dependencies: pip install oncoseg-front"
        ),
    ),
    "missing library deeper down": (
        "import json.no_such_part",
        "oncoseg_behind:Half",
        MissingDependencyError,
        "needs the library 'json.no_such_part'",
    ),
    "missing module": (
        "",
        "oncoseg_behnd:Half",
        PluginError,
        "normalizer 'ct' of oncoseg-front 1.0: its factory 'oncoseg_behnd:Half' needs 'oncoseg_behnd': no such module",
    ),
    "missing module of the plugin's own": (
        "import oncoseg_behind.tables",
        "oncoseg_behind:Half",
        PluginError,
        "its factory 'oncoseg_behind:Half' needs 'oncoseg_behind.tables': no such module",
    ),
    "missing attribute": (
        BEHAVIOUR,
        "oncoseg_behind:Halve",
        PluginError,
        "module 'oncoseg_behind' has no 'Halve'; did you mean 'Half'?",
    ),
    "error at import": (
        "raise OSError('no\\nlicence')",
        "oncoseg_behind:Half",
        PluginError,
        "normalizer 'ct' of oncoseg-front 1.0: importing 'oncoseg_behind' failed: OSError: no licence",
    ),
    "exit at import": ("raise SystemExit(3)", "oncoseg_behind:Half", PluginError, "SystemExit: 3"),
    "our own error at import": (
        "from oncoseg_core.contract.errors import ConfigError\nraise ConfigError('set it')",
        "oncoseg_behind:Half",
        ConfigError,
        "set it",
    ),
    "not a class": (
        "def Half(settings):\n    return None",
        "oncoseg_behind:Half",
        PluginError,
        "its factory 'oncoseg_behind:Half' is not a class derived from oncoseg_core.Normalizer",
    ),
    "class of another kind": (
        "from oncoseg_core.contract.interfaces import Metric as Half",
        "oncoseg_behind:Half",
        PluginError,
        "is not a class derived from oncoseg_core.Normalizer",
    ),
    "method left out": (
        "from oncoseg_core.contract.interfaces import Normalizer\nclass Half(Normalizer):\n    def fit(self, voxels):\n        return {}",
        "oncoseg_behind:Half",
        PluginError,
        "its class Half does not define apply",
    ),
}


@pytest.mark.parametrize(("source", "factory", "error", "message"), FACTORIES.values(), ids=FACTORIES)
def test_a_factory_that_fails_says_whose_it_is_and_why(site, source, factory, error, message):
    site.module("oncoseg_behind", source)
    site.normalizer("oncoseg-front", factory=factory)
    registry = site.load()
    registry.require_sound()  # nothing is imported before it is used
    with pytest.raises(error) as caught:
        registry.build(NormalizerSpec, "ct")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"facter": 1}, "settings of normalizer 'ct': unknown key 'facter'; did you mean 'factor'?"),
        ({"factor": "much"}, "settings of normalizer 'ct': factor = 'much': input should be a valid number"),
    ],
)
def test_settings_are_checked_before_anything_is_built(site, settings, message):
    site.module("oncoseg_half", BEHAVIOUR)
    site.normalizer("oncoseg-half", factory="oncoseg_half:Half")
    with pytest.raises(ConfigError) as caught:
        site.load().build(NormalizerSpec, "ct", settings)
    assert message in str(caught.value)


# Asking for what there is not.


def test_an_unknown_name_is_answered_with_the_nearest(site):
    site.normalizer("oncoseg-a", modality="mammography")
    site.normalizer("oncoseg-b", modality="dermoscopy")
    with pytest.raises(UnknownComponentError) as near:
        site.load().get(NormalizerSpec, "mammografy")
    assert str(near.value) == "unknown normalizer 'mammografy'; did you mean 'mammography'?"
    with pytest.raises(UnknownComponentError) as far:
        site.load().get(NormalizerSpec, "xyz")
    assert str(far.value) == "unknown normalizer 'xyz'; known: dermoscopy, mammography"
    with pytest.raises(UnknownComponentError) as none:
        site.load().get(LossSpec, "dice")
    assert str(none.value) == "unknown loss 'dice'; no loss is installed (oncoseg plugins lists what is)"


# Rule 5: the environment chooses.


@pytest.mark.parametrize(
    ("environment", "used"),
    [
        ({}, ["a", "b", "c"]),
        ({"ONCOSEG_PLUGINS": "oncoseg-a, Oncoseg_C"}, ["a", "c"]),
        ({"ONCOSEG_DISABLE_PLUGINS": "oncoseg.b,"}, ["a", "c"]),
        ({"ONCOSEG_PLUGINS": "oncoseg-a,oncoseg-b", "ONCOSEG_DISABLE_PLUGINS": "oncoseg-b"}, ["a"]),
        ({"ONCOSEG_PLUGINS": " "}, ["a", "b", "c"]),
    ],
)
def test_the_environment_chooses(site, environment, used):
    for letter in "abc":
        site.normalizer(f"oncoseg-{letter}", modality=letter)
    registry = site.load(**environment)
    assert [spec.modality for spec in registry.specs(NormalizerSpec)] == used
    assert [p.name[-1] for p in registry.plugins if p.status == "disabled"] == sorted({"a", "b", "c"} - set(used))
    assert list(registry.versions()) == [f"oncoseg-{letter}" for letter in used]
    registry.require_sound()


def test_a_disabled_plugin_is_not_imported_and_its_absence_explained(site):
    site.distribution("oncoseg-broken", source="raise ValueError('imported')")
    registry = site.load(ONCOSEG_DISABLE_PLUGINS="oncoseg-broken")
    assert only_plugin(registry).status == "disabled"
    with pytest.raises(UnknownComponentError, match="disabled by the environment: oncoseg-broken"):
        registry.get(NormalizerSpec, "ct")


@pytest.mark.parametrize("variable", ["ONCOSEG_PLUGINS", "ONCOSEG_DISABLE_PLUGINS"])
def test_the_environment_may_name_only_what_is_installed(site, variable):
    site.normalizer("oncoseg-modalities")
    with pytest.raises(UsageError) as caught:
        site.load(**{variable: "oncoseg-modality"})
    assert (
        str(caught.value)
        == f"{variable}: no plugin 'oncoseg-modality' is installed; did you mean 'oncoseg-modalities'?"
    )


def test_the_variables_are_those_of_the_process_by_default(site, monkeypatch):
    site.normalizer("oncoseg-a")
    monkeypatch.setenv("ONCOSEG_DISABLE_PLUGINS", "oncoseg-a")
    importlib.invalidate_caches()
    assert "oncoseg-a" not in load_plugins().versions()


# Every hook, and what is installed here.


def test_every_hook_reaches_the_registry(site):
    target = "(Target(name='t', labels={1}),)"
    common = "factory='a:b', summary='s'"
    specs = {
        "oncoseg_normalizers": f"NormalizerSpec(modality='x', {common})",
        "oncoseg_datasets": f"DatasetSpec(name='x', modalities=('ct',), targets={target}, licence='l', url='u', citation='c', {common})",
        "oncoseg_prompt_generators": f"PromptGeneratorSpec(name='x', makes=('box',), {common})",
        "oncoseg_losses": f"LossSpec(name='x', {common})",
        "oncoseg_models": f"ModelSpec(name='x', prompt_kinds=('box',), input_size=64, lora=LoraSpec(targets=('qkv',)), weights='w', {common})",
        "oncoseg_automatic_models": f"AutomaticModelSpec(name='x', weights='w', {common})",
        "oncoseg_readers": f"ReaderSpec(format='x', {common})",
        "oncoseg_exporters": f"ExporterSpec(format='x', suffix='.x', {common})",
        "oncoseg_metrics": f"MetricSpec(name='x', unit='1', better='higher', {common})",
        "oncoseg_trackers": f"TrackerSpec(name='x', {common})",
        "oncoseg_commands": f"CommandSpec(name='x', {common})",
    }
    assert list(specs) == list(HOOK_RECORDS)
    hooks = "".join(f"@hookimpl\ndef {hook}():\n    yield {record}\n\n" for hook, record in specs.items())
    site.distribution("oncoseg-all", source="from oncoseg_core import *\n\n" + hooks)
    registry = site.load()
    registry.require_sound()
    for kind in (
        NormalizerSpec, DatasetSpec, PromptGeneratorSpec, LossSpec, ModelSpec, ReaderSpec, ExporterSpec, MetricSpec,
        TrackerSpec, CommandSpec, AutomaticModelSpec,
    ):  # fmt: skip
        assert registry.get(kind, "x").component_name == "x"


def test_loading_the_installed_plugins_loads_nothing_heavy():
    program = """
        import json, sys
        import oncoseg_core
        after_import = sorted(sys.modules)
        from oncoseg_core import load_plugins
        registry = load_plugins({})
        registry.require_sound()
        print(json.dumps([after_import, sorted(sys.modules), [p.name for p in registry.plugins]]))
    """
    outcome = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=True
    )
    after_import, after_loading, plugins = json.loads(outcome.stdout)
    heavy = {"torch", "torchvision", "monai", "SimpleITK", "pydicom", "timm", "peft", "scipy", "matplotlib", "numpy"}
    assert "oncoseg_core" in after_import
    assert not heavy & set(after_import)
    assert len(plugins) >= 7  # those of this repository
    assert not heavy & set(after_loading)


def test_a_plugin_cannot_take_the_name_of_a_core_command(site):
    site.distribution(
        "taker",
        source="""
        from oncoseg_core import CommandSpec, hookimpl

        @hookimpl
        def oncoseg_commands():
            yield CommandSpec(name="doctor", factory="taker:app", summary="x")
        """,
    )
    plugin = only_plugin(site.load())
    assert (plugin.status, plugin.cause) == (
        "broken",
        "oncoseg_commands: the command 'doctor' is the core's own; choose another name",
    )


def test_the_core_commands_are_all_reserved():
    from oncoseg_core.cli.app import app
    from oncoseg_core.contract.hookspecs import CORE_COMMANDS

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands | {group.name for group in app.registered_groups} == CORE_COMMANDS


# What a plugin prints, how long it takes, and for which core it was built.


def test_what_a_plugin_prints_goes_to_standard_error_under_its_name(site, capsys):
    site.module("oncoseg_loud", "print('\\x1b[2Jimported')\n" + BEHAVIOUR)
    hook = HOOK + "def oncoseg_normalizers():\n    print('in the hook')\n    yield "
    spec = 'NormalizerSpec(modality="ct", factory="oncoseg_loud:Half", summary="s")'
    site.distribution("oncoseg-loud", "0.3", "print('hello')\n" + hook + spec)
    registry = site.load()
    registry.build(NormalizerSpec, "ct")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "plugin oncoseg-loud 0.3 prints: hello",
        "plugin oncoseg-loud 0.3 prints: in the hook",
        r"plugin oncoseg-loud 0.3 prints: \x1b[2Jimported",
    ]


def test_what_a_plugin_prints_before_it_breaks_is_not_lost(site, capsys):
    site.distribution("oncoseg-loud", "0.3", "print('about to break')\n1 / 0")
    assert only_plugin(site.load()).status == "broken"
    assert capsys.readouterr() == ("", "plugin oncoseg-loud 0.3 prints: about to break\n")


def test_a_plugin_that_slows_every_command_is_named_and_works(site):
    site.distribution(
        "oncoseg-slow", source="import time\ntime.sleep(0.6)\n" + NORMALIZER.format(modality="ct", factory="a:b")
    )
    site.normalizer("oncoseg-swift", modality="mri")
    registry = site.load()
    slow, swift = registry.plugins
    assert (slow.status, slow.cause) == ("ok", "takes more than 0.5 s to import, in every command; import heavy libraries behind the factory")  # fmt: skip
    assert swift.cause == ""
    registry.require_sound()
    assert registry.versions().keys() == {"oncoseg-slow", "oncoseg-swift"}


@pytest.mark.parametrize(
    ("requirement", "status"),
    [
        ("oncoseg-core>=0.1,<0.2", "ok"),
        ("oncoseg-core<0.2,>=0.1", "ok"),
        ("oncoseg_core[torch] (>=0.1)", "ok"),
        ("oncoseg-core", "ok"),
        ("oncoseg-core>=7; extra == 'test'", "ok"),
        ("oncoseg-core-extras>=7", "ok"),
        ("oncoseg-core>=0.2,<0.3", "incompatible"),
        ("oncoseg-core[torch]<0.1", "incompatible"),
        ("OncoSeg.Core ==7.*", "incompatible"),
        ("oncoseg-core~=7.1 ; python_version > '3'", "incompatible"),
    ],
)
def test_a_plugin_for_another_core_is_incompatible_and_not_imported(site, monkeypatch, requirement, status):
    monkeypatch.setattr("oncoseg_core.plugins.registry.CORE_VERSION", "0.1.4")
    info = site.distribution("oncoseg-other", "3.1", f"{NORMALIZER.format(modality='ct', factory='a:b')}\nLOADED = 1")
    (info / "METADATA").write_text(f"Name: oncoseg-other\nVersion: 3.1\nRequires-Dist: {requirement}\n\n")
    registry = site.load()
    plugin = only_plugin(registry)
    assert plugin.status == status
    assert ("oncoseg_other_plugin" in sys.modules) == (status == "ok")
    if status == "incompatible":
        assert "this is 0.1.4; install its version for this core" in plugin.cause
        with pytest.raises(PluginError, match="oncoseg-other 3.1: requires oncoseg-core"):
            registry.require_sound()
        with pytest.raises(
            PluginError, match="A plugin that failed to load may provide it: oncoseg-other 3.1: requires"
        ):
            registry.get(NormalizerSpec, "ct")


NUMBERS = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))


@given(
    st.lists(st.tuples(st.sampled_from((">=", "<=", "<", ">", "==", "!=", "~=")), NUMBERS, st.booleans()), max_size=3),
    NUMBERS,
)
def test_requirements_are_compared_as_pip_does(clauses, version):
    written = [
        f"{operator}{number}" + ".*" * (wild and operator in {"==", "!="})
        for operator, number, wild in clauses
        if operator != "~=" or "." in number
    ]
    specifier = ",".join(written)
    assert allows(specifier, version) == SpecifierSet(specifier).contains(version)
