"""Every hook has a page that says what the code says, and the plugins shown there work."""

import importlib
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import oncoseg_core
import oncoseg_testing as testing
from oncoseg_core import Case, LoraSpec, Overlap, Target, load_plugins
from oncoseg_core.contract import hookspecs, interfaces
from oncoseg_core.contract.hookspecs import HOOK_RECORDS
from oncoseg_core.plugins.registry import BEHAVIOURS
from oncoseg_testing.new_plugin import KINDS

DOCS = Path(__file__).parents[1] / "docs"
SIGNATURES = re.findall(r"^def (oncoseg_\w+)(.*:)", Path(hookspecs.__file__).read_text(), re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_of(hook):
    return DOCS / "hooks" / f"{hook.removeprefix('oncoseg_').replace('_', '-')}.md"


def blocks(page):
    """``(language, title, text)`` of every fenced block."""
    return BLOCK.findall(page.read_text())


def test_the_signatures_are_all_found():
    assert [name for name, _ in SIGNATURES] == list(HOOK_RECORDS)


@pytest.mark.parametrize(("hook", "rest"), SIGNATURES, ids=HOOK_RECORDS)
def test_every_hook_has_a_page_with_its_signature(hook, rest):
    line = f"def {hook}{rest}".partition("  #")[0]
    assert line == f"def {hook}() -> Iterable[{HOOK_RECORDS[hook].__name__}]:"
    assert ("python", "", line + "\n") in blocks(page_of(hook))


@pytest.mark.parametrize("hook", HOOK_RECORDS)
def test_every_field_and_every_method_is_on_the_page(hook):
    record = HOOK_RECORDS[hook]
    extra = {"oncoseg_datasets": (Target, Case, Overlap), "oncoseg_models": (LoraSpec,)}
    fields = [field for model in (record, *extra.get(hook, ())) for field in model.model_fields]
    text = page_of(hook).read_text()
    assert [field for field in fields if f"| `{field}` |" not in text] == []
    behaviour = BEHAVIOURS.get(record, interfaces.Component)
    methods = [name for name, member in vars(behaviour).items() if callable(member) and not name.startswith("_")]
    assert [name for name in methods if name != "Settings" and f"| `{name}(" not in text] == []


@pytest.mark.parametrize("hook", HOOK_RECORDS)
def test_the_overview_names_every_hook_its_record_and_its_check(hook):
    (row,) = [line for line in (DOCS / "hooks" / "index.md").read_text().splitlines() if f"[`{hook}`]" in line]
    assert f"[`{hook}`]({page_of(hook).name}) | `{HOOK_RECORDS[hook].__name__}`" in row
    check = "check_" + HOOK_RECORDS[hook].kind.replace(" ", "_")
    assert f"`{check}`" in row
    assert check in testing.__all__


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_a_hook_says_how_to_start(kind):
    (hook,) = [hook for hook, record in HOOK_RECORDS.items() if record is KINDS[kind]]
    assert re.search(rf"`oncoseg new-plugin \S+ --kind {kind}`", page_of(hook).read_text())
    assert f"| `{kind}` |" in (DOCS / "how-to" / "plugin.md").read_text()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_python_on_every_page_compiles(page):
    for language, title, text in blocks(page):
        if language == "python" and not text.startswith("def oncoseg_"):
            compile(textwrap.dedent(text), title or str(page), "exec")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs the plugin that a page shows, from its own files, and gives its one component."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)

    def install(page):
        files = {title: text for _, title, text in blocks(page) if title}
        project = tomllib.loads(files.pop("pyproject.toml"))["project"]
        for title, text in files.items():
            path = tmp_path / title
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(text)
        name, version = project["name"], project["version"]
        assert any(re.match(r"oncoseg-core(\[\w+\])?>=", dependency) for dependency in project["dependencies"])
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
        points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["oncoseg"].items())
        (info / "entry_points.txt").write_text(f"[oncoseg]\n{points}")
        importlib.invalidate_caches()
        registry = load_plugins({"ONCOSEG_PLUGINS": name})
        registry.require_sound()
        (component,) = registry.components
        return registry, component

    yield install
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("hook", HOOK_RECORDS)
def test_the_plugin_on_the_page_passes_the_kit(hook, installed, tmp_path):
    registry, component = installed(page_of(hook))
    assert component.hook == hook
    small = {"oncoseg_datasets": small_dataset, "oncoseg_readers": small_image}
    root = small[hook](tmp_path / "data") if hook in small else None
    testing.check_component(registry, component, root=root)


