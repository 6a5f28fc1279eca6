"""The lists that people keep by hand agree with what is there."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = [ROOT, ROOT / "benchmarks", *sorted(path for path in (ROOT / "plugins").iterdir() if path.is_dir())]
CORE = re.compile(r"oncoseg-core(\[\w+(,\w+)*\])?>=0\.1,<0\.2")
PLUGINS = DISTRIBUTIONS[2:]


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())


def dependencies_of(folder):
    """With those of its extras."""
    metadata = project(folder)["project"]
    return [*metadata["dependencies"], *itertools.chain(*metadata.get("optional-dependencies", {}).values())]


def test_contributors_install_every_distribution():
    lines = [line for line in (ROOT / "requirements-dev.txt").read_text().splitlines() if line.startswith("-e ")]
    assert sorted((ROOT / line.removeprefix("-e ")).resolve() for line in lines) == sorted(DISTRIBUTIONS)


@pytest.mark.parametrize("folder", DISTRIBUTIONS[1:], ids=lambda folder: folder.name)
def test_a_distribution_is_whole(folder):
    metadata = project(folder)["project"]
    package = metadata["name"].replace("-", "_")
    assert [CORE.fullmatch(line) is not None for line in metadata["dependencies"] if "oncoseg-core" in line] == [True]
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
    assert metadata["entry-points"]["oncoseg"] == {folder.name: f"{package}.plugin"}


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_tested_with_the_kit(folder):
    metadata = project(folder)["project"]
    expected = None if folder.name == "oncoseg-testing" else ["oncoseg-testing>=0.1,<0.2"]
    assert metadata.get("optional-dependencies", {}).get("test") == expected


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
