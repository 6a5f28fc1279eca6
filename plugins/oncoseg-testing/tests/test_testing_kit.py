"""The kit for plugin authors: what keeps the contract passes, and what breaks a rule is told which one.

The images are synthetic: the subject is the kit, and what it must catch does not occur in real scans.
"""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import SimpleITK as sitk

from oncoseg_core import (
    CommandSpec,
    DataError,
    ExporterSpec,
    NormalizerSpec,
    Registry,
    Target,
    UsageError,
    load_plugins,
)
from oncoseg_core.contract.hookspecs import HOOK_RECORDS
from oncoseg_core.plugins.registry import Plugin, RegisteredComponent
from oncoseg_testing import (
    check_command,
    check_component,
    check_dataset,
    check_exporter,
    check_loss,
    check_metric,
    check_model,
    check_normalizer,
    check_prompt_generator,
    check_reader,
    check_tracker,
    phantom,
)
from oncoseg_testing.broken import (
    KINDS,
    broken_examples,
    commands,
    datasets,
    exporters,
    losses,
    metrics,
    models,
    normalizers,
    prompt_generators,
    readers,
    trackers,
)
from oncoseg_testing.checks.datasets import _listing

EXAMPLES = [example for kind in KINDS for example in broken_examples(kind)]


def told(check):
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.kind} {example.name}")
def test_what_breaks_a_rule_is_told_which(example):
    found = example.caught()
    assert found is not None
    assert str(found) == f"rule: {found.rule}; example: {found.example}; found: {found.found}"
    assert found.example
    assert found.found


def test_every_kind_of_record_has_broken_examples():
    assert sorted(KINDS) == sorted(record.kind.replace(" ", "-") for record in HOOK_RECORDS.values())
    assert {example.kind for example in EXAMPLES} == set(KINDS)


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_authors_can_see_the_checks_fail():
    done = run("-m", "oncoseg_testing.broken", "prompt-generator")
    assert done.returncode == 0, done.stderr
    assert "prompt-generator Beside\n  rule:    its hints lie on the slice\n  example: mask " in done.stdout
    assert "NOT CAUGHT" not in done.stdout
    assert done.stdout.count("  found:   ") == len(broken_examples("prompt-generator"))
    misspelt = run("-m", "oncoseg_testing.broken", "normaliser")
    assert misspelt.returncode == 2
    assert misspelt.stderr == "error: unknown kind 'normaliser'; did you mean 'normalizer'?\n"


def test_a_broken_example_that_is_not_caught_ends_with_1():
    done = run("-c", """if True:
        import runpy
        from oncoseg_testing.broken import metrics
        metrics.EXAMPLES.breaks("something else")(metrics.Dice)
        metrics.EXAMPLES.breaks("memory layout")(metrics.Never)
        import sys
        sys.argv = ["broken", "metric"]
        runpy.run_module("oncoseg_testing.broken", run_name="__main__")
    """)  # fmt: skip
    assert done.returncode == 1
    assert "metric Dice\n  NOT CAUGHT; expected the rule: something else\n" in done.stdout
    assert done.stderr == "not caught: metric Dice, metric Never\n"


