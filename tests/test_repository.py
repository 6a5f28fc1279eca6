"""The lists that people keep by hand agree with what is there."""

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import oncoseg_core

ROOT = Path(__file__).parents[1]
LIBRARIES = {"oncoseg-clicks", "oncoseg-client", "oncoseg-dicomweb", "oncoseg-lora", "oncoseg-store"}
"""They offer no component."""
WINDOWS = {"oncoseg-napari", "oncoseg-slicer"}
"""Other programs find them; they offer no component either, and their tests need those programs."""
ALONE = {"oncoseg-client", "oncoseg-slicer"}
"""They do without the core: a client is installed where neither torch nor the core is."""
DISTRIBUTIONS = [ROOT, ROOT / "benchmarks", *sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())]

PLUGINS = DISTRIBUTIONS[2:]


def tool(name):
    """A module of ``tools/``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"oncoseg_tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VERSIONS = tool("versions")
LOWER, UPPER = VERSIONS.bounds(oncoseg_core.__version__)
CORE = re.compile(rf"oncoseg-core(\[\w+(,\w+)*\])?>={re.escape(LOWER)},<{re.escape(UPPER)}")


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())


def dependencies_of(folder):
    """With those of its extras."""
    metadata = project(folder)["project"]
    return [*metadata["dependencies"], *itertools.chain(*metadata.get("optional-dependencies", {}).values())]


def test_contributors_install_every_distribution():
    lines = [line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line.startswith("-e ")]
    assert sorted((ROOT / line.removeprefix("-e ").removesuffix("[test]")).resolve() for line in lines) == sorted(
        DISTRIBUTIONS
    )


@pytest.mark.parametrize("folder", DISTRIBUTIONS[1:], ids=lambda folder: folder.name)
def test_a_distribution_is_whole(folder):
    metadata = project(folder)["project"]
    package = metadata["name"].replace("-", "_")
    on_core = [CORE.fullmatch(line) is not None for line in metadata["dependencies"] if "oncoseg-core" in line]
    assert on_core == [] if folder.name in ALONE else on_core == [True]
    assert (folder / "README.md").read_text().startswith(f"# {metadata['name']}\n")
    assert (folder / "src" / package / "py.typed").exists()
    assert list((folder / "tests").glob("test_*.py"))
    assert project(ROOT)["tool"]["importlinter"]["root_packages"].count(package) == 1
    floors = " ".join(project(ROOT)["tool"]["importlinter"]["contracts"][0]["layers"]).split(" ")
    assert package in floors


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_named_after_its_folder_and_has_one_entry_point(folder):
    metadata = project(folder)["project"]
    assert metadata["name"] == folder.name
    package = metadata["name"].replace("-", "_")
    expected = None if folder.name in LIBRARIES | WINDOWS else {folder.name: f"{package}.plugin"}
    assert metadata.get("entry-points", {}).get("oncoseg") == expected


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_tested_with_the_kit(folder):
    metadata = project(folder)["project"]
    extra = metadata.get("optional-dependencies", {}).get("test")
    if folder.name in {"oncoseg-testing", *LIBRARIES}:
        assert extra is None
    elif folder.name in WINDOWS:
        assert extra is not None
    else:
        assert "oncoseg-testing>=0.1,<0.2" in extra


def test_torch_has_one_bound_everywhere():
    bounds = {
        dependency
        for folder in DISTRIBUTIONS
        for dependency in dependencies_of(folder)
        if re.match(r"torch\b", dependency)
    }
    assert bounds == {"torch>=2.8,<2.14"}


def test_the_core_ships_itself_alone():
    assert project(ROOT)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["oncoseg_core"]


def test_the_readme_names_every_plugin():
    readme = (ROOT / "README.md").read_text()
    assert [folder.name for folder in PLUGINS if f"| `{folder.name}` |" not in readme] == []


README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
MAKE_TARGETS = re.findall(r"^([a-z-]+):.*  ## ", MAKEFILE, re.MULTILINE)


def console_lines(text):
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def recipes():
    """What the Makefile runs, without make's own marks."""
    lines = [line.strip().removeprefix("@") for line in MAKEFILE.splitlines() if line.startswith("\t")]
    return [line.replace("$(BIN)/", "").replace("--quiet ", "") for line in lines]


def test_make_runs_the_long_form_that_the_readme_shows():
    long_form = [line for line in console_lines(README) if line.startswith(("pip ", "pytest "))]
    assert len(long_form) == 3
    assert [line for line in long_form if line not in recipes()] == []
    assert "oncoseg-train quickstart" in console_lines(README)
    assert any("oncoseg-train quickstart" in line for line in recipes())


def test_what_decides_runs_the_commands_of_the_readme():
    commands = [line.split()[1] for line in console_lines(README) if line.startswith("make ")]
    assert commands == ["quickstart", "test"]
    run = (ROOT / ".ci" / "run").read_text()
    assert [name for name in commands if not re.search(rf"^make .*\b{name}$", run, re.MULTILINE)] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "RELEASING.md", ".ci/run"])
