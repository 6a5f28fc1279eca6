"""``oncoseg new-plugin``: what it writes builds, installs, passes its tests, is listed, and goes again.

The packages are built as wheels and installed in a virtual environment that sees the running one's libraries. The scans
are generated: the subject is the packages.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from oncoseg_core import OncoSegError, StorageError, UsageError, load_plugins
from oncoseg_testing.new_plugin import KINDS, TEMPLATES, create_plugin

ROOT = Path(__file__).parents[3]

NAMES = {"modality": "mra", "dataset": "angio-demo", "prompt": "main-box", "loss": "hard", "metric": "off-centre", "reader": "arrays", "exporter": "layers", "model": "tiny-64", "automatic": "dense"}  # fmt: skip
REGISTRY = load_plugins()


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """One package of each kind, by kind."""
    dest = tmp_path_factory.mktemp("packages")
    return {kind: create_plugin(name, kind, dest, REGISTRY) for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def environment(packages, environment_with):
    """A virtual environment where all of them are installed from wheels."""
    return environment_with(*packages.values())


@pytest.fixture(scope="module")
def angiograms(tmp_path_factory):
    """Four small volumes of four patients, each with a bright blob that is its tumour; one patient tests."""
    root = tmp_path_factory.mktemp("angiograms")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    rng = np.random.default_rng(0)
    patients = [f"p{number}" for number in range(40)]
    testing = [patient for patient in patients if zlib.crc32(patient.encode()) < 0.2 * 2**32]
    training = [patient for patient in patients if patient not in testing]
    z, y, x = np.mgrid[:3, :32, :32]
    for patient in (*training[:3], testing[0]):
        row, column = rng.integers(10, 22, 2)
        tumour = (y - row) ** 2 + (x - column) ** 2 + 4 * (z - 1) ** 2 < 36
        image = rng.normal(100, 10, tumour.shape) + 200 * tumour
        for folder, array in (("images", image.astype(np.int16)), ("labels", tumour.astype(np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(array), root / folder / f"{patient}_1.nii.gz")
    return root


@pytest.fixture(scope="module")
def their_tests(packages, environment):
    """What pytest says of the tests of all of them, run in one process: each would load the same libraries."""
    return environment.run("-m", "pytest", "-p", "no:cacheprovider", "-v", *packages.values()).stdout


@pytest.mark.parametrize("kind", KINDS)
def test_it_passes_its_own_tests_where_it_is_installed(kind, packages, their_tests):
    (file,) = (packages[kind] / "tests").glob("test_*.py")  # no two kinds have a file of the same name
    assert f"/tests/{file.name}::test_it_keeps_the_contract" in their_tests
    assert not re.search(rf"/tests/{file.name}::.*(?<!PASSED) +\[ *\d+%\]$", their_tests, re.MULTILINE), their_tests


def test_the_kit_checks_what_is_installed(environment, angiograms, tmp_path):
    without_torch = ("modality", "dataset", "prompt", "metric", "reader", "exporter", "automatic")
    chosen = [part for kind in without_torch for part in ("--oncoseg", f"oncoseg-{NAMES[kind]}")]
    data = f"{NAMES['dataset']}={angiograms}"
    arguments = ("-m", "pytest", "-p", "no:cacheprovider", *chosen, "--oncoseg-data", data)
    done = environment.run(*arguments, cwd=tmp_path)
    assert f"{len(without_torch)} passed" in done.stdout


def test_each_is_listed(environment):
    listed = environment.components(*(f"oncoseg-{name}" for name in NAMES.values()))
    assert sorted(listed) == sorted((KINDS[kind].kind, name) for kind, name in NAMES.items())


def test_a_run_with_all_of_them_then_they_are_gone(environment, angiograms, tmp_path):
    config = {
        "name": "angiograms",
        "output": str(tmp_path / "run"),
        "data": {
            "dataset": NAMES["dataset"],
            "root": str(angiograms),
            "settings": {"modality": NAMES["modality"], "test_share": 0.2},
        },
        "normalizers": {NAMES["modality"]: {"percentiles": [2, 98]}},
        "model": {"name": NAMES["model"]},
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "loss": {"name": NAMES["loss"]},
        "metrics": ["dice", NAMES["metric"]],
        "prompts": {kind: {"name": NAMES["prompt"], "settings": {"margin_px": [1, 1]}} for kind in ("train", "score")},
        "training": {"epochs": 1, "learning_rate": 0.01, "device": "cpu", "score_every_epoch": False},
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(config))
    environment.run("-m", "oncoseg_trainer", file)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["training"]["n_samples"] >= 3
    assert summary["adapted"]["cases"][0]["modality"] == NAMES["modality"]
    used = {f"oncoseg-{NAMES[kind]}" for kind in ("modality", "dataset", "prompt", "loss", "metric", "model")}
    assert used <= summary["versions"]["plugins"].keys()
    losses = [
        row["tversky"]
        for row in map(json.loads, (tmp_path / "run" / "metrics.jsonl").open())
        if row["event"] == "train"
    ]
    assert all(0 < loss < 1 for loss in losses)

    environment.uninstall(f"oncoseg-{NAMES['modality']}")
    assert environment.components(f"oncoseg-{NAMES['modality']}") == []
    asked = environment.run("-m", "oncoseg_trainer", file, "--set", f"output={tmp_path / 'again'}", code=2)
    assert "unknown normalizer 'mra'; did you mean 'mri'" in asked.stderr
    others = [f"oncoseg-{name}" for kind, name in NAMES.items() if kind != "modality"]
    environment.uninstall(*others)
    assert environment.components(*others) == []


# What is written.


def test_there_is_a_template_of_every_kind_and_no_other():
    assert sorted(path.name for path in TEMPLATES.iterdir()) == sorted(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_of_the_template_is_left(kind, packages):
    for path in packages[kind].rglob("*"):
        assert "newname" not in str(path).lower()
        if path.is_file():
            assert "newname" not in path.read_text().lower()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_follows_the_style_of_the_core(kind, packages):
    options = ["--isolated", "--no-cache", "--line-length", "120", "--target-version", "py311"]
    rules = "E,F,W,I,UP,B,C4,PT,RET,SIM,ARG,ERA"
    for command in (
        ["check", "src", "tests", "--select", rules],
        ["check", "src", "--select", "ANN,D1", "--ignore", "D105,D107"],
        ["format", "--check"],
    ):
        arguments = [sys.executable, "-m", "ruff", *command, *options]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=packages[kind])
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_are_those_of_the_first_party_plugins(kind, packages):
    project = tomllib.loads((packages[kind] / "pyproject.toml").read_text())["project"]
    plugins = [ROOT / "plugins" / f"oncoseg-{name}" / "pyproject.toml" for name in ("modalities", "litemedsam")]
    first_party = [line for file in plugins for line in tomllib.loads(file.read_text())["project"]["dependencies"]]
    bounds = {re.match(r"[\w-]+(\[.*\])?", line).group(): line for line in first_party}
    for line in project["dependencies"]:
        assert line == bounds.get(re.match(r"[\w-]+(\[.*\])?", line).group(), line)
    core = "oncoseg-core[torch]>=0.1,<0.2" if kind == "model" else "oncoseg-core>=0.1,<0.2"
    assert core in project["dependencies"]
    assert project["optional-dependencies"] == {"test": ["oncoseg-testing>=0.1,<0.2"]}


def test_types_of_what_is_written_are_strict(packages):
    """One run for all kinds, by the rules for the first-party plugins and with what is known of the libraries from checking these."""
    options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    sources = [folder / "src" / path.name for folder in packages.values() for path in (folder / "src").iterdir()]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *sources],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, [ROOT, *(f / "src" for f in packages.values())]))},
    )
    assert done.returncode == 0, done.stdout + done.stderr


# What is refused.


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("thermo", "modalty", "unknown kind 'modalty'; did you mean 'modality' or 'model'?"),
        ("Thermo Graphy", "modality", "name 'Thermo Graphy': expected small letters, digits and single hyphens, beginning with a letter, at most 48; did you mean 'thermo-graphy'?"),
        ("2d", "modality", "did you mean 'd'?"),
        ("../../etc", "modality", "did you mean 'etc'?"),
        ("", "modality", "name '': expected small letters"),
        ("x" * 49, "modality", "at most 48"),
        ("class", "loss", "name 'class': is a word of Python itself; choose another, such as 'my-class'"),
        ("ct", "modality", "the normalizer 'ct' exists already: oncoseg-modalities 0.1.0 provides it; choose another name, such as 'my-ct'"),
        ("oncoseg-ct", "modality", "the normalizer 'ct' exists already"),
        ("core", "model", "the distribution 'oncoseg-core' is installed already (version 0.1.0)"),
    ],
)  # fmt: skip
def test_wrong_names_are_refused(name, kind, said, tmp_path):
    with pytest.raises(UsageError) as caught:
        create_plugin(name, kind, tmp_path, REGISTRY)
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_kind_may_have_the_name(tmp_path):
    assert create_plugin("oncoseg-ct", "loss", tmp_path, REGISTRY) == tmp_path / "oncoseg-ct"


@pytest.mark.parametrize("taken", ["folder", "file", "dangling link"])
def test_what_is_there_stays(taken, tmp_path):
    target = tmp_path / "oncoseg-thermo"
    {"folder": target.mkdir, "file": target.touch, "dangling link": lambda: target.symlink_to("nowhere")}[taken]()
    with pytest.raises(StorageError, match="oncoseg-thermo exists already"):
        create_plugin("thermo", "modality", tmp_path, REGISTRY)
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_partial_is_left(tmp_path, monkeypatch):
    write = Path.write_text

    def full(path, text, **options):
        if path.name == "plugin.py":
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StorageError, match="oncoseg-thermo: the disk is full"):
        create_plugin("thermo", "modality", tmp_path, REGISTRY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OncoSegError, match="no permission"):
        create_plugin("thermo", "modality", tmp_path, REGISTRY)


def oncoseg(*arguments, **options):
    command = [sys.executable, "-c", "from oncoseg_core.cli.app import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_command_says_what_comes_next(tmp_path):
    done = oncoseg("new-plugin", "thermo", "--kind", "modality", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "Wrote oncoseg-thermo. Next:",
        "  pip install -e 'oncoseg-thermo[test]'",
        "  pytest oncoseg-thermo",
        "  oncoseg plugins",
    ]
    again = oncoseg("new-plugin", "thermo", "--kind", "modality", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == "error: oncoseg-thermo exists already; remove it, or choose another name or --dest\n"
    wrong = oncoseg("new-plugin", "thermo", "--kind", "modality", "--dest", "absent", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "error: absent: no such folder; make it first, or choose another with --dest\n",
    )
    assert oncoseg("new-plugin", "thermo", cwd=tmp_path).returncode == 2


def test_the_help_shows_an_example_and_is_light():
    code = (
        "import sys; sys.argv = ['oncoseg', 'new-plugin', '--help']\n"
        "from oncoseg_core.cli.app import app; app(standalone_mode=False)\n"
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'oncoseg_testing.new_plugin'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example: oncoseg new-plugin thermography --kind modality" in done.stdout
    assert done.stdout.endswith("[]\n")
    for kind in KINDS:
        assert kind in done.stdout


# What is shipped.


def built(folder, into):
    command = [sys.executable, "-m", "hatchling", "build", "-d", into, "-t", "sdist", "-t", "wheel"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return next(into.glob("*.whl")), next(into.glob("*.tar.gz"))


def test_the_kit_ships_the_templates_the_broken_examples_and_the_pytest_plugin(tmp_path):
    distribution = ROOT / "plugins" / "oncoseg-testing"
    wheel, sdist = built(distribution, tmp_path)
    shipped = [path.relative_to(distribution) for path in (distribution / "src").rglob("*") if path.is_file()]
    shipped = [path for path in shipped if "__pycache__" not in path.parts]
    assert len(shipped) > 60
    with zipfile.ZipFile(wheel) as archive:
        assert {str(path.relative_to("src")) for path in shipped} <= set(archive.namelist())
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "[pytest11]\noncoseg = oncoseg_testing.pytest_plugin" in archive.read(points).decode()
    with tarfile.open(sdist) as archive:
        assert {str(path) for path in shipped} <= {name.partition("/")[2] for name in archive.getnames()}


def test_the_core_ships_neither(tmp_path):
    wheel, _ = built(ROOT, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert [name for name in names if "testing" in name or "templates" in name or "newname" in name] == []
