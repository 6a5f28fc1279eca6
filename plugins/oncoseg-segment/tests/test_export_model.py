"""``oncoseg export-model``: ONNX files of a model and its adapter, with what a Triton server reads; all or nothing."""

import hashlib
import json
import re

import numpy as np
import onnxruntime
import pytest
import torch

from oncoseg_core import Box, ModelSpec, StorageError, UsageError, load_plugins
from oncoseg_lora import LoraSettings, adapt, load_adapter, save_adapter
from oncoseg_segment.files import model_repository
from oncoseg_segment.files.model_repository import ModelExport, export_model

PIXELS = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
BOXES = [(40.0, 50.0, 120.0, 150.0), (100.0, 100.0, 130.0, 120.0)]


@pytest.fixture(scope="module")
def registry():
    return load_plugins()


@pytest.fixture(scope="module")
def adapter(registry, tmp_path_factory):
    """One with random weights."""
    torch.manual_seed(0)
    model = adapt(registry.build(ModelSpec, "litemedsam"), LoraSettings(rank=2, policy="lora+decoder"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
        elif "modules_to_save" in name:
            parameter.data.mul_(1.05)
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    save_adapter(model, folder, versions={}, paths={})
    return folder


@pytest.fixture(scope="module")
def written(registry, adapter, tmp_path_factory):
    """A Triton repository of an adapted model, and what the call returned."""
    folder = tmp_path_factory.mktemp("export") / "repository"
    return folder, export_model(registry, ModelExport("litemedsam", folder, {}, str(adapter)))


def test_the_files_answer_as_the_adapted_model(registry, adapter, written):
    folder, _ = written
    model = load_adapter(registry.build(ModelSpec, "litemedsam"), adapter).eval()
    with torch.inference_mode():
        embedding = model.encode_image(PIXELS)
        wanted = model.decode(embedding, [(Box(*box),) for box in BOXES])
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"litemedsam_{part}" / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        for part in ("encoder", "decoder")
    )  # fmt: skip
    (found,) = encoder.run(None, {"pixels": PIXELS.numpy()})
    assert np.abs(found - embedding.numpy()).max() < 1e-4 * np.abs(embedding.numpy()).max()
    logits, scores = decoder.run(None, {"embedding": found, "boxes": np.array(BOXES, np.float32)})
    assert np.abs(logits - wanted.logits.numpy()).max() < 1e-2
    assert ((logits > 0) == (wanted.logits.numpy() > 0)).mean() > 0.9999
    assert np.abs(scores - wanted.scores.numpy()).max() < 1e-3


def test_what_a_server_reads_and_what_a_person_reads(adapter, written):
    folder, record = written
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "litemedsam_decoder/1/model.onnx",
        "litemedsam_decoder/config.pbtxt",
        "litemedsam_encoder/1/model.onnx",
        "litemedsam_encoder/config.pbtxt",
    ]
    manifest = hashlib.sha256((adapter / "oncoseg.json").read_bytes()).hexdigest()
    assert record["adapter"] == manifest
    readme = (folder / "README.md").read_text()
    for one in record["files"]:
        content = (folder / one["name"] / "1" / "model.onnx").read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        config = (folder / one["name"] / "config.pbtxt").read_text()
        assert f'name: "{one["name"]}"' in config
        assert "max_batch_size: 0" in config
        assert f'key: "weights_sha256" value {{ string_value: "{one["weights_sha256"]}" }}' in config
        assert one["sha256"] in readme
        assert one["weights_sha256"] in readme
    assert manifest in readme
    assert str(adapter) not in readme
    decoder = (folder / "litemedsam_decoder" / "config.pbtxt").read_text()
    assert re.findall(r'name: "(\w+)" data_type: TYPE_FP32 dims: \[ (.*?) \]', decoder) == [
        ("embedding", "1, 256, 64, 64"), ("boxes", "-1, 4"), ("logits", "-1, -1, -1"), ("scores", "-1")
    ]  # fmt: skip


@pytest.mark.parametrize("thing", ["folder", "file", "dangling link"])
def test_nothing_is_written_over(thing, registry, tmp_path):
    output = tmp_path / "there"
    if thing == "folder":
        output.mkdir()
    elif thing == "file":
        output.write_text("mine")
    else:
        output.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there is there already; choose another `output`"):
        export_model(registry, ModelExport("litemedsam", output, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_failure_leaves_nothing_behind(registry, tmp_path, monkeypatch):
    def full(target, content):
        if target.name == "README.md":
            raise StorageError("cannot write it: the disk is full")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"")

    class Small:
        weights_sha256 = "abc"

        def onnx_parts(self):
            return {"encoder": (b"", "def")}

    monkeypatch.setattr(model_repository, "atomic_write", full)
    monkeypatch.setattr(model_repository, "adapted_model", lambda *_: Small())
    with pytest.raises(StorageError, match="the disk is full"):
        export_model(registry, ModelExport("litemedsam", tmp_path / "new", {}, format="onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_an_export_is_refused_before_it_is_built(registry, tmp_path):
    with pytest.raises(UsageError, match="model 'sam3' has no ONNX export; known: litemedsam"):
        export_model(registry, ModelExport("sam3", tmp_path / "new", {}))


def test_the_command(tmp_path, monkeypatch, capsys):
    from oncoseg_segment.cli.export_model_command import app

    given = []

    def export(_, request):
        given.append(request)
        return {"output": "out", "files": [{"name": "litemedsam_encoder", "sha256": "abc"}]}

    monkeypatch.setattr(model_repository, "export_model", export)
    arguments = ["litemedsam", "out", "--adapter", "mine", "--format", "onnx", "--model-set", "weights=w.pth"]
    app(args=arguments, standalone_mode=False)
    assert capsys.readouterr().out == "written: out\nlitemedsam_encoder: abc\n"
    app(args=[*arguments, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["output"] == "out"
    (request, _) = given
    assert (request.adapter, request.format, request.model_settings) == ("mine", "onnx", {"weights": "w.pth"})
    (tmp_path / "there").mkdir()
    monkeypatch.undo()
    with pytest.raises(UsageError, match="is there already; choose another OUTPUT"):
        app(args=["litemedsam", str(tmp_path / "there")], standalone_mode=False)
