"""The border to the components: a wrong answer and an error of every kind name who provides it and whom to tell."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from oncoseg_core import (
    AutomaticModel,
    AutomaticModelSpec,
    AutomaticResult,
    Box,
    Case,
    DataError,
    DatasetAdapter,
    DatasetSpec,
    Decoded,
    Exporter,
    ExporterSpec,
    ExportReport,
    Geometry,
    LossSpec,
    Metric,
    MetricSpec,
    ModelSpec,
    Normalizer,
    NormalizerSpec,
    PluginError,
    PromptableModel,
    PromptGenerator,
    PromptGeneratorSpec,
    Reader,
    ReaderSpec,
    Segmentation,
    SegmentationLoss,
    Structures,
    Target,
    Tracker,
    TrackerSpec,
    Volume,
)
from oncoseg_core.contract.answers import Provider
from oncoseg_core.plugins import RegisteredComponent
from oncoseg_core.plugins.registry import Plugin, Registry

SHAPE = (2, 3, 4)
VOXELS = np.zeros((1, *SHAPE), np.float32)
MASK = np.ones(SHAPE, bool)
IMAGE = Volume(VOXELS, Geometry.from_parts(SHAPE), "ct")
TARGET = Target(name="tumour", labels={1})
CASE = Case(
    dataset="d", case_id="c", patient_id="p", modality="ct", images=(Path("i"),), labels=(Path("l"),), targets=(TARGET,)
)
SEGMENTATION = Segmentation({"tumour": MASK}, IMAGE.geometry)
PROMPT = (Box(0, 0, 2, 2),)


def answer_of(value):
    """What the component gives back; an exception is raised."""
    if isinstance(value, Exception):
        raise value
    return value


class AnyNormalizer(Normalizer):
    answer = None

    def calibrate(self, voxels, header):
        return answer_of(self.answer)

    def fit(self, voxels):
        return answer_of(self.answer)

    def apply(self, voxels, stats):
        return answer_of(self.answer)

    def recognises(self, voxels):
        return answer_of(self.answer)

    def example(self):
        return answer_of(self.answer)


class AnyAdapter(DatasetAdapter):
    answer = None

    def discover(self, root):
        yield CASE
        yield answer_of(self.answer)

    def load(self, case):
        return answer_of(self.answer)

    def fetch(self, progress):
        return answer_of(self.answer)


class AnyGenerator(PromptGenerator):
    answer = None

    def generate(self, mask, rng, target):
        return answer_of(self.answer)


class AnyLoss(SegmentationLoss):
    answer = None

    def terms(self, logits, target):
        return answer_of(self.answer)


class AnyModel(torch.nn.Module, PromptableModel):
    answer = None

    def __init__(self, settings=None):
        torch.nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)

    def encode_image(self, pixels):
        return answer_of(self.answer)

    def decode(self, embedding, prompts):
        return answer_of(self.answer)

    def slice_tracker(self):
        return answer_of(self.answer)


class AnyReader(Reader):
    answer = None

    def recognises(self, path):
        return answer_of(self.answer)

    def read(self, path):
        return answer_of(self.answer)

    def read_masks(self, path, image):
        return answer_of(self.answer)

    def examine(self, path):
        return answer_of(self.answer)


class AnyExporter(Exporter):
    answer = None

    def check(self, names, geometry):
        answer_of(self.answer)

    def export(self, segmentation, destination):
        return answer_of(self.answer)


class AnyAutomatic(AutomaticModel):
    def segment(self, volume, structures, progress):
        return answer_of(self.answer)


class AnyMetric(Metric):
    answer = None

    def compute(self, prediction, reference, spacing):
        return answer_of(self.answer)


class AnyTracker(Tracker):
    answer = None

    def start(self, config, resumed_step):
        return answer_of(self.answer)

    def finish(self, summary):
        return answer_of(self.answer)


RECORDS = {
    AnyNormalizer: NormalizerSpec(modality="x", factory="test_answers:AnyNormalizer", summary="s"),
    AnyAdapter: DatasetSpec(
        name="x", factory="f:f", summary="s", modalities=("ct",), targets=(TARGET,), licence="n", url="n", citation="n"
    ),
    AnyGenerator: PromptGeneratorSpec(name="x", factory="f:f", summary="s", makes=("box",)),
    AnyLoss: LossSpec(name="x", factory="f:f", summary="s"),
    AnyModel: ModelSpec(
        name="x", factory="f:f", summary="s", prompt_kinds=("box",), input_size=32, mask_size=8, weights="none",
        lora={"targets": ("q",)},
    ),
    AnyReader: ReaderSpec(format="x", factory="f:f", summary="s"),
    AnyExporter: ExporterSpec(format="x", factory="f:f", summary="s", suffix=".x"),
    AnyAutomatic: AutomaticModelSpec(name="x", factory="f:f", summary="s", weights="none"),
    AnyMetric: MetricSpec(name="x", factory="f:f", summary="s", unit="", better="higher"),
    AnyTracker: TrackerSpec(name="x", factory="f:f", summary="s"),
}  # fmt: skip


@pytest.fixture
def build(monkeypatch):
    """Build one of the classes above as a run would, with the answer that it is to give."""

    def build_answering(behaviour, answer, **context):
        spec = RECORDS[behaviour].model_copy(update={"factory": "answers_of_a_plugin:Behaviour"})
        component = RegisteredComponent("hook", spec, Plugin("oncoseg-stranger", "1.2"))
        monkeypatch.setattr("oncoseg_core.plugins.registry.load_factory", lambda _: behaviour)
        built = Registry([component.plugin], [component]).build(type(spec), "x", **context)
        built.answer = answer
        return built

    return build_answering


def needs(behaviour, tmp_path):
    return {AnyLoss: {"modality": "ct"}, AnyTracker: {"run_directory": tmp_path}}.get(behaviour, {})


RNG = np.random.default_rng(0)
NAN = np.full_like(VOXELS, np.nan)
CALLS = {
    (AnyNormalizer, "calibrate"): ((VOXELS, {}), VOXELS, [VOXELS[0], None, VOXELS.astype(complex), MASK]),
    (AnyNormalizer, "fit"): ((VOXELS,), {"low": (1.0,)}, [None, {"low": 1.0}, {"low": (np.nan,)}, {"low": ("1",)}]),
    (AnyNormalizer, "apply"): (
        (VOXELS, {}), VOXELS, [VOXELS.astype(float), VOXELS[:, :1], VOXELS + 2, VOXELS - 1, NAN, None],
    ),
    (AnyNormalizer, "recognises"): ((VOXELS,), np.bool_(1), [None, 1, "yes"]),
    (AnyNormalizer, "example"): ((), None, [VOXELS[0], 1]),
    (AnyAdapter, "load"): (
        (CASE,), (IMAGE, {"tumour": MASK}),
        [
            IMAGE, (VOXELS, {}), (IMAGE, [MASK]), (IMAGE, {"liver": MASK}), (IMAGE, {"tumour": MASK[0]}),
            (IMAGE, {"tumour": MASK.astype(np.uint8)}),
        ],
    ),
    (AnyAdapter, "fetch"): ((print,), Path(), [None, "folder"]),
    (AnyGenerator, "generate"): (
        (MASK[0], RNG, TARGET), PROMPT, [None, (), PROMPT[0], ("box",), (Box(5, 5, 9, 9),), [*PROMPT]],
    ),
    (AnyLoss, "terms"): (
        (torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)), {"dice": torch.tensor(1.0)},
        [None, {}, {"dice": torch.zeros(2)}, torch.tensor(1.0), {"dice": 1.0}],
    ),
    (AnyModel, "decode"): (
        (None, [PROMPT]), Decoded(torch.zeros(1, 4, 4), torch.zeros(1)),
        [
            None, torch.zeros(1, 4, 4), Decoded(torch.zeros(2, 4, 4), torch.zeros(2)),
            Decoded(torch.zeros(1, 4, 4), torch.zeros(1, 1)), Decoded(torch.zeros(4, 4), torch.zeros(1)),
            Decoded(torch.full((1, 4, 4), torch.nan), torch.zeros(1)),
        ],
    ),
    (AnyAutomatic, "segment"): (
        (IMAGE, ("liver",), print), AutomaticResult({"liver": MASK}, {"liver": 0.5}),
        [
            None, {"liver": MASK}, AutomaticResult({}), AutomaticResult({"liver": MASK, "heart": MASK}),
            AutomaticResult({"liver": MASK[0]}), AutomaticResult({"liver": MASK}, {"liver": 50}),
            AutomaticResult({"liver": MASK}, {"heart": 0.5}), AutomaticResult({"liver": MASK}, {"liver": float("nan")}),
        ],
    ),
    (AnyReader, "recognises"): ((Path("x"),), False, [None, "no"]),
    (AnyReader, "read"): ((Path("x"),), IMAGE, [None, VOXELS, (VOXELS, IMAGE.geometry)]),
    (AnyReader, "read_masks"): (
        (Path("x"), IMAGE), Structures({"liver": MASK}),
        [None, {"liver": MASK}, Structures({"liver": MASK[:1]}), Structures({"liver": VOXELS[0]}), Structures([MASK])],
    ),
    (AnyReader, "examine"): ((Path("x"),), [], [None, "fine"]),
    (AnyExporter, "export"): (
        (SEGMENTATION, Path("x")), ExportReport((Path(__file__),)), [None, ExportReport((Path("/no/such/file"),))],
    ),
    (AnyMetric, "compute"): ((MASK, MASK, (1.0, 1.0, 1.0)), 0.5, [float("nan"), float("inf"), "high", MASK, [1.0]]),
}  # fmt: skip
UNCHECKED = [
    (AnyModel, "encode_image", (None,)), (AnyModel, "slice_tracker", ()), (AnyExporter, "check", ((), None)),
    (AnyTracker, "start", ({}, None)), (AnyTracker, "finish", ({},)),
]  # fmt: skip
ALL_CALLS = [*((behaviour, name, arguments) for (behaviour, name), (arguments, *_) in CALLS.items()), *UNCHECKED]


@pytest.mark.parametrize(("behaviour", "name"), CALLS)
def test_a_right_answer_comes_through_and_a_wrong_one_is_refused(behaviour, name, build, tmp_path):
    arguments, right, wrong = CALLS[behaviour, name]
    with torch.no_grad():
        assert getattr(build(behaviour, right, **needs(behaviour, tmp_path)), name)(*arguments) is right
        for answer in wrong:
            component = build(behaviour, answer, **needs(behaviour, tmp_path))
            with pytest.raises(PluginError) as caught:
                getattr(component, name)(*arguments)
            kind = RECORDS[behaviour].kind
            assert str(caught.value).startswith(f"{kind} 'x' of oncoseg-stranger 1.2: {name} gave a wrong answer: ")
            assert str(caught.value).endswith("; tell the authors of oncoseg-stranger")


@pytest.mark.parametrize(("behaviour", "name", "arguments"), ALL_CALLS)
def test_an_error_names_the_component_and_the_call(behaviour, name, arguments, build, tmp_path):
    component = build(behaviour, ZeroDivisionError("by zero\nhere"), **needs(behaviour, tmp_path))
    with pytest.raises(PluginError) as caught:
        getattr(component, name)(*arguments)
    assert str(caught.value) == (
        f"{RECORDS[behaviour].kind} 'x' of oncoseg-stranger 1.2: {name} raised ZeroDivisionError: by zero here; tell "
        "the authors of oncoseg-stranger (--debug shows where)"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("error", [DataError("an empty file"), MemoryError(), torch.OutOfMemoryError("CUDA")])
def test_an_error_of_our_own_and_missing_memory_are_left_as_they_are(error, build):
    with pytest.raises(type(error)) as caught:
        build(AnyMetric, error).compute(MASK, MASK, (1.0, 1.0, 1.0))
    assert caught.value is error


def test_a_lazy_mask_is_made_once_to_be_checked_and_its_error_names_the_model(build):
    class Lazy(Mapping):
        made = 0

        def __getitem__(self, name):
            self.made += 1
            return answer_of(self.mask)

        def __iter__(self):
            return iter(["liver"])

        def __len__(self):
            return 1

    lazy = Lazy()
    lazy.mask = MASK
    build(AnyAutomatic, AutomaticResult(lazy, {"liver": 0.5})).segment(IMAGE, ("liver",), print)
    assert lazy.made == 1
    lazy.mask = ZeroDivisionError("by zero")
    with pytest.raises(PluginError, match="model 'x' of oncoseg-stranger 1.2: segment raised ZeroDivisionError"):
        build(AnyAutomatic, AutomaticResult(lazy)).segment(IMAGE, ("liver",), print)


def test_cases_are_checked_one_by_one(build):
    cases = build(AnyAdapter, "no case").discover(Path())
    assert next(cases) is CASE
    with pytest.raises(PluginError, match=r"discover gave a wrong answer: expected Case, got str 'no case'"):
        next(cases)
    with pytest.raises(PluginError, match="discover raised KeyError: 'names'"):
        list(build(AnyAdapter, KeyError("names")).discover(Path()))


def test_what_a_class_asks_of_the_one_above_is_no_answer(build):
    class Percent(AnyMetric):
        def compute(self, prediction, reference, spacing):
            assert np.isnan(super().compute(prediction, reference, spacing))
            return 100.0

    RECORDS[Percent] = RECORDS[AnyMetric]
    assert build(Percent, float("nan")).compute(MASK, MASK, (1.0, 1.0, 1.0)) == 100


def test_a_method_from_a_class_beside_the_contract_is_checked_too(build):
    class Scores:
        def compute(self, prediction, reference, spacing):
            return float("nan")

    class Mixed(Scores, Metric):
        pass

    RECORDS[Mixed] = RECORDS[AnyMetric]
    with pytest.raises(PluginError, match="compute gave a wrong answer: expected a finite number, or None"):
        build(Mixed, None).compute(MASK, MASK, (1.0, 1.0, 1.0))


def test_a_component_can_be_sent_to_another_process_and_is_still_named_there(build):
    again = pickle.loads(pickle.dumps(build(AnyMetric, float("nan"))))
    with pytest.raises(PluginError, match="metric 'x' of oncoseg-stranger"):
        again.compute(MASK, MASK, (1.0, 1.0, 1.0))


def test_a_component_that_a_program_builds_is_called_as_it_is():
    metric = AnyMetric()
    metric.answer = float("nan")
    assert np.isnan(metric.compute(MASK, MASK, (1.0, 1.0, 1.0)))


def test_an_error_in_the_constructor_names_the_component(build):
    class Cannot(Metric):
        def __init__(self, settings=None):
            raise RuntimeError("no such table")

        def compute(self, prediction, reference, spacing):
            return 1.0

    RECORDS[Cannot] = RECORDS[AnyMetric]
    with pytest.raises(PluginError, match=r"oncoseg-stranger 1\.2: its construction raised RuntimeError: no such"):
        build(Cannot, None)


def test_training_does_not_wait_for_nan(build):
    """The run's own watch looks for it in the loss; a look at every batch would stall a GPU."""
    model = build(AnyModel, Decoded(torch.full((1, 4, 4), torch.nan), torch.zeros(1)))
    assert model.decode(None, [PROMPT]).logits.isnan().all()


@pytest.mark.parametrize(
    ("metadata", "contact"),
    [
        (
            "Project-URL: Homepage, https://home.test\nProject-URL: Issues, https://issues.test",
            " (https://issues.test)",
        ),
        ("Project-URL: Changelog, https://log.test\nAuthor-email: Ann <ann@x.test>", " (Ann <ann@x.test>)"),
        ("", ""),
    ],
)
def test_whom_to_tell_is_read_from_the_distribution(metadata, contact, tmp_path, monkeypatch):
    folder = tmp_path / "told_dist-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: told-dist\nVersion: 1\n{metadata}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Provider("metric", "x", "told-dist", "1").contact() == f"the authors of told-dist{contact}"
