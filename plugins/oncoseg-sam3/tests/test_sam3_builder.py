"""The network at full size, held against Meta's own builder, and at the test size, run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from oncoseg_core import MissingDependencyError, WeightsError
from oncoseg_sam3.network import builder, meta_import
from oncoseg_sam3.network.builder import build_network, vocabulary_path
from oncoseg_sam3.network.sizes import SAM3, TINY


@pytest.fixture(scope="module")
def full() -> nn.Module:
    return build_network(SAM3, "meta")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_full_size_has_metas_numbers(full: Any) -> None:
    vision = full.backbone.vision_backbone
    groups = {
        "trunk": count(vision.trunk),
        "neck": count(vision.convs),
        "text": count(full.backbone.language_backbone),
        "transformer": count(full.transformer),
        "geometry": count(full.geometry_encoder),
        "segmentation": count(full.segmentation_head),
        "scoring": count(full.dot_prod_scoring),
    }
    assert groups == {
        "trunk": 446_237_696,
        "neck": 7_802_112,
        "text": 353_724_672,
        "transformer": 21_047_605,
        "geometry": 8_215_808,
        "segmentation": 2_298_881,
        "scoring": 1_182_976,
    }
    assert sum(groups.values()) == 840_509_750
    assert count(full) - 840_509_750 == count(full.inst_interactive_predictor) + count(vision.sam2_convs)


def test_building_on_meta_allocates_nothing(full: Any) -> None:
    assert {tensor.device.type for tensor in (*full.parameters(), *full.buffers())} == {"meta"}


class CudaIsMeta(TorchFunctionMode):
    """Lets Meta's builder run without CUDA and without memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("device") == "cuda":
            kwargs["device"] = "meta"
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


# What is set on purpose otherwise, or is a cache that Meta's builder fills.
OTHERWISE = {"use_act_checkpoint_seg_head", "max_hole_area", "compilable_stored_size", "compilable_cord_cache"}


