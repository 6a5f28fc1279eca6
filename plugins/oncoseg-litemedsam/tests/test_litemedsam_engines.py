"""Engines beside torch: the same numbers, from the weights as they are at that moment, or torch itself."""

import copy
import os
import pickle
import warnings

import pytest
import torch

from oncoseg_core import MissingDependencyError, ModelSpec, QualityError, UsageError, load_plugins
from oncoseg_litemedsam.engines import engines, export, runtimes
from oncoseg_litemedsam.engines.parts import phantom, relative
from oncoseg_litemedsam.engines.weights import acting_weights, fingerprint
from oncoseg_lora import LoraSettings, adapt

NAMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One folder of exported files for the tests of this module: each takes seconds to make."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONCOSEG_CACHE", str(folder))
        yield folder


def build(engine):
    return load_plugins().build(ModelSpec, "litemedsam", {"engine": engine})


@pytest.fixture(scope="module")
def expected():
    model = build("torch")
    with torch.inference_mode():
        return model.encode_image(phantom())


def encoded(model, precision=None):
    with torch.inference_mode(), torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        return model.encode_image(phantom())


def version(engine):
    return runtimes.label(engine, "fp32")


def only(monkeypatch, *present):
    monkeypatch.setattr(runtimes, "installed", lambda engine: engine in present)


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_gives_the_embedding_of_torch(engine, cache, expected):
    model = build(engine)
    assert model.computed_by is None
    found = encoded(model)
    assert found.shape == expected.shape
    assert 0 < relative(found, expected) < 1e-4
    assert model.computed_by == version(engine)


def test_a_batch_is_encoded_image_by_image(cache, expected):
    with torch.inference_mode():
        found = build("openvino").encode_image(torch.cat([phantom().flip(-1), phantom()]))
    assert found.shape == (2, 256, 64, 64)
    assert relative(found[1:], expected) < 1e-4
    assert relative(found[:1], expected) > 0.1


def test_bfloat16_is_less_exact_and_says_so(cache, expected):
    model = build("openvino")
    assert 1e-3 < relative(encoded(model, torch.bfloat16), expected) < 0.2
    assert model.computed_by == runtimes.label("openvino", "bf16")


def chosen(model, precision=None):
    """What would encode."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        runtime = model._engines.runtime(engines.ENCODER, model, phantom())
    return "torch" if runtime is None else runtime.name


def test_auto_takes_the_first_that_is_installed_and_computes_in_that_precision(cache, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen(build("auto")) == version("openvino")
        only(monkeypatch, "onnxruntime")
        model = build("auto")
        assert chosen(model) == version("onnxruntime")
        assert chosen(model, torch.bfloat16) == "torch"
        only(monkeypatch)
        assert chosen(build("auto")) == "torch"


def test_torch_is_what_a_model_is_built_with(cache):
    model = load_plugins().build(ModelSpec, "litemedsam")
    encoded(model)
    assert model.computed_by == f"torch {torch.__version__}"


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_that_is_not_installed(engine, monkeypatch):
    only(monkeypatch)
    extra = {"openvino": "openvino", "onnxruntime": "onnx"}[engine]
    with pytest.raises(MissingDependencyError, match=rf"pip install 'oncoseg-litemedsam\[{extra}\]'"):
        encoded(build(engine))


@pytest.mark.parametrize(
    ("engine", "precision", "what"),
    [("onnxruntime", torch.bfloat16, "fp32 only, not bf16"), ("openvino", torch.float16, "not fp16")],
)
def test_a_number_format_that_an_engine_does_not_compute_in(engine, precision, what):
    with pytest.raises(UsageError, match=what):
        encoded(build(engine), precision)


def test_a_processor_without_bfloat16(monkeypatch):
    monkeypatch.setattr(runtimes, "_processor_has_bf16", lambda: False)
    with pytest.raises(UsageError, match="this processor does not compute in bf16"):
        encoded(build("openvino"), torch.bfloat16)


def test_weights_in_another_format_are_left_to_torch_or_refused():
    pixels = phantom().double()
    with torch.inference_mode():
        model = build("auto").double()
        assert model._engines.runtime(engines.ENCODER, model, pixels) is None
        with pytest.raises(UsageError, match="computes with float32 on the cpu, found cpu, torch.float64"):
            build("openvino").double().encode_image(pixels)


def test_what_is_trained_is_computed_by_torch(cache):
    model = build("openvino")
    assert model.encode_image(phantom()).requires_grad
    with torch.no_grad():
        model.train().encode_image(phantom())
    assert model.computed_by == f"torch {torch.__version__}"
    with torch.no_grad():
        model.eval().encode_image(phantom())
    assert version("openvino") in model.computed_by


def test_a_weight_that_changes_is_never_answered_by_the_old_engine(cache, expected):
    """Not even where it is written to behind torch's version counter."""
    model = build("onnxruntime")
    before = encoded(model)
    weight = model.image_encoder.neck[0].weight
    version_before = weight._version
    weight.data.mul_(-1)
    assert weight._version == version_before
    after = encoded(model)
    assert relative(after, expected) > 0.1
    assert relative(after, _torch(model)) < 1e-4
    weight.data.mul_(-1)
    assert torch.equal(encoded(model), before)