def test_every_make_target_that_is_named_exists(page):
    text = (ROOT / page).read_text()
    named = {name for line in re.findall(r"(?:^|`)make ([^`\n]*)", text, re.MULTILINE) for name in line.split()}
    assert named
    assert [name for name in named if "=" not in name and name not in MAKE_TARGETS] == []


def make(*arguments):
    """As from a shell, also when these tests are run by make."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
    }
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_help_lists_every_target():
    assert re.findall(r"^  make ([a-z-]+)  ", make(), re.MULTILINE) == MAKE_TARGETS


@pytest.mark.parametrize(
    ("target", "install"),
    [("quickstart", "pip install --quiet . ./benchmarks "), ("test", "pip install --quiet -r requirements-dev.txt")],
)
def test_make_needs_nothing_but_the_clone(target, install, tmp_path):
    """The plan from nothing: create the environment, install, run."""
    create, pip, *_ = make("-n", target, f"VENV={tmp_path / 'venv'}").splitlines()
    assert "-m venv" in create
    assert install in pip


def test_make_installs_again_only_when_something_changed(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("bin/pip", ".dev-installation"):
        (tmp_path / name).touch()
    argument = f"VENV={tmp_path}"
    assert "pip install" not in make("-n", "test", argument)
    assert "pip install" not in make("-n", "quickstart", argument)  # an editable installation serves both
    os.utime(tmp_path / ".dev-installation", (0, 0))
    assert "pip install --quiet -r requirements-dev.txt" in make("-n", "test", argument)


def test_all_versions_and_bounds_agree():
    assert VERSIONS.core_version() == oncoseg_core.__version__
    assert VERSIONS.differences(oncoseg_core.__version__) == []
    assert project(ROOT)["project"]["dynamic"] == ["version"]
    assert project(ROOT)["tool"]["hatch"]["version"]["path"] == "oncoseg_core/__init__.py"


def test_a_new_version_reaches_every_place(tmp_path):
    """On a copy of the files that hold versions; a place that is left behind is named."""
    for path in {VERSIONS.CORE, *VERSIONS.projects(), *VERSIONS.bounded_files()}:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    versions = tool("versions")
    versions.ROOT, versions.CORE = tmp_path, tmp_path / "oncoseg_core" / "__init__.py"
    versions.set_version("0.12.3")
    assert versions.core_version() == "0.12.3"
    assert versions.differences("0.12.3") == []
    template = tmp_path / "plugins/oncoseg-testing/src/oncoseg_testing/templates/model/pyproject.toml"
    assert '"oncoseg-testing>=0.12,<0.13"' in template.read_text()
    behind = tmp_path / "plugins" / "oncoseg-hub" / "pyproject.toml"
    behind.write_text(behind.read_text().replace('"0.12.3"', '"0.1.0"'))
    assert versions.differences("0.12.3") == ["plugins/oncoseg-hub/pyproject.toml: version 0.1.0, expected 0.12.3"]


def test_every_bound_between_our_distributions_is_watched():
    """A bound in a file that ``tools/versions.py`` does not read would stay behind."""
    done = subprocess.run(
        ["git", "ls-files", "*.toml", "*.md", "*.txt"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    exempt = {ROOT / "CHANGELOG.md", ROOT / "RELEASING.md"}
    holders = {ROOT / name for name in done.stdout.split() if VERSIONS.BOUND.search((ROOT / name).read_text())}
    assert holders - exempt - set(VERSIONS.bounded_files()) == set()


FRAGMENT_TYPES = [kind["directory"] for kind in project(ROOT)["tool"]["towncrier"]["type"]]


def test_every_fragment_of_the_changelog_has_a_known_type():
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    name = re.compile(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(FRAGMENT_TYPES)})\.md")
    assert [path.name for path in fragments if not name.fullmatch(path.name)] == []
    assert [path.name for path in fragments if not path.read_text().strip()] == []
    described = (ROOT / "changelog.d" / "README.md").read_text()
    assert [kind for kind in FRAGMENT_TYPES if f"| `{kind}` |" not in described] == []


def test_the_whitelist_of_unused_code_names_only_what_exists():
    whitelist = ROOT / "tools" / "vulture_whitelist.py"
    names = re.findall(r"^_\.(\w+)$", whitelist.read_text(), re.MULTILINE)
    folders = [ROOT / "oncoseg_core", ROOT / "benchmarks", ROOT / "tools", *(folder / "src" for folder in PLUGINS)]
    words = {
        word for folder in folders for path in folder.rglob("*.py") for word in re.findall(r"\w+", path.read_text())
    }
    assert len(names) == len(set(names))
    assert [name for name in names if name not in words] == []


def test_pre_commit_leaves_out_what_ruff_leaves_out():
    """pre-commit names each file to ruff, which checks a named file though it is excluded, unless told otherwise."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    ruff = [hook["entry"] for hook in hooks if hook["entry"].startswith("ruff")]
    assert len(ruff) == 2
    assert all("--force-exclude" in entry for entry in ruff)
