"""The tutorial's plugin is checked in, installs, passes its tests and the kit, and is what the page shows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oncoseg_core import DatasetSpec, NormalizerSpec, load_plugins
from oncoseg_core.plugins.configuration import read_yaml
from oncoseg_testing.new_plugin import create_plugin
from oncoseg_trainer.config.settings import load_settings

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial"
PAGE = (TUTORIAL / "your-own-modality.md").read_text()
FLUORESCENCE = TUTORIAL / "oncoseg-fluorescence"
CHANGED = {"src/oncoseg_fluorescence/normalizer.py", "src/oncoseg_fluorescence/plugin.py", "tests/test_normalizer.py", "README.md"}  # fmt: skip
REGISTRY = load_plugins()


def files_in(folder):
    caches = {"__pycache__", ".pytest_cache"}
    found = (path for path in folder.rglob("*") if path.is_file() and not caches & set(path.parts))
    return {str(path.relative_to(folder)): path.read_text() for path in found}


def blocks(*languages):
    return [
        text
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if language in languages
    ]


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """The dataset plugin, as the reader of the tutorial makes it."""
    folder = create_plugin("nuclei", "dataset", tmp_path_factory.mktemp("packages"), REGISTRY)
    shutil.copy(TUTORIAL / "nuclei" / "plugin.py", folder / "src" / "oncoseg_nuclei" / "plugin.py")
    return folder


@pytest.fixture(scope="module")
def environment(nuclei, environment_with):
    return environment_with(FLUORESCENCE, nuclei)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Single nuclei cut out of the real sample image by the tutorial's program."""
    samples = REGISTRY.build(DatasetSpec, "samples", {"sources": ["pyradiomics", "tptbox"]}).fetch(
        lambda what, done, total: None
    )
    folder = tmp_path_factory.mktemp("cuts") / "nuclei"
    program = TUTORIAL / "cut_nuclei.py"
    subprocess.run([sys.executable, program, samples / "img2d.tif", samples / "mask2d.tif", folder], check=True)
    return folder


def test_what_the_page_shows_is_what_is_checked_in():
    files = {**files_in(FLUORESCENCE), **files_in(TUTORIAL / "nuclei")}
    shown = blocks("python", "yaml", "toml")
    assert len(shown) >= 8
    assert [text for text in shown if not any(text in content for content in files.values())] == []
    assert (TUTORIAL / "nuclei" / "nuclei.yaml").read_text() in shown


def test_the_plugin_is_the_template_but_for_what_the_page_changes(tmp_path):
    fresh = files_in(create_plugin("fluorescence", "modality", tmp_path, REGISTRY))
    checked_in = files_in(FLUORESCENCE)
    assert checked_in.keys() == fresh.keys()
    assert {name for name in fresh if fresh[name] != checked_in[name]} == CHANGED


def test_it_installs_and_passes_its_tests(environment, nuclei):
    assert environment.components("oncoseg-fluorescence") == [("normalizer", "fluorescence")]
    assert environment.components("oncoseg-nuclei") == [("dataset", "nuclei")]
    for folder in (FLUORESCENCE, nuclei):
        environment.run("-m", "pytest", "-p", "no:cacheprovider", folder)


def test_the_kit_checks_both_on_the_real_image(environment, cuts, tmp_path):
    named = ("--oncoseg", "oncoseg-fluorescence", "--oncoseg", "oncoseg-nuclei", "--oncoseg-data", f"nuclei={cuts}")
    done = environment.run("-m", "pytest", "-p", "no:cacheprovider", *named, cwd=tmp_path)
    assert "2 passed" in done.stdout


def test_the_configuration_is_valid_and_splits_the_quarters(environment, cuts, tmp_path):
    settings = load_settings(str(TUTORIAL / "nuclei" / "nuclei.yaml"), [])
    assert settings.data.settings == {"test_share": 0.3}
    program = f"""
        from pathlib import Path
        from oncoseg_core import DatasetSpec
        from oncoseg_core import load_plugins
        adapter = load_plugins().build(DatasetSpec, "nuclei", {settings.data.settings})
        cases = list(adapter.discover(Path({str(cuts)!r})))
        print(sorted({{(case.split, case.patient_id) for case in cases}}), len(cases))
    """
    done = environment.run("-c", "\n".join(line.strip() for line in program.splitlines()))
    sides = [("test", "bottomleft"), ("test", "topright"), ("train", "bottomright"), ("train", "topleft")]
    assert done.stdout == f"{sides} 16\n"


def test_the_failure_on_the_page_is_what_the_kit_says(environment_with, tmp_path):
    broken = shutil.copytree(FLUORESCENCE, tmp_path / "broken", ignore=shutil.ignore_patterns("__pycache__"))
    rule = broken / "src" / "oncoseg_fluorescence" / "normalizer.py"
    text = rule.read_text()
    assert "return (unit**self.settings.gamma).astype(np.float32)" in text
    rule.write_text(
        text.replace("return (unit**self.settings.gamma).astype(np.float32)", "return unit**self.settings.gamma")
    )
    done = environment_with(broken).run("-m", "pytest", "-p", "no:cacheprovider", "--oncoseg", "oncoseg-fluorescence", code=1, cwd=tmp_path / "broken" / "src")  # fmt: skip
    (shown,) = blocks("text")
    assert shown in done.stdout


def test_the_name_is_free_until_the_reader_takes_it():
    assert "fluorescence" not in [spec.modality for spec in REGISTRY.specs(NormalizerSpec)]
    assert read_yaml(TUTORIAL / "nuclei" / "nuclei.yaml")["data"]["dataset"] == "nuclei"
