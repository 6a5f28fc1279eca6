"""Engines beside torch: the same numbers, from the weights as they are at that moment, or torch itself."""

import copy
import os
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from oncoseg_core import MissingDependencyError, ModelSpec, QualityError, UsageError, WeightsError, load_plugins
from oncoseg_litemedsam.engines import engines, export, runtimes
from oncoseg_litemedsam.engines.parts import BOXES, phantom, relative
from oncoseg_litemedsam.engines.weights import acting_weights, fingerprint, plain_network
from oncoseg_lora import LoraSettings, adapt

NAMES = ("openvino", "onnxruntime")
TORCH = f"torch {torch.__version__}"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One folder of exported files for the tests of this module: each takes seconds to make."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONCOSEG_CACHE", str(folder))
        yield folder


def build(engine):
    return load_plugins().build(ModelSpec, "litemedsam", {"engine": engine})


@pytest.fixture(scope="module")
def plain():
    return build("torch")


@pytest.fixture(scope="module")
def expected(plain):
    with torch.inference_mode():
        return plain.encode_image(phantom())


@pytest.fixture(scope="module")
def exported(plain):
    """The encoder's ONNX, for tests of what is done with it."""
    return engines.onnx_part(engines.ENCODER, plain).content


def encoded(model, precision=None):
    with torch.inference_mode(), torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        return model.encode_image(phantom())


def chosen(model, precision=None):
    """What would encode."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        runtime = model._engines.runtime(engines.ENCODER, model, phantom())
    return "torch" if runtime is None else runtime.name


def version(engine):
    return runtimes.label(engine, "fp32")


def only(monkeypatch, *present):
    monkeypatch.setattr(runtimes, "installed", lambda engine: engine in present)


# What is computed.


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_gives_the_embedding_of_torch(engine, expected):
    model = build(engine)
    assert model.computed_by is None
    found = encoded(model)
    assert found.shape == expected.shape
    assert 0 < relative(found, expected) < 1e-4
    assert model.computed_by == version(engine)


def test_a_batch_is_encoded_image_by_image(expected):
    with torch.inference_mode():
        found = build("openvino").encode_image(torch.cat([phantom().flip(-1), phantom()]))
    assert found.shape == (2, 256, 64, 64)
    assert relative(found[1:], expected) < 1e-4
    assert relative(found[:1], expected) > 0.1


@pytest.mark.parametrize("engine", NAMES)
def test_several_threads_encode_at_once(engine, expected):
    model = build(engine)
    images = [phantom(), phantom().flip(-1)] * 3

    def encode(image):
        with torch.inference_mode():
            return model.encode_image(image)

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(encode, images))
    for embedding in found[::2]:
        assert relative(embedding, expected) < 1e-4
    for embedding in found[1::2]:
        assert torch.equal(embedding, found[1])


def test_bfloat16_is_less_exact_and_says_so(expected):
    model = build("openvino")
    assert 1e-3 < relative(encoded(model, torch.bfloat16), expected) < 0.2
    assert model.computed_by == runtimes.label("openvino", "bf16")


def test_the_exported_decoder_gives_the_masks_of_torch(plain, expected):
    """Three boxes, one box: the batch has any length. Its weights are those of the prompt encoder too."""
    content = engines.onnx_part(engines.DECODER, plain).content
    with torch.inference_mode():
        for engine in NAMES:
            runtime = runtimes.start(engine, content, "fp32")
            for prompts in (BOXES[:3], BOXES[3:]):
                wanted = plain.decode_with_torch(expected, prompts)
                boxes = torch.tensor([box.as_tuple() for (box,) in prompts]).float()
                logits, scores = runtime(expected, boxes)
                torch.testing.assert_close(logits, wanted.logits, atol=1e-3, rtol=1e-4)
                torch.testing.assert_close(scores, wanted.scores, atol=1e-4, rtol=0)


# Which engine is taken.


def test_auto_takes_the_first_that_is_installed_and_computes_in_that_precision(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen(build("auto")) == version("openvino")
        only(monkeypatch, "onnxruntime")
        model = build("auto")
        assert chosen(model) == version("onnxruntime")
        assert chosen(model, torch.bfloat16) == "torch"
        only(monkeypatch)
        assert chosen(build("auto")) == "torch"


def test_torch_is_what_a_model_is_built_with(plain, expected):
    assert plain.settings.engine == "torch"
    assert plain.computed_by == TORCH


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_that_is_not_installed(engine, monkeypatch):
    only(monkeypatch)
    extra = {"openvino": "openvino", "onnxruntime": "onnx"}[engine]
    with pytest.raises(MissingDependencyError, match=rf"pip install 'oncoseg-litemedsam\[{extra}\]'"):
        encoded(build(engine))


def test_number_formats_that_an_engine_does_not_compute_in(monkeypatch):
    for engine, precision, what in (
        ("onnxruntime", torch.bfloat16, "fp32 only, not bf16"),
        ("openvino", torch.float16, "not fp16"),
    ):
        with pytest.raises(UsageError, match=what):
            chosen(build(engine), precision)
    monkeypatch.setattr(runtimes, "_processor_has_bf16", lambda: False)
    with pytest.raises(UsageError, match="this processor does not compute in bf16"):
        chosen(build("openvino"), torch.bfloat16)


def test_weights_in_another_format_are_left_to_torch_or_refused():
    pixels = phantom().double()
    with torch.inference_mode():
        model = build("auto").double()
        assert model._engines.runtime(engines.ENCODER, model, pixels) is None
        with pytest.raises(UsageError, match=r"computes with float32 on the cpu, found cpu, torch.float64"):
            build("openvino").double().encode_image(pixels)


def test_what_is_trained_is_computed_by_torch():
    model = build("openvino")
    assert model._engines.runtime(engines.ENCODER, model, phantom()) is None
    with torch.no_grad():
        assert model.train()._engines.runtime(engines.ENCODER, model, phantom()) is None
        assert model.eval()._engines.runtime(engines.ENCODER, model, phantom()).name == version("openvino")


# The weights of this moment.


class Named(runtimes.Runtime):
    """Stands for an engine with the weights of that fingerprint."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def run(self, inputs):
        raise NotImplementedError


