"""What the distributions promise one another, and how the code lies in its folders, read from the sources.

The package root is the contract and the root of each room its library: nothing outside the core imports deeper.
"""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "oncoseg_core"
ROOMS = ("system", "plugins", "imaging", "path", "inference", "data", "cli")
SURFACES = ("oncoseg_core", *(f"oncoseg_core.{room}" for room in ROOMS))

DISTRIBUTIONS = [ROOT / "benchmarks", *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
PACKAGES = {folder: next((folder / "src").glob("oncoseg_*")).name for folder in DISTRIBUTIONS}
SCRIPTS = [ROOT / "benchmarks" / "peers", ROOT / "docs"]
TEMPLATES = ROOT / "plugins" / "oncoseg-testing" / "src" / "oncoseg_testing" / "templates"

PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *(page for page in (ROOT / "docs").rglob("*.md") if page.name not in {"decisions.md", "measurements.md"}),
    *(ROOT / "plugins").glob("*/README.md"),
    *TEMPLATES.glob("*/README.md"),
]

LISTS_OF_LIKE_THINGS = {"oncoseg_datasets/layouts", "oncoseg_datasets/records"}
IMPORT = re.compile(
    r"^ *(from oncoseg_core[\w.]* import (?:\([^)]*\)|[^(\n]*)|import oncoseg_core[\w.]*)$", re.MULTILINE
)
MOST_MODULES = 15
MOST_LINES = 8000
MOST_FOLDERS = 10


def tree(path):
    return ast.parse(path.read_text(), str(path))


def exported(surface):
    return set(importlib.import_module(surface).__all__)


def imports_for_type_checkers(surface):
    """Names by the module that defines them."""
    names = {}
    for block in tree(CORE / Path(*surface.split(".")[1:]) / "__init__.py").body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for statement in block.body:
                names |= {alias.name: statement.module for alias in statement.names}
    return names


