"""Weights from files in Meta's layout, from the hub and at random: what is loaded, and what is refused."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from oncoseg_core import ConfigError, ModelSpec, PromptError, WeightsError, load_plugins
from oncoseg_sam3 import weights
from oncoseg_sam3.layouts import meta_key
from oncoseg_sam3.model import Sam3Settings, Sam3Tiny, Sam3TinySettings
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.sizes import SAM3, TINY
from oncoseg_sam3.weights import load_weights, network_with_weights


def metas_layout(network: Any) -> dict[str, torch.Tensor]:
    """The network's tensors as Meta's sam3.pt has them, written down apart from the code that reads them."""
    tracker = network.inst_interactive_predictor.model.state_dict()
    detector = {name: t for name, t in network.state_dict().items() if not name.startswith("inst_interactive")}
    return {f"detector.{name}": t for name, t in detector.items()} | {f"tracker.{n}": t for n, t in tracker.items()}


def write(tensors: dict[str, Any], path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.fixture
def checkpoint(tiny: Any) -> dict[str, torch.Tensor]:
    return metas_layout(tiny)


def test_the_full_size_has_the_names_of_metas_file() -> None:
    # 1156 and 309 are the counts that others report who load Meta's sam3.pt strictly.
    names = [meta_key(name) for name in build_network(SAM3, "meta").state_dict()]
    assert sum(name.startswith("detector.") for name in names) == 1156
    assert sum(name.startswith("tracker.") for name in names) == 309
    assert len(set(names)) == 1465


@pytest.mark.parametrize("name", ["sam3.pt", "sam3.safetensors", "wrapped.pt"])
def test_a_file_fills_the_network_without_a_network_call(
    name: str, tiny: Any, checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"model": checkpoint} if name == "wrapped.pt" else checkpoint, tmp_path / name)
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a network call"))
    network, digest = network_with_weights(TINY, str(path))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    expected, found = tiny.state_dict(), network.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"cpu"}
    text, other = (n.backbone.language_backbone.encoder for n in (tiny, network))
    assert torch.equal(text.attn_mask, other.attn_mask)
    assert not network.training


def test_a_filled_network_gives_the_logits_of_the_one_that_was_saved(
    tiny: Any, checkpoint: Any, pixels: torch.Tensor, ground: Any, tmp_path: Path
) -> None:
    network, _ = network_with_weights(TINY, str(write(checkpoint, tmp_path / "sam3.pt")))
    with torch.inference_mode():
        expected, found = ground(tiny, pixels), ground(network, pixels)
    for name in ("pred_masks", "pred_logits", "pred_boxes", "presence_logit_dec", "semantic_seg"):
        assert torch.equal(expected[name], found[name]), name


def test_what_can_be_computed_may_be_missing(tiny: Any, checkpoint: Any, tmp_path: Path) -> None:
    kept = {name: tensor for name, tensor in checkpoint.items() if not name.endswith("freqs_cis")}
    assert len(checkpoint) - len(kept) == TINY.trunk_depth
    network, _ = network_with_weights(TINY, str(write(kept, tmp_path / "sam3.safetensors")))
    blocks = zip(tiny.backbone.vision_backbone.trunk.blocks, network.backbone.vision_backbone.trunk.blocks, strict=True)
    assert all(torch.equal(mine.attn.freqs_cis, theirs.attn.freqs_cis) for mine, theirs in blocks)


def test_names_are_told_apart_by_their_prefix(checkpoint: Any, tmp_path: Path) -> None:
    # Meta's loader would take this one for the detector's, because the word is in it.
    misplaced = checkpoint | {"ema.detector.dot_prod_scoring.hs_proj.bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"has 'ema.detector.*names begin with detector. or tracker."):
        network_with_weights(TINY, str(write(misplaced, tmp_path / "sam3.pt")))
    doubled = meta_key("detector.tracker.weight")
    assert doubled == "detector.detector.tracker.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("detector.transformer.decoder.norm.bias"), r"lacks 1 \(such as detector.transformer.decoder"),
        (lambda t: t.pop("tracker.no_mem_embed"), r"lacks 1 \(such as tracker.no_mem_embed"),
        (
            lambda t: t.pop("detector.backbone.vision_backbone.sam2_convs.0.conv_1x1.bias"),
            r"lacks 1 \(such as detector.backbone.vision_backbone.sam2_convs",
        ),
        (lambda t: t.update({"tracker.new": torch.zeros(1)}), r"has unknown 1 \(such as tracker.new"),
        (lambda t: t.update({"tracker.no_mem_embed": torch.zeros(2)}), r"tracker.no_mem_embed has shape \(2,\)"),
        (
            lambda t: t.update({"tracker.no_mem_embed": torch.zeros(1, 1, TINY.width, dtype=torch.complex64)}),
            "tracker.no_mem_embed is torch.complex64, expected torch.float32",
        ),
        (lambda t: t.update({"detector.epoch": 3}), "holds other things than tensors"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: Any, message: str, checkpoint: Any, tmp_path: Path) -> None:
    change(checkpoint)
    path = write(checkpoint, tmp_path / "sam3.pt")
    with pytest.raises(WeightsError, match=f"sam3.pt: .*{message}"):
        network_with_weights(TINY, str(path))


def test_a_detector_alone_has_no_tracker_and_says_so(
    checkpoint: Any, tmp_path: Path, pixels: torch.Tensor, ground: Any
) -> None:
    alone = {name: tensor for name, tensor in checkpoint.items() if name.startswith("detector.")}
    bare = {name: tensor for name, tensor in alone.items() if ".sam2_convs." not in name}
    assert len(bare) < len(alone) < len(checkpoint)
    for name, tensors in {"alone.pt": alone, "bare.pt": bare}.items():
        model = Sam3Tiny(Sam3TinySettings(weights=str(write(tensors, tmp_path / name))))
        with torch.inference_mode():
            assert set(model.encode_image(pixels)) == {"detector_4x", "detector_2x", "detector_1x"}
            ground(model.detector, pixels)
        with pytest.raises(PromptError, match=rf"need the tracker, of which .*{name} has no weights"):
            _ = model.tracker
        assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cpu"}


def test_half_precision_files_become_full_precision(checkpoint: Any, tmp_path: Path) -> None:
    half = {name: t if t.is_complex() else t.bfloat16() for name, t in checkpoint.items()}
    network, _ = network_with_weights(TINY, str(write(half, tmp_path / "sam3.pt")))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_training_does_not_write_to_the_file(checkpoint: Any, tmp_path: Path) -> None:
    for suffix in (".pt", ".safetensors"):
        path = write(checkpoint, tmp_path / f"sam3{suffix}")
        before = path.read_bytes()
        network, _ = network_with_weights(TINY, str(path))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(1)
        assert path.read_bytes() == before


def test_a_file_changed_while_it_is_read_is_refused(
    tiny: Any, checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(checkpoint, tmp_path / "sam3.pt")

    def change(network: Any) -> None:
        path.write_bytes(path.read_bytes() + b" ")

    monkeypatch.setattr(weights, "_compute", change)
    with pytest.raises(WeightsError, match="was changed while it was read"):
        load_weights(tiny, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.pt", None, "No such file or directory; give an existing file as the model's setting weights"),
        ("empty.pt", b"", "not a readable file of tensors, perhaps cut short"),
        ("cut.safetensors", b"\x10\0\0\0", "not a readable file of tensors, perhaps cut short"),
        (
            "pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 39\n",
            "is a Git-LFS pointer, not the file itself: run git lfs pull",
        ),
        ("weights.bin", b"", r"expected hub, random:<seed>, or a file ending in .pt, .pth, .ckpt, .safetensors"),
    ],
)
def test_no_file_of_tensors(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: .*{message}"):
        network_with_weights(TINY, str(path))


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    path = write({"detector.a": Path("x")}, tmp_path / "sam3.pt")
    with pytest.raises(WeightsError, match=r"holds an object of Python \(pathlib"):
        network_with_weights(TINY, str(path))


def test_random_weights_follow_the_seed_and_are_told() -> None:
    state = torch.random.get_rng_state()
    with pytest.warns(UserWarning, match=r"random weights \(random:7\): its masks and scores mean nothing"):
        network, digest = network_with_weights(TINY, "random:7")
    assert torch.equal(torch.random.get_rng_state(), state), "the run's own numbers must not depend on it"
    with pytest.warns(UserWarning, match="random:7"):
        again, _ = network_with_weights(TINY, "random:7")
    with pytest.warns(UserWarning, match="random:8"):
        other, _ = network_with_weights(TINY, "random:8")
    name = "transformer.decoder.query_embed.weight"
    assert digest == "random:7"
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in network.state_dict().items())
    assert not torch.equal(network.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("value", ["random", "random:", "random:x", "random:-1"])
def test_random_without_a_seed_is_a_setting_that_does_not_exist(value: str) -> None:
    with pytest.raises(ConfigError, match="random:<seed>, such as random:0"):
        load_plugins().build(ModelSpec, "sam3-tiny", {"weights": value})


def test_the_full_size_is_metas_unless_told_otherwise() -> None:
    assert Sam3Settings().weights == "hub"
    assert Sam3TinySettings().weights == "random:0"


def test_the_hub_is_asked_for_metas_file(checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(checkpoint, tmp_path / "sam3.pt")
    asked: list[tuple[str, ...]] = []

    def download(*what: str, etag_timeout: float) -> str:
        asked.append(what)
        return str(path)

    monkeypatch.setattr(weights, "_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    _, digest = network_with_weights(TINY, "hub")
    assert asked == [("facebook/sam3", "sam3.pt")]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def hub_error(name: str) -> Exception:
    import httpx
    from huggingface_hub import errors

    if name == "OSError":
        return OSError(28, "No space left on device")
    kind = getattr(errors, name)
    if name == "LocalEntryNotFoundError":
        return kind("offline")
    return kind(f"{name} happened\nmore", response=httpx.Response(403, request=httpx.Request("GET", "https://hub")))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "accept Meta's SAM License at https://huggingface.co/facebook/sam3.*HF_TOKEN"),
        ("RepositoryNotFoundError", "accept Meta's SAM License"),
        ("LocalEntryNotFoundError", "is not in the local cache and the hub cannot be reached"),
        ("HfHubHTTPError", "could not be downloaded: HfHubHTTPError happened; try again"),
        ("OSError", "could not be downloaded: .*No space left"),
    ],
)
def test_the_hubs_refusals_say_what_to_do(error: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*what: str, etag_timeout: float) -> str:
        raise hub_error(error)

    monkeypatch.setattr(weights, "_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(WeightsError, match=message) as raised:
        network_with_weights(TINY, "hub")
    assert "give its path as the model's setting weights" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_connection_the_library_itself_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="not in the local cache"):
        weights.from_hub()


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that refuses the connection, that takes it and says nothing, or whose name nobody looks up in time."""
    import huggingface_hub.constants

    lookup = socket.getaddrinfo
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        if request.param != "refuses":
            silent.listen()
        if request.param == "unnamed":
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: (time.sleep(5), lookup(*a, **k))[1])
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        endpoint = f"http://localhost:{port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(weights, "PATIENCE_S", 0.2)
        yield


@pytest.mark.parametrize("hub", ["refuses", "silent", "unnamed"], indirect=True)
@pytest.mark.usefixtures("hub")
def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("its library would wait"))
    with pytest.raises(
        WeightsError, match=r"not in the local cache and http://localhost:\d+ cannot be reached"
    ) as raised:
        network_with_weights(TINY, "hub")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("hub", ["refuses"], indirect=True)
@pytest.mark.usefixtures("hub")
def test_without_an_answer_the_cached_file_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "models--facebook--sam3"
    commit = "0" * 40
    cached = folder / "snapshots" / commit / "sam3.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    assert weights.from_hub() == cached