@pytest.fixture
def named(monkeypatch):
    """Engines that are called as the weights that they were made from, and which of them were made."""
    made = []

    def started(part, model, *_):
        made.append(fingerprint(engines._weights(part, model)))
        return Named(made[-1])

    monkeypatch.setattr(engines, "_started", started)
    return made


def test_a_weight_that_changes_is_never_answered_by_the_old_engine(named):
    """Not even where it is written to behind torch's version counter, or a running statistic changes."""
    model = build("openvino")
    first = chosen(model)
    assert chosen(model) == first
    weight, statistic = model.image_encoder.neck[0].weight, dict(model.image_encoder.named_buffers())
    statistic = next(tensor for name, tensor in statistic.items() if name.endswith("running_mean"))
    version_before = weight._version
    weight.data.mul_(-1)
    assert weight._version == version_before
    second = chosen(model)
    statistic.add_(1)
    third = chosen(model)
    with torch.no_grad():
        model.image_encoder.neck[2].weight[0, 0, 0, 0] += 1e-6
    fourth = chosen(model)
    assert len({first, second, third, fourth}) == 4
    assert named == [first, second, third, fourth]


def test_an_optimizers_step_changes_the_engine(named):
    model = build("openvino")
    adapted = adapt(model, LoraSettings(rank=2))
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    before = chosen(model.eval())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert chosen(model) != before


def test_an_adapter_is_switched_scaled_and_merged(named):
    torch.manual_seed(0)
    model = build("openvino")
    plain_weights = chosen(model)
    adapted = adapt(model, LoraSettings(rank=2)).eval()
    assert chosen(model) == plain_weights  # B is zero: it adds nothing yet
    randomize(adapted)
    acting = chosen(model)
    with adapted.disable_adapter():
        assert chosen(model) == plain_weights
    assert chosen(model) == acting
    layer = next(module for module in model.modules() if hasattr(module, "scaling"))
    layer.scaling["default"] *= 2
    assert len({plain_weights, acting, chosen(model)}) == 3
    layer.scaling["default"] /= 2
    made = len(named)
    adapted.merge_adapter()
    chosen(model)
    assert len(named) == made + 1


def randomize(adapted):
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)


@pytest.mark.parametrize("policy", ["lora", "lora+decoder"])
def test_what_is_exported_acts_as_the_adapted_model(policy, expected):
    torch.manual_seed(0)
    model = build("torch")
    adapted = adapt(model, LoraSettings(rank=2, policy=policy)).eval()
    randomize(adapted)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(1.1)
        encoder = plain_network(engines._weights(engines.ENCODER, model)).image_encoder
        wanted = model.image_encoder(phantom())
        assert relative(wanted, expected) > 0.05
        assert relative(encoder(phantom()), wanted) < 1e-5
        decoder = engines.DECODER.graph(plain_network(engines._weights(engines.DECODER, model)))
        logits, _ = decoder(expected, engines.DECODER.examples()[1])
        torch.testing.assert_close(logits, model.decode_with_torch(expected, BOXES).logits, atol=1e-3, rtol=1e-4)