def imported_names(source):
    """Pairs of module and name (None for ``import module``) that a syntax tree imports, absolute only."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.module, alias.name) for alias in node.names)


def beyond_the_surface(source):
    """What a syntax tree takes from the core besides the names in the ``__all__`` of the root and of the rooms."""
    for module, name in imported_names(source):
        if module.partition(".")[0] != "oncoseg_core":
            continue
        if module not in SURFACES:
            yield f"{module}.{name}" if name else module
        elif name is not None and name not in exported(module):
            yield f"{module}.{name}"
    for node in ast.walk(source):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "oncoseg_core":
            surface = {*exported("oncoseg_core"), *ROOMS, "__file__"}
            yield from (f"oncoseg_core.{name}" for name in {node.attr} - surface)


def problems_of(folder, check):
    """Each file of a folder with what the check finds in it."""
    files = sorted(folder.rglob("*.py"))
    return [f"{path.relative_to(ROOT)}: {problem}" for path in files for problem in check(tree(path))]


# The surface itself.


@pytest.mark.parametrize("surface", SURFACES)
def test_every_exported_name_can_be_imported(surface):
    module = importlib.import_module(surface)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    assert [name for name in module.__all__ if getattr(module, name) is None] == []


@pytest.mark.parametrize("surface", SURFACES)
def test_type_checkers_see_the_same_names(surface):
    assert exported(surface) - {"__version__"} == set(imports_for_type_checkers(surface))


@pytest.mark.parametrize("surface", SURFACES)
def test_no_exported_name_is_also_a_submodule(surface):
    """Importing the submodule would put the module in the place of the name."""
    submodules = {module.name for module in pkgutil.iter_modules(importlib.import_module(surface).__path__)}
    assert exported(surface) & submodules == set()


@pytest.mark.parametrize("surface", SURFACES)
def test_a_name_that_is_not_exported_is_an_attribute_error(surface):
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        importlib.import_module(surface).no_such_name  # noqa: B018


def test_a_room_exports_what_lies_in_it():
    for room in ROOMS:
        modules = imports_for_type_checkers(f"oncoseg_core.{room}").values()
        assert {module for module in modules if not module.startswith(f"oncoseg_core.{room}.")} == set()


@pytest.mark.parametrize("surface", SURFACES)
def test_importing_a_surface_loads_no_heavy_library(surface):
    heavy = {"torch", "numpy", "SimpleITK", "pydicom", "blosc2", "isal", "peft", "safetensors", "matplotlib"}
    code = f"import sys, {surface}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# What is imported from it.


@pytest.mark.parametrize(
    ("source", "beyond"),
    [
        ("from oncoseg_core import Volume, hookimpl", []),
        ("from oncoseg_core import lora; import oncoseg_core; oncoseg_core.__version__", ["oncoseg_core.lora"]),
        ("import oncoseg_core.path.zoom", ["oncoseg_core.path.zoom"]),
        ("from oncoseg_core.path import Preprocessor, Secret", ["oncoseg_core.path.Secret"]),
        (
            "def f():\n    from oncoseg_core.contract.errors import DataError",
            ["oncoseg_core.contract.errors.DataError"],
        ),
        ("import oncoseg_core; oncoseg_core.secret", ["oncoseg_core.secret"]),
    ],
)
def test_an_import_beyond_the_surface_is_seen(source, beyond):
    assert list(beyond_the_surface(ast.parse(source))) == beyond


@pytest.mark.parametrize("folder", [*PACKAGES, *SCRIPTS], ids=lambda folder: folder.name)
def test_only_the_surface_of_the_core_is_imported(folder):
    assert problems_of(folder / "src" if folder in PACKAGES else folder, beyond_the_surface) == []


def test_pages_import_only_the_surface_of_the_core():
    problems = []
    for page in PAGES:
        for statement in IMPORT.findall(page.read_text()):
            problems += [f"{page.relative_to(ROOT)}: {one}" for one in beyond_the_surface(ast.parse(statement))]
    assert problems == []


def test_pages_name_only_the_surface_of_the_core():
    known = {f"{surface}.{name}" for surface in SURFACES for name in exported(surface)} | {*SURFACES}
    beyond = []
    for page in PAGES:
        if page.parent.name == "reference":  # says where each name is defined
            continue
        names = re.findall(r"(?<![\w./])oncoseg_core(?:\.\w+)+", page.read_text())
        beyond += [f"{page.relative_to(ROOT)}: {name}" for name in names if name not in known]
    assert beyond == []


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_other_distributions_are_declared_and_imported_by_their_root(folder):
    """Scripts beside the benchmarks measure the insides of other distributions; they are part of none."""
    metadata = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", line).group().replace("-", "_") for line in metadata["dependencies"]}
    packages = {*PACKAGES.values()} - {PACKAGES[folder]}

    def undeclared_or_deep(source):
        for module, name in imported_names(source):
            package = module.partition(".")[0]
            if package in packages and package not in declared:
                yield f"imports {package}, which pyproject.toml does not declare"
            if package in packages and module not in {package, f"{package}.api"}:
                yield f"imports {module}.{name}; expected {package} or {package}.api"

    assert problems_of(folder / "src", undeclared_or_deep) == []


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda template: template.name)
def test_templates_are_written_on_the_contract(template):
    """The package root and the testing kit; what works with image files takes the core's own reader of them too."""
    allowed = {"oncoseg_core", "oncoseg_testing"}
    if template.name in {"dataset", "exporter"}:
        allowed |= {"oncoseg_core.imaging", "oncoseg_core.system"}

    def other(source):
        modules = {module for module, _ in imported_names(source) if module.startswith("oncoseg")}
        yield from sorted({one for one in modules if not one.startswith("oncoseg_newname.")} - allowed)

    assert problems_of(template, other) == []


# Where the code lies.


def test_no_folder_has_too_many_modules():
    long = {}
    for source in [CORE, *(folder / "src" / package for folder, package in PACKAGES.items())]:
        for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            if len(modules) > MOST_MODULES:
                long[folder.relative_to(source.parent).as_posix()] = len(modules)
    assert long.keys() - LISTS_OF_LIKE_THINGS == set(), long


def test_the_core_stays_small():
    """Lines of code with its documentation; the lists of exported names do not count."""
    modules = list(CORE.rglob("*.py"))
    lines = sum(len(path.read_text().splitlines()) for path in modules if path.name != "__init__.py")
    assert lines <= MOST_LINES
    assert len({path.parent for path in modules} - {CORE}) <= MOST_FOLDERS