def test_the_plugins_on_the_pages_are_typed_strictly(tmp_path):
    for hook in HOOK_RECORDS:
        for _, title, text in blocks(page_of(hook)):
            if title.endswith(".py"):
                path = tmp_path / title
                path.parent.mkdir(exist_ok=True)
                (path.parent / "__init__.py").touch()
                path.write_text(text)
    packages = sorted(path.name for path in tmp_path.iterdir())
    assert len(packages) == len(HOOK_RECORDS)
    options = ["--config-file", DOCS.parent / "pyproject.toml", "--cache-dir", DOCS.parent / ".mypy_cache"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *packages],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(DOCS.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def small_dataset(root):
    """Laid out like the dataset on the page; the voxels are all zero, for the adapter does not look at them."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for name in ("p1_1", "p1_2", "p2_1", "p5_1"):
            sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkInt16), root / folder / f"{name}.nii.gz")
    return root


def small_image(root):
    """In the format on the page, which NumPy writes."""
    root.mkdir()
    path = root / "image.npz"
    np.savez(path, voxels=np.zeros((2, 3, 4), np.int16), affine=np.eye(4))
    return path


REFERENCE = DOCS / "reference"
ROOMS = ("system", "plugins", "imaging", "path", "inference", "data", "cli")


def documented(page):
    """The names whose documentation mkdocstrings puts on a page, each of which must exist where the page says."""
    paths = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    for module, _, name in (path.rpartition(".") for path in paths):
        assert hasattr(importlib.import_module(module), name), f"{page.name}: {module} has no {name}"
    assert len(paths) == len(set(paths))
    return {path.rpartition(".")[2] for path in paths}


def test_every_name_of_the_contract_is_in_the_reference():
    page = REFERENCE / "api.md"
    assert documented(page) == set(oncoseg_core.__all__) - {"__version__"}
    assert "`oncoseg_core.__version__`" in page.read_text()


def test_every_name_of_the_rooms_and_libraries_is_in_the_reference():
    libraries = ["oncoseg_clicks", "oncoseg_dicomweb", "oncoseg_lora", "oncoseg_store", "oncoseg_structures"]
    packages = [*(f"oncoseg_core.{room}" for room in ROOMS), *libraries]
    exported = {name for package in packages for name in importlib.import_module(package).__all__}
    assert documented(REFERENCE / "rooms.md") == exported


def test_the_floors_on_the_page_are_those_that_are_enforced():
    """import-linter's layers stand from top to bottom, and so do the lines of both diagrams."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    distributions, rooms = project["tool"]["importlinter"]["contracts"][:2]
    diagrams = [text for language, _, text in blocks(DOCS / "architecture.md") if language == "text"]
    drawn = [set(re.split(r"\s+", line)) for line in diagrams[0].splitlines() if "─" not in line]
    assert len(drawn) == len(distributions["layers"])
    for words, layer in zip(drawn[:-1], distributions["layers"][:-1], strict=True):
        assert {name.removeprefix("oncoseg_") for name in layer.split(" | ")} <= words
    assert [line.split()[0] for line in diagrams[1].splitlines()] == [
        name.rpartition(".")[2] for name in rooms["layers"]
    ]


def test_the_glossary_is_sorted():
    terms = re.findall(r"^\*\*(.+?)\.\*\* ", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert len(terms) >= 25
    assert terms == sorted(terms, key=str.lower)
