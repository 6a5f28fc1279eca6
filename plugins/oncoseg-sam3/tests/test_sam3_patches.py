"""For each patch: the defect is still in Meta's class, and the class used here does not have it.

A test that fails on its first half says that Meta has mended the defect: its patch can go.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from typing import Any, ClassVar

import pytest
import torch
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode

from oncoseg_sam3.network import builder, patches, upstream
from oncoseg_sam3.network.builder import build_network
from oncoseg_sam3.network.sizes import TINY

# This machine may have no second device, so that "elsewhere" is played by the meta device: what was computed there has
# no values, and must not be met again.
ELSEWHERE = torch.device("meta")


def features(device: torch.device | str = "cpu") -> torch.Tensor:
    return torch.zeros(1, 8, 4, 4, device=device)


@pytest.mark.parametrize(
    ("encoding", "found"), [(upstream.PositionEmbeddingSine, "meta"), (patches.PositionEncoding, "cpu")]
)
def test_position_encoding_follows_the_device(encoding: Any, found: str) -> None:
    encode = encoding(num_pos_feats=8)
    encode(features(ELSEWHERE))
    assert encode(features()).device.type == found


def test_position_encoding_is_metas_and_is_kept() -> None:
    encode = patches.PositionEncoding(num_pos_feats=8)
    encode(features(ELSEWHERE))
    first = encode(features()).clone()
    assert torch.equal(first, upstream.PositionEmbeddingSine(num_pos_feats=8)(features()))
    encode.cache[4, 4] += 1
    assert torch.equal(encode(features()), first + 1)


class AutocastSeen(TorchDispatchMode):
    """Notes the dtype of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {torch.ops.aten.addmm.default, torch.ops.aten.mm.default}:
            self.dtypes.add(args[-1].dtype)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layer", "dtype"), [(upstream.TransformerDecoderLayer, torch.bfloat16), (patches.DecoderLayer, torch.float32)]
)
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_the_decoders_feed_forward_part_leaves_autocast(layer: Any, dtype: torch.dtype) -> None:
    attention = upstream.MultiheadAttentionWrapper(8, 2)
    part = layer("relu", 8, 16, 0.1, attention, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16), AutocastSeen() as seen:
        part.forward_ffn(torch.zeros(3, 1, 8))
    assert seen.dtypes == {dtype}


def test_the_decoders_feed_forward_part_is_metas() -> None:
    part = patches.DecoderLayer("relu", 8, 16, 0.1, upstream.MultiheadAttentionWrapper(8, 2), 2).eval()
    tokens = torch.randn(3, 1, 8)
    assert torch.equal(part.forward_ffn(tokens), upstream.TransformerDecoderLayer.forward_ffn(part, tokens))


def decoder(kind: type) -> Any:
    layer = upstream.TransformerDecoderLayer(
        "relu", 16, 16, 0.0, upstream.MultiheadAttentionWrapper(16, 2), 2, use_text_cross_attention=True
    )
    made = kind(
        d_model=16,
        frozen=False,
        interaction_layer=None,
        layer=layer,
        num_layers=1,
        num_queries=3,
        return_intermediate=True,
        box_refine=True,
        boxRPB="log",
        presence_token=True,
    )
    return made.eval()


BOXES = torch.tensor([[[0.5, 0.5, 0.2, 0.4]], [[0.1, 0.3, 0.2, 0.1]], [[0.9, 0.9, 0.1, 0.1]]])
SIZE = (torch.tensor(6), torch.tensor(5))


def test_the_decoders_coordinates_follow_the_device() -> None:
    theirs, ours = decoder(upstream.TransformerDecoder), decoder(patches.Decoder)
    ours.load_state_dict(theirs.state_dict())
    expected = theirs._get_rpb_matrix(BOXES, SIZE)
    for made in (theirs, ours):
        made.compilable_cord_cache = tuple(torch.empty(side, device=ELSEWHERE) for side in (6, 5))
        made.compilable_stored_size = SIZE
    with pytest.raises(RuntimeError, match="device"):
        theirs._get_rpb_matrix(BOXES, SIZE)
    assert torch.equal(ours._get_rpb_matrix(BOXES, SIZE), expected)
    assert [axis.device.type for axis in ours.compilable_cord_cache] == ["cpu", "cpu"]


def test_the_decoders_coordinates_follow_the_dtype_and_size() -> None:
    theirs, ours = decoder(upstream.TransformerDecoder), decoder(patches.Decoder)
    for made in (theirs, ours):
        made._get_rpb_matrix(BOXES, SIZE)
        made.to(torch.bfloat16)
    with pytest.raises(RuntimeError, match="dtype"):
        theirs._get_rpb_matrix(BOXES.bfloat16(), SIZE)
    assert ours._get_rpb_matrix(BOXES.bfloat16(), SIZE).dtype == torch.bfloat16
    assert ours._get_rpb_matrix(BOXES.bfloat16(), (torch.tensor(3), torch.tensor(2))).shape == (1, 2, 3, 6)
    assert not ours.coord_cache
    assert all(isinstance(side, int) for side in ours.compilable_stored_size)


