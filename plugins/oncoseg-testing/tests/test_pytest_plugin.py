"""``pytest --oncoseg DISTRIBUTION``: one test per component, and short words for what fails."""

import pytest

from oncoseg_testing import check_component, check_metric, check_normalizer  # noqa: F401 - the inner runs unload what they load
from oncoseg_testing.broken import datasets

pytest_plugins = ["pytester"]

PLUGIN = """
from oncoseg_core import DatasetSpec, ExporterSpec, MetricSpec, NormalizerSpec, Target, hookimpl

@hookimpl
def oncoseg_normalizers():
    yield NormalizerSpec(modality="sound", factory="oncoseg_testing.broken.normalizers:Window", summary="s")
    yield NormalizerSpec(modality="wide", factory="oncoseg_testing.broken.normalizers:TooWide", summary="s")

@hookimpl
def oncoseg_metrics():
    yield MetricSpec(name="absent", unit="", better="lower", factory="no_such_module:Metric", summary="s")

@hookimpl
def oncoseg_exporters():
    yield ExporterSpec(format="series", suffix=".dcm", factory="kit_example:Series", summary="s")

@hookimpl
def oncoseg_datasets():
    yield DatasetSpec(
        name="tiny", factory="oncoseg_testing.broken.datasets:Folder", summary="s", modalities=("ct",),
        targets=(Target(name="tumour", labels={1, 2}),), licence="CC0", url="u", citation="c",
    )
"""
BEHAVIOUR = """
from oncoseg_core import Exporter, ExportReport, Settings

class SeriesSettings(Settings):
    folder: str

class Series(Exporter):
    Settings = SeriesSettings

    def export(self, segmentation, destination):
        return ExportReport(())
"""


@pytest.fixture
def installed(pytester):
    """A distribution whose components are sound, broken, missing a library, or in need of something."""

    def install(name, plugin):
        package = name.replace("-", "_")
        info = pytester.mkdir(f"{package}-1.0.dist-info")
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[oncoseg]\n{name} = {package}_plugin\n")
        pytester.makepyfile(**{f"{package}_plugin": plugin})

    pytester.makepyfile(kit_example=BEHAVIOUR)
    install("kit-example", PLUGIN)
    install("kit-torn", "raise ValueError('torn')")
    pytester.syspathinsert()
    return pytester


def test_one_test_per_component(installed):
    installed.makepyfile(test_own="def test_own(): pass")
    done = installed.runpytest_inprocess("-v", "-rs", "--oncoseg", "Kit_Example")
    done.assert_outcomes(passed=2, failed=2, skipped=2)
    done.stdout.fnmatch_lines([
        "test_own.py::test_own PASSED*",
        "oncoseg kit-example::dataset tiny SKIPPED*",
        "oncoseg kit-example::exporter series SKIPPED*",
        "oncoseg kit-example::metric absent FAILED*",
        "oncoseg kit-example::normalizer sound PASSED*",
        "oncoseg kit-example::normalizer wide FAILED*",
    ])  # fmt: skip
    done.stdout.fnmatch_lines(["*say where the dataset is: --oncoseg-data tiny=DIR*"])
    done.stdout.fnmatch_lines(
        [
            "*it needs settings (settings of exporter 'series': missing key 'folder'); call oncoseg_testing.check_exporter*"
        ]
    )


def test_a_failure_is_told_in_three_lines(installed):
    done = installed.runpytest_inprocess("--oncoseg", "kit-example", "-k", "normalizer and wide")
    done.assert_outcomes(failed=1, deselected=4)
    done.stdout.fnmatch_lines(
        [
            "*normalizer wide*",
            "rule:    apply returns finite values in [[]0, 1]",
            "example: *",
            "found:   values from * to 1.5*",
        ],
        consecutive=True,
    )
    text = done.stdout.str()
    assert "Traceback" not in text
    assert ".py:" not in text
    assert "hypothesis" not in text.partition("FAILURES")[2]


def test_what_cannot_be_built_is_told_in_one_line(installed):
    done = installed.runpytest_inprocess("--oncoseg", "kit-example", "-k", "metric")
    done.stdout.fnmatch_lines(["PluginError: metric 'absent' of kit-example 1.0: *'no_such_module': no such module"])


def test_a_dataset_is_checked_in_its_folder(installed, tmp_path):
    datasets.write_tiny_dataset(tmp_path)
    arguments = ("--oncoseg", "kit-example", "-k", "dataset", "--oncoseg-data", f"tiny={tmp_path}")
    installed.runpytest_inprocess(*arguments).assert_outcomes(passed=1, deselected=4)
    (tmp_path / "p1a-label.nii").unlink()
    done = installed.runpytest_inprocess(*arguments)
    done.stdout.fnmatch_lines(
        ["rule:    the files of a case exist", "example: case 'p1a'", "found:   no *p1a-label.nii"]
    )


def test_a_plugin_that_does_not_load_fails(installed):
    done = installed.runpytest_inprocess("--oncoseg", "kit-torn", "--oncoseg", "kit-example", "-k", "torn")
    done.assert_outcomes(failed=1, deselected=5)
    done.stdout.fnmatch_lines(["*kit-torn 1.0 is broken: ValueError: torn*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--oncoseg", "kit-exmple"), "*--oncoseg kit-exmple: this plugin is not installed; did you mean 'kit-example'[?]"),
        (("--oncoseg-data", "tiny=."), "*--oncoseg-data is for the datasets and readers of a plugin: name it with --oncoseg"),
        (("--oncoseg", "kit-example", "--oncoseg-data", "tiny"), "*--oncoseg-data tiny: expected NAME=PATH*"),
        (("--oncoseg", "kit-example", "--oncoseg-data", "tiny=absent"), "*--oncoseg-data tiny=absent: no such file or folder"),
        (("--oncoseg", "kit-example", "--oncoseg-data", "tini=."), "*--oncoseg-data tini: no dataset or reader of kit-example; did you mean 'tiny'[?]"),
    ],
)  # fmt: skip
def test_wrong_options_end_with_4_and_the_nearest_name(arguments, said, installed):
    done = installed.runpytest_inprocess(*arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([said])


def test_a_disabled_plugin_is_told_so(installed, monkeypatch):
    monkeypatch.setenv("ONCOSEG_DISABLE_PLUGINS", "kit-example")
    done = installed.runpytest_inprocess("--oncoseg", "kit-example")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--oncoseg kit-example: this plugin is disabled by the environment"])


def test_nothing_is_added_unless_asked_for(installed):
    installed.makepyfile(test_own="def test_own(): pass")
    installed.runpytest_inprocess().assert_outcomes(passed=1)