@pytest.mark.parametrize(
    ("library", "check", "said"),
    [
        ("hypothesis", "check_metric", "check_metric needs the library 'hypothesis', which is not installed: pip install hypothesis"),
        ("torch", "check_loss", "check_loss needs the library 'torch', which is not installed: pip install torch"),
    ],
)  # fmt: skip
def test_a_missing_library_is_named_with_its_install_command(library, check, said):
    program = f"""
        import sys
        sys.modules[{library!r}] = None
        try:
            from oncoseg_testing import {check}
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert run("-c", textwrap.dedent(program)).stdout == f"MissingDependencyError {said}\n"


def test_the_kit_is_light_until_a_check_is_asked_for():
    heavy = ("hypothesis", "torch", "SimpleITK", "numpy", "oncoseg_core.plugins.registry")
    program = f"import sys, oncoseg_testing.pytest_plugin; print(set({heavy}) & set(sys.modules))"
    assert run("-c", program).stdout == "set()\n"
    with pytest.raises(ImportError, match="check_nothing"):
        from oncoseg_testing import check_nothing  # noqa: F401


# What is sound passes.


def test_a_sound_normalizer_passes():
    check_normalizer(normalizers.Window())
    check_normalizer(normalizers.WithGaps(), accepts_nan=True)
    check_normalizer(normalizers.Inverted(), monotone=False)


def test_the_examples_keep_to_the_modality():
    class Positive(normalizers.Window):
        def fit(self, voxels):
            if voxels.min() < 0 or voxels.max() > 4095 or len(voxels) != 1:
                raise DataError("not mine")
            return super().fit(voxels)

    check_normalizer(Positive(), values=(0, 4095), channels=(1,))
    assert "DataError: not mine" in told(lambda: check_normalizer(Positive()))


@pytest.mark.parametrize("values", [(300, 4000), (0, 1), (0.0, 0.5), (-5, 5), (290.5, 310.25), (-32768, 65535)])
def test_any_range_of_values_can_be_asked_for(values):
    check_normalizer(normalizers.Window(), values=values)


def test_a_modality_is_tested_on_the_values_of_its_own_example():
    seen = set()

    class Kelvin(normalizers.Window):
        def fit(self, voxels):
            if voxels.min() < 0:
                raise DataError("colder than nothing")
            seen.update(voxels.ravel().tolist())
            return super().fit(voxels)

        def example(self):
            return np.linspace(290, 310, 64, dtype=np.float32).reshape(1, 1, 8, 8)

    spec = NormalizerSpec(modality="heat", factory="a:b", summary="s", plausible=(0, 5000))
    check_normalizer(Kelvin(), spec=spec)
    within = [value for value in seen if 290 <= value <= 310]
    assert len(within) > 20
    assert {290, 310} <= seen
    assert not [value for value in seen if 310 < value < 1e30]


def test_a_header_that_lacks_what_the_modality_needs_may_be_refused():
    class Counts(normalizers.Window):
        def calibrate(self, voxels, header):
            if header and "Units" not in header:
                raise DataError("no Units (0054,1001)")
            return voxels

    check_normalizer(Counts())


def test_the_record_says_which_channels_and_whether_nan_occurs():
    seen = set()

    class Recording(normalizers.WithGaps):
        def fit(self, voxels):
            seen.add((len(voxels), bool(np.isnan(voxels.astype(float)).any())))
            return super().fit(voxels)

    spec = NormalizerSpec(
        modality="two", factory="a:b", summary="s", accepts_nan=True,
        channel_names={"lipids": (), "proteins": ("protein",)}, channel_order=("lipids", "proteins"),
    )  # fmt: skip
    check_normalizer(Recording(), spec=spec)
    assert seen == {(channels, nan) for channels in (1, 2, 3) for nan in (False, True)}


def test_a_failure_that_does_not_come_again_is_told_so():
    (example,) = [example for example in EXAMPLES if example.name == "Sometimes"]
    assert example.caught().found.endswith("ValueError: every now and then (and not every time)")


def test_a_sound_prompt_generator_passes():
    check_prompt_generator(prompt_generators.Tight(), makes=("box",))
    check_prompt_generator(prompt_generators.AsMask(), makes=("mask",))
    check_prompt_generator(prompt_generators.Inside(), makes=("point",))
    check_prompt_generator(prompt_generators.FourPixelsOff(), makes=("point",), near=4)


def test_a_sound_loss_passes():
    check_loss(losses.CrossEntropy(modality="ct"))


def test_a_sound_model_passes_and_keeps_its_mode():
    for training in (True, False):
        model = models.Tiny().train(training)
        model.qkv.requires_grad_(training)
        check_model(model)
        assert model.training is training
        assert model.qkv.weight.requires_grad is training


def test_a_sound_metric_passes():
    check_metric(metrics.Dice(), better="higher", symmetric=True)
    check_metric(metrics.Precision(), better="higher")
    check_metric(metrics.VolumeError(), better="lower")


def test_a_sound_tracker_passes_and_sees_a_whole_run(tmp_path):
    check_tracker(trackers.Collecting, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["step"], row["event"]) for row in rows] == [
        (0, "score"), (1, "train"), (2, "train"), (2, "train"), (2, "score"),
        (2, "train"), (2, "validation"), (2, "warning"), (2, "from-a-later-version"),
    ]  # fmt: skip
    assert sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "case1.png")).shape == (1, 1)
    assert "adapted" in json.loads((tmp_path / "summary.json").read_text())


def test_a_sound_exporter_passes(tmp_path):
    check_exporter(exporters.Nifti(), tmp_path, suffix=".nii.gz", read_back=exporters.read_back)


def test_an_installed_exporter_is_read_back_by_what_is_installed():
    registry = load_plugins()
    for name in ("nifti", "nrrd", "mha"):
        check_component(registry, registry.component(ExporterSpec, name))
    flipped = ExporterSpec(
        format="flipped", suffix=".nii.gz", factory="oncoseg_testing.broken.exporters:Flipped", summary="s"
    )
    component = RegisteredComponent("oncoseg_exporters", flipped, Plugin("oncoseg-broken", "1"))
    message = told(lambda: check_component(Registry([component.plugin], [component]), component))
    assert "the same masks, in the same place" in message


def test_a_sound_reader_passes(tmp_path):
    image, masks = readers.write_grid(tmp_path)
    (tmp_path / "empty").mkdir()
    check_reader(readers.Grid(), tmp_path / "empty", image=image, masks=masks, expected=phantom())


def test_a_reader_of_images_alone_may_refuse_structures(tmp_path):
    image, _ = readers.write_grid(tmp_path)
    (tmp_path / "empty").mkdir()
    check_reader(readers.Grid(), tmp_path / "empty", image=image)
    (tmp_path / "another").mkdir()
    message = told(lambda: check_reader(readers.Grid(), tmp_path / "another", image=image, masks=image))
    assert "ImageReadError" in message


@pytest.fixture
def tiny_dataset(tmp_path):
    datasets.write_tiny_dataset(tmp_path)
    return tmp_path


def test_a_sound_adapter_passes(tiny_dataset):
    check_dataset(datasets.Folder(), tiny_dataset, datasets.SPEC)
    check_dataset(datasets.OtherGrid(), tiny_dataset, datasets.SPEC, cases_to_read=0)


class OfManyMeanings(datasets.Folder):
    """The organ has another value in each case."""

    def case(self, name, path):
        target = Target(name="organ", labels={len(name)})
        return super().case(name, path).model_copy(update={"targets": (target,)})


def test_settings_may_say_what_a_record_leaves_open(tiny_dataset):
    """A record without modalities and targets takes any, as long as a name has one meaning."""
    said_by_settings = datasets.SPEC.model_copy(update={"modalities": (), "targets": ()})
    check_dataset(datasets.Folder(), tiny_dataset, said_by_settings)
    message = told(lambda: check_dataset(OfManyMeanings(), tiny_dataset, said_by_settings))
    assert "a target of one name has the same label values in every case" in message


@pytest.mark.parametrize("backwards", [False, True])
def test_an_unsorted_adapter_is_told_whatever_the_order_of_this_system(backwards, tiny_dataset):
    with _listing(backwards=backwards):
        assert "sort what you list" in told(lambda: check_dataset(datasets.AsListed(), tiny_dataset, datasets.SPEC))


def test_a_sound_command_passes():
    check_command(commands.command("sound"))


def test_a_command_that_cannot_be_imported_alone_is_shown_why(tmp_path, monkeypatch):
    (tmp_path / "kit_lonely.py").write_text(
        "import sys\n"
        "from oncoseg_testing.broken.commands import sound as app\n"
        "if 'pytest' not in sys.modules: raise ValueError('not without a test')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = CommandSpec(name="hello", factory="kit_lonely:app", summary="Say hello")
    assert "ValueError: not without a test" in told(lambda: check_command(spec))


# From the record to its check.


@pytest.mark.parametrize("hook", HOOK_RECORDS)
def test_a_component_is_checked_by_its_record(hook, tiny_dataset):
    broken = {
        "oncoseg_normalizers": ("normalizers:RefusesNan", {"modality": "x", "accepts_nan": True}),
        "oncoseg_datasets": ("datasets:SameId", {}),
        "oncoseg_prompt_generators": ("prompt_generators:Undeclared", {"name": "x", "makes": ("box",)}),
        "oncoseg_losses": ("losses:Summed", {"name": "x"}),
        "oncoseg_models": ("models:Blind", {}),
        "oncoseg_readers": ("readers:Greedy", {"format": "x"}),
        "oncoseg_exporters": ("exporters:NoReport", {"format": "x", "suffix": ".nii.gz"}),
        "oncoseg_automatic_models": ("automatic_models:NoDigest", {"name": "tissue", "weights": "none"}),
        "oncoseg_metrics": ("metrics:Dice", {"name": "x", "unit": "", "better": "lower"}),
        "oncoseg_trackers": ("trackers:NoPictures", {"name": "x"}),
        "oncoseg_commands": ("commands:silent", {"name": "x"}),
    }  # fmt: skip
    module, fields = broken[hook]
    known = {"oncoseg_datasets": datasets.SPEC, "oncoseg_models": models.Tiny.spec}.get(hook)
    factory = f"oncoseg_testing.broken.{module}"
    record = (
        known.model_copy(update={"factory": factory})
        if known
        else HOOK_RECORDS[hook](factory=factory, summary="s", **fields)
    )
    component = RegisteredComponent(hook, record, Plugin("oncoseg-broken", "1"))
    registry = Registry([component.plugin], [component])
    root = None if hook == "oncoseg_readers" else tiny_dataset
    message = told(lambda: check_component(registry, component, root=root))
    (example,) = [e for e in EXAMPLES if e.name == module.partition(":")[2] and e.kind == record.kind.replace(" ", "-")]
    assert example.rule in message.partition("; example: ")[0]


def test_a_dataset_is_not_checked_without_its_folder():
    registry = load_plugins({"ONCOSEG_PLUGINS": "oncoseg-datasets"})
    (component,) = [c for c in registry.components if c.spec.component_name == "samples" and c.spec.kind == "dataset"]
    with pytest.raises(UsageError, match="the dataset 'samples' is checked in its folder"):
        check_component(registry, component)