def test_an_adapted_model_on_an_engine():
    torch.manual_seed(0)
    model = build("openvino")
    adapted = adapt(model, LoraSettings(rank=2)).eval()
    randomize(adapted)
    found = encoded(adapted)
    with torch.inference_mode():
        assert relative(found, model.image_encoder(phantom())) < 1e-4
    assert adapted.computed_by == version("openvino")


# Files, and engines that are wrong.


class Wrong(runtimes.Runtime):
    """Answers something else, or nothing that is a number."""

    name = "wrong 1"

    def __init__(self, content, change):
        super().__init__()
        self.right, self.change = runtimes.OnnxRuntime(content), change

    def run(self, inputs):
        return [self.change(array) for array in self.right.run(inputs)]


@pytest.mark.parametrize("change", [lambda a: a * 1.001, lambda a: a * float("nan")], ids=["a little", "no number"])
def test_an_engine_whose_masks_are_not_those_of_torch(change, tmp_path, exported, expected, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(engines, "_onnx", lambda *_: exported)
    monkeypatch.setattr(engines, "start", lambda _, content, __: Wrong(content, change))
    with pytest.raises(QualityError, match="`engine` wrong 1: litemedsam's encoder does not give torch's masks"):
        encoded(build("openvino"))
    only(monkeypatch, "openvino")
    model = build("auto")
    with pytest.warns(UserWarning, match="litemedsam's encoder runs on torch instead: openvino: .*does not give torch"):
        found = encoded(model)
    assert torch.equal(found, expected)
    assert model.computed_by == TORCH
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert chosen(model) == "torch"


def test_a_file_is_exported_and_compared_once(monkeypatch):
    chosen(build("openvino"))
    monkeypatch.setattr(engines, "_onnx", lambda *_: pytest.fail("exported again"))
    monkeypatch.setattr(type(engines.ENCODER), "deviation", lambda *_: pytest.fail("compared again"))
    assert chosen(build("openvino")) == version("openvino")


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b""])
def test_a_damaged_file_is_made_again(damage, tmp_path, exported, plain, monkeypatch):
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(engines, "_onnx", lambda *_: exported)
    file = export.onnx_file("encoder", fingerprint(engines._weights(engines.ENCODER, plain)))
    file.parent.mkdir()
    file.write_bytes(damage(exported))
    assert chosen(build("onnxruntime")) == version("onnxruntime")
    assert file.read_bytes() == exported


def test_a_file_that_was_exchanged_is_compared_anew(tmp_path, exported, monkeypatch):
    one = export.Exported(exported, tmp_path / "a.onnx")
    export.note_check(one, "openvino-1", {"dice": 1.0})
    assert export.was_checked(one, "openvino-1")
    assert not export.was_checked(one, "openvino-2")
    assert not export.was_checked(export.Exported(exported + b"x", one.file), "openvino-1")
    (tmp_path / "a.openvino-1.json").write_text("{")
    assert not export.was_checked(one, "openvino-1")


def test_a_cache_folder_that_cannot_be_written(tmp_path, exported, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONCOSEG_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(engines, "_onnx", lambda *_: exported)
    with pytest.warns(UserWarning, match="encoder has to be exported again the next time: cannot write"):
        assert chosen(build("onnxruntime")) == version("onnxruntime")


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


def test_a_copy_of_a_model_gets_engines_of_its_own(named):
    model = build("openvino")
    chosen(model)
    assert model.computed_by is not None
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.computed_by is None
        assert twin._engines.engine == "openvino"


def test_an_engine_takes_no_more_threads_than_torch(monkeypatch):
    content = export.onnx_bytes(torch.nn.Linear(4, 4), (torch.zeros(1, 4),), ["x"], ["y"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert runtimes.OpenVINO(content, "fp32")._model.get_property("INFERENCE_NUM_THREADS") == 1
    assert runtimes.OnnxRuntime(content)._session.get_session_options().intra_op_num_threads == 1


def test_other_weights_than_the_networks_are_not_exported(plain):
    weights = {f"image_encoder.{name}": tensor for name, tensor in acting_weights(plain.image_encoder).items()}
    strange = weights | {"image_encoder.new": torch.zeros(1)}
    lacking = {name: tensor for name, tensor in weights.items() if not name.endswith("neck.0.weight")}
    for wrong, name in ((strange, "new"), (lacking, "neck.0.weight")):
        with pytest.raises(WeightsError, match=f"image_encoder: its weights are not LiteMedSAM's, such as {name}"):
            plain_network(wrong)
