"""The core without its extra: torch is needed only by what works with it.

A subprocess in which those libraries cannot be imported stands for an environment without them.
"""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core.system.lazy_names import EXTRAS

ROOT = Path(__file__).parents[1]
SURFACES = ("system", "plugins", "imaging", "path", "inference", "data", "cli")
DISTRIBUTIONS = [ROOT / "benchmarks", *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]

WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def without_extras(code, *arguments, status=0):
    command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done


def program(*arguments, status=0):
    """``oncoseg`` with the core as its only plugin."""
    code = (
        "import os; os.environ['ONCOSEG_PLUGINS'] = 'oncoseg-core'; sys.argv[0] = 'oncoseg'; "
        "from oncoseg_core.cli.app import main; main()"
    )
    return without_extras(code, *arguments, status=status)


@pytest.fixture(scope="module")
def needs():
    """The extra that each exported name needs; names that need none are left out."""
    code = f"""
import importlib
from oncoseg_core import MissingDependencyError
for room in {SURFACES!r}:
    module = importlib.import_module("oncoseg_core." + room)
    for name in module.__all__:
        try:
            getattr(module, name)
        except MissingDependencyError as error:
            print(module.__name__, name, str(error).partition("oncoseg-core[")[2].partition("]")[0])
"""
    lines = [line.split() for line in without_extras(code).stdout.splitlines()]
    return {(module, name): extra for module, name, extra in lines}


def test_extras_are_those_of_the_distribution():
    declared = project(ROOT)["optional-dependencies"]
    for library, extra in EXTRAS.items():
        assert library in {re.match(r"[\w-]+", line).group() for line in declared[extra]}
    always = {re.match(r"[\w-]+", line).group() for line in project(ROOT)["dependencies"]}
    assert always & EXTRAS.keys() == set()


def test_the_program_lists_plugins_and_helps():
    assert "oncoseg-core" in program("plugins").stdout
    assert "Usage: oncoseg doctor" in re.sub(r"\x1b\[[\d;]*m", "", program("doctor", "--help").stdout)


def test_the_contract_needs_no_extra():
    without_extras("import oncoseg_core; [getattr(oncoseg_core, name) for name in oncoseg_core.__all__]")


def test_what_needs_an_extra(needs):
    assert needs["oncoseg_core.inference", "Predictor"] == "torch"
    rooms = {module for module, _ in needs}
    assert rooms == {f"oncoseg_core.{room}" for room in ("path", "inference")}


def test_a_missing_library_is_named_with_the_extra_that_brings_it():
    code = "from oncoseg_core import MissingDependencyError\ntry: from oncoseg_core.inference import Predictor\n"
    message = without_extras(code + "except MissingDependencyError as error: print(error)").stdout
    assert message.startswith("oncoseg_core.inference.Predictor needs the library '")
    assert message.endswith("which is not installed: pip install 'oncoseg-core[torch]'\n")


@pytest.mark.parametrize("cut", [False, True])
def test_compressed_images_are_read_without_isal(cut, tmp_path):
    path = tmp_path / "scan.nii.gz"
    voxels = np.random.default_rng(0).integers(0, 1000, (3, 40, 50)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), path)
    if cut:
        path.write_bytes(path.read_bytes()[:-100])
    code = "from oncoseg_core.imaging import read_volume; import pathlib; print(read_volume(pathlib.Path(sys.argv[1]), 'ct').voxels.sum())"
    done = without_extras(code, path, status=int(cut))
    if cut:
        assert "ImageReadError" in done.stderr
        assert "is cut short or damaged" in done.stderr
    else:
        assert int(done.stdout) == voxels.sum()


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_requires_the_extras_that_it_imports_from(folder, needs):
    metadata = project(folder)
    lines = [line for line in metadata["dependencies"] if re.match(r"oncoseg-core\b", line)]
    assert len(lines) == (folder.name not in {"oncoseg-client", "oncoseg-slicer"})  # that one needs nothing of ours
    required = {extra for line in lines for extra in re.findall(r"\w+", (re.search(r"\[(.*)\]", line) or [""])[0])}
    imported = set()
    for path in (folder / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported |= {needs.get((node.module, alias.name)) for alias in node.names}
    assert imported - {None} <= required


def test_distributions_that_provide_a_model_require_torch():
    """LoRA is injected by the core, with what the extra brings."""
    for folder in DISTRIBUTIONS:
        for plugin in (folder / "src").glob("*/plugin.py"):  # libraries have none
            if "oncoseg_models" not in dir(importlib.import_module(f"{plugin.parent.name}.plugin")):
                continue
            assert "oncoseg-core[torch]>=0.1,<0.2" in project(folder)["dependencies"]
