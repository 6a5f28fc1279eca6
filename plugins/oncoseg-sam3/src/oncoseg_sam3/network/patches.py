"""Meta's classes with what has to be mended for CPUs, for moving between devices, and for training without targets.

Each class says what it works around and where (``sam3`` 0.1.4). ``tests/test_sam3_patches.py`` shows each defect on
Meta's own class, so that it fails, and the class here can go, when Meta has mended it. Nothing of Meta's package is
altered: the classes here are used in place of its own.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from oncoseg_sam3.network.upstream import (
    PositionEmbeddingSine,
    RoPEAttention,
    Sam3Image,
    Sam3TrackerPredictor,
    SequenceGeometryEncoder,
    TransformerDecoder,
    TransformerDecoderLayer,
    UniversalSegmentationHead,
    box_cxcywh_to_xyxy,
)


class _NoCuda(TorchFunctionMode):
    """Makes ``pin_memory`` and ``cuda`` leave a tensor as it is, for code that calls them on any device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in {torch.Tensor.pin_memory, torch.Tensor.cuda}:
            return args[0]
        return func(*args, **(kwargs or {}))


def _at_home(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Keep tensors where they are when that is not a CUDA device."""
    return contextlib.nullcontext() if device.type == "cuda" else _NoCuda()


class PositionEncoding(PositionEmbeddingSine):
    """Its cache follows the input's device.

    ``position_encoding.py`` line 86: the encoding of a size is kept on the device of the first call, and returned for
    inputs on any other.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Position encoding ``(batch, width, h, w)`` for features ``(batch, ..., h, w)``."""
        cached = self.cache.get((x.shape[-2], x.shape[-1]))
        if cached is not None and cached.device != x.device:
            self.cache.clear()
        return super().forward(x)


class DecoderLayer(TransformerDecoderLayer):
    """Its feed-forward part leaves autocast on the device that it runs on.

    ``decoder.py`` line 74: autocast is left for CUDA only, whatever the device: on a CPU the part that is meant to run
    in full precision runs in half.
    """

    def forward_ffn(self, tgt: torch.Tensor) -> torch.Tensor:
        """The two linear layers, the residual and the normalisation, in full precision."""
        with torch.autocast(tgt.device.type, enabled=False):
            tgt2 = self.linear2(self.dropout3(self.activation(self.linear1(tgt))))
        return self.norm3(tgt + self.dropout4(tgt2))


class Decoder(TransformerDecoder):
    """Its coordinates follow the boxes' device and dtype.

    ``decoder.py`` lines 298 and 314: coordinates are kept on the device and in the dtype of the first call, so that
    another process's device, or a model that was moved or converted, meets the wrong ones. Their sizes are kept as
    tensors, which makes comparing them wait for the GPU and fail across devices.
    """

    compilable_cord_cache: Any
    compilable_stored_size: Any

    def _get_rpb_matrix(self, reference_boxes: torch.Tensor, feat_size: Any) -> torch.Tensor:
        height, width = (int(side) for side in feat_size)
        if self.compilable_cord_cache is not None and not _alike(self.compilable_cord_cache[0], reference_boxes):
            self.compilable_cord_cache = None
        if self.compilable_cord_cache is None or self.compilable_stored_size != (height, width):
            coordinates = self._get_coords(height, width, reference_boxes.device)
            self.compilable_cord_cache = tuple(axis.to(reference_boxes.dtype) for axis in coordinates)
            self.compilable_stored_size = (height, width)
        return super()._get_rpb_matrix(reference_boxes, (height, width))


def _alike(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.device == wanted.device and found.dtype == wanted.dtype


class GeometryEncoder(SequenceGeometryEncoder):
    """Encodes boxes on any device.

    ``geometry_encoders.py`` line 659: ``pin_memory`` is called without asking, and raises without an accelerator. Line
    662: where torchvision's compiled operators do not load, its ``roi_align`` has itself compiled at the first box,
    which takes half a minute and a C++ compiler, and then holds a gigabyte per box at full size.
    """

    def _encode_boxes(
        self, boxes: torch.Tensor, boxes_mask: torch.Tensor, boxes_labels: torch.Tensor, img_feats: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_boxes, batch = boxes.shape[:2]
        height, width = img_feats.shape[-2:]
        corners = box_cxcywh_to_xyxy(boxes.float()) * boxes.new_tensor([width, height, width, height]).float()
        pooled = pool_boxes(img_feats, corners.transpose(0, 1), self.roi_size).to(img_feats.dtype)
        pooled = self.boxes_pool_project(pooled.flatten(0, 1)).view(batch, n_boxes, self.d_model).transpose(0, 1)
        position = self.pos_enc.encode_boxes(*(side.flatten() for side in boxes.unbind(-1)))
        position = self.boxes_pos_enc_project(position.view(n_boxes, batch, position.shape[-1]))
        label = self.label_embed(boxes_labels.long())
        return label + self.boxes_direct_project(boxes) + pooled + position, boxes_mask


def pool_boxes(features: torch.Tensor, corners: torch.Tensor, cells: int) -> torch.Tensor:
    """What ``torchvision.ops.roi_align(features, corners, cells)`` gives, as two products of matrices per box.

    A cell's value is the mean of bilinear samples on a grid, so rows and columns can be weighted one after the other.
    Needs neither compiled operators nor atomic additions, hence also gives the same gradient every time.

    Args:
        features: ``(batch, width, h, w)``.
        corners: ``(batch, n, 4)``, x0, y0, x1, y1 in units of the features' pixels.
        cells: per side, ``c`` below.

    Returns:
        ``(batch, n, width, c, c)``, float32.
    """
    with torch.autocast(features.device.type, enabled=False):
        rows = _weights(corners[..., 1], corners[..., 3], features.shape[-2], cells)
        columns = _weights(corners[..., 0], corners[..., 2], features.shape[-1], cells)
        return rows[:, :, None] @ features.float()[:, None] @ columns[:, :, None].transpose(-1, -2)


def _weights(start: torch.Tensor, end: torch.Tensor, length: int, cells: int) -> torch.Tensor:
    """How much each of ``length`` pixels counts in each cell between ``start`` and ``end``: ``(..., cells, length)``.

    As roi_align has it (Mask R-CNN, https://arxiv.org/abs/1703.06870, and torchvision's code): at least one pixel is
    pooled; as many samples per cell as pixels, rounded up; samples half a pixel beyond the image count as its edge,
    those more than one pixel beyond it as zero.
    """
    extent = (end - start).clamp(min=1.0)[..., None, None]
    samples = torch.ceil(extent / cells)
    cell = torch.arange(cells, device=start.device)[:, None]
    sample = torch.arange(-(-length // cells) + 1, device=start.device)
    position = start[..., None, None] + extent / cells * (cell + (sample + 0.5) / samples)
    counts = (sample < samples) & (position >= -1.0) & (position <= length)
    pixel = torch.arange(length, device=start.device)
    hat = torch.relu(1.0 - (position.clamp(0.0, length - 1.0)[..., None] - pixel).abs())
    return (hat * counts[..., None]).sum(-2) / samples


class SegmentationHead(UniversalSegmentationHead):
    """Knows where it is.

    ``maskformer_segmentation.py`` line 105: the device is kept from the first call, and forgotten only by its own
    ``to``, not when the model that it is a part of is moved.
    """

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device


class Image(Sam3Image):
    """Knows where it is, and trains without targets.

    ``sam3_image.py`` line 103: the device is kept, as in :class:`SegmentationHead`. Lines 524 and 589: a forward in
    training mode matches queries with targets, also where there are none. Ours has none: what a query is compared
    with, the training forward decides.
    """

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def back_convert(self, targets: Any) -> Any:
        """Meta's form of targets; None where there are none."""
        return None if targets is None else super().back_convert(targets)

    def _compute_matching(self, out: Any, targets: Any) -> None:
        if targets is not None:
            super()._compute_matching(out, targets)


class TrackerAttention(RoPEAttention):
    """Its rotations follow the queries' device.

    ``sam/transformer.py`` line 285: they are put on the first CUDA device when there is one, and are no buffer, so
    that they stay there when the model is moved, and on the meta device when it is built there.
    """

    freqs_cis: torch.Tensor

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_k_exclude_rope: int = 0) -> torch.Tensor:
        """Attend, as Meta's class does."""
        if self.freqs_cis.device != q.device:
            with torch.inference_mode(mode=False):  # they are kept, and may be used in training later
                side = round(self.freqs_cis.shape[0] ** 0.5)
                self.freqs_cis = self.compute_cis(end_x=side, end_y=side, device=q.device)
        return super().forward(q, k, v, num_k_exclude_rope=num_k_exclude_rope)


class Tracker(Sam3TrackerPredictor):
    """Runs on a CPU, and leaves the process as it was.

    - ``sam3_tracking_predictor.py`` line 50: building it switches bfloat16 autocast on for the rest of the process,
      cached weights included, which a training would then never see change;
    - line 81: what is kept of a video is put on ``cuda``, and line 303: so are earlier masks;
    - ``sam3_tracker_base.py`` lines 168, 657 and 664: ``pin_memory`` and ``cuda``, without asking;
    - lines 334 and 685: in training, settings are read that its published constructor does not have.
    """

    teacher_force_obj_scores_for_mem = False
    prob_to_dropout_spatial_mem = 0.0

    def __init__(self, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*CUDA is not available", category=UserWarning)
            super().__init__(**kwargs)
            self.bf16_context.__exit__(None, None, None)

    def init_state(self, *args: Any, offload_state_to_cpu: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Begin a video, as Meta's class does; what is kept of it stays on the tracker's device."""
        state: dict[str, Any] = super().init_state(*args, offload_state_to_cpu=offload_state_to_cpu, **kwargs)
        if not offload_state_to_cpu:
            state["storage_device"] = self.device
        return state

    def add_new_points_or_box(self, *args: Any, **kwargs: Any) -> Any:
        """Prompt an object on one frame, as Meta's class does."""
        with _at_home(self.device):
            return super().add_new_points_or_box(*args, **kwargs)

    def _prepare_memory_conditioned_features(self, *args: Any, **kwargs: Any) -> Any:
        with _at_home(self.device):
            return super()._prepare_memory_conditioned_features(*args, **kwargs)


class _DropRatesOnCpu(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


@contextlib.contextmanager
def trunk_on_any_device() -> Iterator[None]:
    """Let Meta's ViT be built on the meta device.

    ``vitdet.py`` line 739: drop rates are computed as a tensor on the default device, then read.
    """
    with _DropRatesOnCpu():
        yield