def test_boxes_are_encoded_on_a_cpu(tiny: Any, pixels: torch.Tensor, ground: Any) -> None:
    encoder = tiny.geometry_encoder
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.3]]])
    call = (boxes, torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1), torch.randn(1, TINY.width, 16, 16))
    if not torch.accelerator.is_available():
        with pytest.raises(RuntimeError, match="accelerator|CUDA"):
            upstream.SequenceGeometryEncoder._encode_boxes(encoder, *call)
    embedded, mask = encoder._encode_boxes(*call)
    assert embedded.shape == (1, 1, TINY.width)
    assert mask is call[1]


def test_boxes_are_encoded_as_meta_does(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(3, 2, 4, generator=generator) * 0.4 + 0.2
    call = (
        boxes,
        torch.zeros(2, 3, dtype=torch.bool),
        torch.tensor([[1, 0], [0, 1], [1, 1]]),
        torch.randn(2, TINY.width, 16, 16, generator=generator),
    )
    monkeypatch.setattr(torchvision.ops, "roi_align", torchvisions_pooling)
    with patches._NoCuda():
        expected, _ = upstream.SequenceGeometryEncoder._encode_boxes(tiny.geometry_encoder, *call)
    torch.testing.assert_close(tiny.geometry_encoder._encode_boxes(*call)[0], expected, atol=1e-5, rtol=1e-5)


def torchvisions_pooling(features: torch.Tensor, boxes: Any, cells: int) -> torch.Tensor:
    """torchvision's own Python code, not compiled: ``boxes`` a list of ``(n, 4)``, one per image."""
    module = sys.modules["torchvision.ops.roi_align"]  # torchvision.ops.roi_align leads to the function
    rows = [torch.cat([torch.full((len(some), 1), float(i)), some], 1) for i, some in enumerate(boxes)]
    return inspect.unwrap(module._roi_align)(features, torch.cat(rows), 1.0, cells, cells, -1, False)


def test_pooling_is_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 13, 17, generator=generator, requires_grad=True)
    ends = torch.rand(2, 40, 2, 2, generator=generator) * torch.tensor([16.0, 12.0])
    corners = torch.cat([ends.amin(2), ends.amax(2)], -1)
    expected = torchvisions_pooling(image, list(corners), 7).view(2, 40, 3, 7, 7)
    found = patches.pool_boxes(image, corners, 7)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(found.shape, generator=generator)
    (gradient,) = torch.autograd.grad((found * weight).sum(), image)
    (other,) = torch.autograd.grad((expected * weight).sum(), image)
    torch.testing.assert_close(gradient, other, atol=1e-4, rtol=1e-4)


def test_pooling_of_a_plane_is_the_plane_at_the_cells_centres() -> None:
    x = torch.arange(20.0).expand(20, 20)
    plane = 2 * x + 3 * x.T
    corners = torch.tensor([[[3.0, 2.0, 17.0, 16.0]]])
    pooled = patches.pool_boxes(plane[None, None], corners, 7)[0, 0, 0]
    centre_x, centre_y = 3 + 2 * (torch.arange(7) + 0.5), 2 + 2 * (torch.arange(7) + 0.5)
    torch.testing.assert_close(pooled, 2 * centre_x.expand(7, 7) + 3 * centre_y[:, None])