def settings_of(module: nn.Module) -> dict[str, Any]:
    """Every plain value that a module holds, by the module's name and the value's."""
    plain = (bool, int, float, str, tuple, list, type(None), types.FunctionType)
    return {
        f"{name}.{key}": getattr(value, "__name__", value)
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, plain) and key not in OTHERWISE
    }


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_the_full_size_is_what_metas_builder_builds(full: Any) -> None:
    from sam3.model_builder import build_sam3_image_model

    with CudaIsMeta(), torch.device("meta"), torch.random.fork_rng(devices=[]):
        theirs = build_sam3_image_model(
            bpe_path=str(vocabulary_path()), device="cpu", load_from_HF=False, enable_inst_interactivity=True
        )
        theirs.inst_interactive_predictor.model.bf16_context.__exit__(None, None, None)
    assert {name: tensor.shape for name, tensor in full.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    mine, other = settings_of(full), settings_of(theirs)
    assert {name: (mine.get(name), other.get(name)) for name in mine | other if mine.get(name) != other.get(name)} == {}
    assert len(mine) > 5000


def test_import_and_build_leave_the_process_as_it_was() -> None:
    script = """
import sys, torch
before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.sizes import TINY
build_network(TINY)
assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
assert not torch.is_autocast_enabled("cuda") and not torch.cuda.is_initialized()
assert "open_clip" not in sys.modules
triton = sys.modules.get("triton")
assert triton is None or triton.__spec__ is not None, "the stand-in stayed"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_kernel_of_the_stand_in_says_what_is_missing() -> None:
    @meta_import._TritonStandIn.jit
    def edt_kernel() -> None: ...

    with pytest.raises(MissingDependencyError, match=r"'edt_kernel' needs triton"):
        edt_kernel[(1,)](1, 2)


def test_the_stand_in_does_not_take_the_place_of_a_real_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    real = types.ModuleType("triton")
    real.__spec__ = importlib.util.spec_from_loader("triton", None)
    monkeypatch.setitem(sys.modules, "triton", real)
    with meta_import._triton_stand_in():
        assert sys.modules["triton"] is real
    assert sys.modules["triton"] is real


def test_a_missing_vocabulary_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(builder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="open_clip is not installed; pip install"):
        build_network(TINY, "meta")
    empty = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(builder.importlib.util, "find_spec", lambda name: empty)
    with pytest.raises(WeightsError, match="bpe_simple_vocab_16e6.txt.gz.*not in"):
        build_network(TINY, "meta")


def test_the_test_size_runs_as_the_full_one_would(tiny: Any, pixels: torch.Tensor, ground: Any) -> None:
    with torch.inference_mode():
        found = ground(tiny, pixels)
    shapes = {name: tuple(found[name].shape) for name in ("pred_masks", "pred_boxes", "pred_logits", "semantic_seg")}
    side, queries = TINY.mask_size, TINY.queries
    assert shapes == {
        "pred_masks": (2, queries, side, side),
        "pred_boxes": (2, queries, 4),
        "pred_logits": (2, queries, 1),
        "semantic_seg": (2, 1, side, side),
    }
    assert found["presence_logit_dec"].shape == (2, 1)
    assert all(found[name].isfinite().all() for name in shapes)


def test_no_weight_of_a_random_network_is_left_to_chance() -> None:
    def draw() -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            return build_network(TINY).state_dict()

    first, second = draw(), draw()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.view_as_real(t).isfinite().all() if t.is_complex() else t.isfinite().all() for t in first.values())


def interactive_features(network: Any, pixels: torch.Tensor) -> dict[str, Any]:
    features = network.backbone.forward_image(pixels)["sam2_backbone_out"]
    decoder = network.inst_interactive_predictor.model.sam_mask_decoder
    features["backbone_fpn"][0] = decoder.conv_s0(features["backbone_fpn"][0])
    features["backbone_fpn"][1] = decoder.conv_s1(features["backbone_fpn"][1])
    return features


@torch.inference_mode()
def test_metas_interactive_predictor_runs_on_a_cpu(tiny: Any, pixels: torch.Tensor) -> None:
    state = {
        "original_height": 100,
        "original_width": 120,
        "backbone_out": {"sam2_backbone_out": interactive_features(tiny, pixels[:1])},
    }
    masks, scores, logits = tiny.predict_inst(
        state,
        point_coords=np.array([[60.0, 50.0]]),
        point_labels=np.array([1]),
        box=np.array([30, 20, 90, 80]),
        mask_input=np.zeros((1, TINY.mask_size, TINY.mask_size), np.float32),
        return_logits=True,
    )
    assert (masks.shape, scores.shape, logits.shape) == ((3, 100, 120), (3,), (3, TINY.mask_size, TINY.mask_size))


@torch.inference_mode()
@pytest.mark.parametrize("reverse", [False, True])
def test_metas_tracker_runs_on_a_cpu(tiny: Any, pixels: torch.Tensor, reverse: bool) -> None:
    tracker = tiny.inst_interactive_predictor.model
    cached = {frame: (pixels[:1], interactive_features(tiny, pixels[frame % 2, None])) for frame in range(5)}
    state = tracker.init_state(video_height=64, video_width=64, num_frames=5, cached_features=cached)
    for points in ([[0.5, 0.5]], [[0.5, 0.5], [0.4, 0.4]]):  # the second click sees the first one's mask
        tracker.add_new_points_or_box(state, 2, 1, points=torch.tensor(points), labels=torch.ones(len(points)).int())
    tracker.propagate_in_video_preflight(state)
    frames = [
        (frame, tuple(mask.shape))
        for frame, _, _, mask, _ in tracker.propagate_in_video(state, 2, 5, reverse=reverse, tqdm_disable=True)
    ]
    assert frames == [(frame, (1, 1, 64, 64)) for frame in ([2, 1, 0] if reverse else [2, 3, 4])]