def _torch(model):
    """What torch computes with the same weights."""
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.inference_mode():
        return network.image_encoder(phantom())


def test_an_adapter_acts_and_can_be_switched_off(cache, expected):
    torch.manual_seed(0)
    model = adapt(build("openvino"), LoraSettings(rank=4, alpha=8)).eval()
    assert relative(encoded(model), expected) < 1e-4
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted = encoded(model)
    assert relative(adapted, expected) > 0.05
    assert relative(adapted, _torch(model)) < 1e-4
    with model.disable_adapter():
        assert relative(encoded(model), expected) < 1e-4
    assert torch.equal(encoded(model), adapted)
    model.merge_adapter()
    assert relative(encoded(model), adapted) < 1e-4
    assert model.computed_by == version("openvino")


class Wrong(runtimes.Runtime):
    """Answers something else, or nothing that is a number."""

    name = "wrong 1"

    def __init__(self, content, change):
        super().__init__()
        self.right, self.change = runtimes.OnnxRuntime(content), change

    def run(self, inputs):
        return [self.change(array) for array in self.right.run(inputs)]


@pytest.mark.parametrize("change", [lambda a: a * 1.001, lambda a: a * float("nan"), lambda a: a[:, ::-1].copy()])
def test_an_engine_whose_masks_are_not_those_of_torch(change, tmp_path, cache, expected, monkeypatch):
    encoded(build("openvino"))
    for file in (cache / "engines").glob("*.json"):
        file.unlink()
    monkeypatch.setattr(engines, "start", lambda _, content, __: Wrong(content, change))
    with pytest.raises(QualityError, match="`engine` wrong 1: litemedsam's encoder does not give torch's masks"):
        encoded(build("openvino"))
    model = build("auto")
    with pytest.warns(UserWarning, match="litemedsam's encoder runs on torch instead: openvino: .*does not give torch"):
        found = encoded(model)
    assert torch.equal(found, expected)
    assert model.computed_by == f"torch {torch.__version__}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        encoded(model)


def test_a_file_is_exported_and_compared_once(cache, monkeypatch, expected):
    encoded(build("openvino"))
    monkeypatch.setattr(engines, "onnx_bytes", lambda *_: pytest.fail("exported again"))
    monkeypatch.setattr(type(engines.ENCODER), "deviation", lambda *_: pytest.fail("compared again"))
    assert relative(encoded(build("openvino")), expected) < 1e-4


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: content + b"x"])
def test_a_damaged_file_is_made_again(damage, cache, expected):
    encoded(build("onnxruntime"))
    weights = fingerprint(acting_weights(build("torch").image_encoder))
    file = export.onnx_file("encoder", weights)
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert relative(encoded(build("onnxruntime")), expected) < 1e-4
    assert export.was_checked(
        export.kept(file), next(iter(cache.glob("engines/*onnxruntime*.json"))).stem.partition("opset17.")[2]
    )


def test_a_cache_folder_that_cannot_be_written(tmp_path, monkeypatch, expected):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="encoder has to be exported again the next time: cannot write"):
        assert relative(encoded(build("onnxruntime")), expected) < 1e-4


def test_no_more_files_are_kept_than_a_bound(tmp_path, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(export, "MOST_FILES", 2)
    for number, weights in enumerate("abc"):
        one = export.Exported(b"x", export.onnx_file("encoder", weights))
        export.keep(one)
        export.note_check(one, "openvino-1", {})
        os.utime(one.file, (number, number))
    assert [export.kept(export.onnx_file("encoder", weights)) is None for weights in "abc"] == [True, False, False]
    assert len(list(tmp_path.rglob("*.json"))) == 2


def test_a_copy_of_a_model_gets_engines_of_its_own(cache):
    model = build("openvino")
    encoded(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.computed_by is None
        assert twin._engines.engine == "openvino"


def test_an_engine_takes_no_more_threads_than_torch(monkeypatch):
    weights = torch.nn.Linear(4, 4)
    content = export.onnx_bytes(weights, (torch.zeros(1, 4),), ["x"], ["y"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert runtimes.OpenVINO(content, "fp32")._model.get_property("INFERENCE_NUM_THREADS") == 1
    assert runtimes.OnnxRuntime(content)._session.get_session_options().intra_op_num_threads == 1