def test_pooling_beyond_the_image_is_its_edge_then_zero() -> None:
    ones = torch.ones(1, 1, 10, 10)
    inside, over = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]]), torch.tensor([[[5.0, 0.0, 26.0, 10.0]]])
    torch.testing.assert_close(patches.pool_boxes(ones, inside, 7), torch.ones(1, 1, 1, 7, 7))
    assert patches.pool_boxes(ones, over, 7)[0, 0, 0, 0].tolist() == pytest.approx([1, 2 / 3, 0, 0, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("part", ["segmentation_head", None])
def test_parts_know_where_they_are(part: str | None) -> None:
    made: Any = build_network(TINY, "meta")
    made = getattr(made, part) if part else made
    kind = upstream.UniversalSegmentationHead if part else upstream.Sam3Image
    assert kind.device.fget(made).type == "meta"
    made._apply(lambda tensor: torch.empty_like(tensor, device="cpu"))  # what moving a model that it is a part of does
    assert kind.device.fget(made).type == "meta", "Meta's class forgot where it was: the patch can go"
    assert made.device.type == "cpu"


def test_training_needs_no_targets(tiny: Any, pixels: torch.Tensor, ground: Any) -> None:
    tiny.train()
    with pytest.raises(AttributeError):
        upstream.Sam3Image.back_convert(tiny, None)
    found = ground(tiny, pixels)
    assert "indices" not in found
    tiny.matcher = lambda out, targets: targets
    tiny._compute_matching(out := {"aux_outputs": [{}]}, "targets")
    assert out == {"indices": "targets", "aux_outputs": [{"indices": "targets"}]}


def tracker_attention(kind: type) -> Any:
    with ELSEWHERE:
        made = kind(embedding_dim=8, num_heads=1, feat_sizes=[3, 3])
    return made.to_empty(device="cpu")


def test_the_trackers_rotations_follow_the_device() -> None:
    tokens = torch.randn(1, 9, 8)
    theirs, ours = tracker_attention(upstream.RoPEAttention), tracker_attention(patches.TrackerAttention)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        theirs(tokens, tokens, tokens)
    at_home = upstream.RoPEAttention(embedding_dim=8, num_heads=1, feat_sizes=[3, 3])
    ours.load_state_dict(at_home.state_dict())
    with torch.inference_mode():
        assert torch.equal(ours(tokens, tokens, tokens), at_home(tokens, tokens, tokens))
    assert not ours.freqs_cis.is_inference(), "a training could not use them"


class Autocast:
    """Counts how often it is on: without CUDA the real one switches itself off."""

    on: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        assert options == {"device_type": "cuda", "dtype": torch.bfloat16}

    def __enter__(self) -> None:
        Autocast.on += 1

    def __exit__(self, *error: object) -> None:
        Autocast.on -= 1


def test_building_the_tracker_leaves_autocast_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", Autocast)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        build_network(TINY, "meta")
    assert Autocast.on == 0
    monkeypatch.setattr(builder.patches, "Tracker", upstream.Sam3TrackerPredictor)
    build_network(TINY, "meta")
    assert Autocast.on == 1, "Meta's class leaves autocast again: the patch can go"


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing is warned of where there is a GPU")
def test_building_the_tracker_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*torch.jit.*")
        build_network(TINY, "meta")


def test_meta_still_puts_what_it_keeps_of_a_video_on_cuda(tiny: Any) -> None:
    tracker = tiny.inst_interactive_predictor.model
    call = {"video_height": 8, "video_width": 8, "num_frames": 2}
    assert upstream.Sam3TrackerPredictor.init_state(tracker, **call)["storage_device"] == torch.device("cuda")
    assert tracker.init_state(**call)["storage_device"] == torch.device("cpu")
    assert tracker.init_state(**call, offload_state_to_cpu=True)["storage_device"] == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="nothing fails where there is a GPU")
def test_meta_still_moves_the_trackers_tensors_without_asking(tiny: Any) -> None:
    tracker = tiny.inst_interactive_predictor.model
    with pytest.raises((RuntimeError, AssertionError), match="accelerator|CUDA|NVIDIA"):
        tracker._get_tpos_enc([1, 2], torch.device("cpu"), max_abs_pos=4)
    with patches._at_home(torch.device("cpu")):
        assert tracker._get_tpos_enc([1, 2], torch.device("cpu"), max_abs_pos=4).shape == (2, TINY.memory_width)
        assert torch.zeros(2).cuda(non_blocking=True).device.type == "cpu"
    assert "cuda" in inspect.getsource(upstream.Sam3TrackerPredictor._prepare_memory_conditioned_features)
    assert "cuda" in inspect.getsource(upstream.Sam3TrackerPredictor.add_new_points_or_box)


def test_metas_trunk_still_cannot_be_built_on_meta() -> None:
    call = {"img_size": 56, "patch_size": 14, "embed_dim": 8, "depth": 2, "num_heads": 1, "global_att_blocks": (1,)}
    call |= {"drop_path_rate": 0.1, "rel_pos_blocks": (), "retain_cls_token": False}
    with ELSEWHERE, pytest.raises(RuntimeError, match="meta"):
        upstream.ViT(**call)
    with ELSEWHERE, patches.trunk_on_any_device():
        trunk = upstream.ViT(**call)
    assert trunk.blocks[1].drop_path.drop_prob == pytest.approx(0.1)


def test_metas_text_encoder_still_leaves_two_tensors_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(7.0))
    encoder = upstream.VETextEncoder(tokenizer=None, d_model=8, width=8, heads=1, layers=1).encoder
    assert (encoder.positional_embedding == 7).all()
    assert (encoder.text_projection == 7).all()
    monkeypatch.setattr("oncoseg_sam3.network.builder.VETextEncoder", upstream.VETextEncoder)
    ours: Any = build_network(TINY).backbone.language_backbone.encoder
    assert ours.positional_embedding.std().item() == pytest.approx(0.01, rel=0.1)
    assert ours.text_projection.std().item() == pytest.approx(TINY.text_width**-0.5, rel=0.1)
