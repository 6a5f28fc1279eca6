"""Names of SAM3's tensors and modules in ``transformers`` (``Sam3VideoModel``, whose file is ``model.safetensors``).

That implementation splits what Meta's keeps in one: query, key and value of an attention, and the four embeddings of
clicks the other way round. It leaves out what no prompt uses: the detector's encoding of clicks and the class token's
position. The rotations follow from the size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch

PREDICTOR = "inst_interactive_predictor.model."
"""What the tracker is in the network."""

LEFT_OUT = re.compile(r"geometry_encoder\.points_.*")
"""What it has not got: SAM3 takes clicks by its tracker, so that no prompt reaches the detector's encoding of them."""
REPEATED = re.compile(r"\bshared_image_embedding\.positional_embedding$|\brotary_emb\.|\.position_ids$")
"""What it has a second time, or stores although it follows from the size."""

Renames = tuple[tuple[str, str], ...]

_VISION: Renames = (
    (r"^backbone\.vision_backbone\.trunk\.", "vision_encoder.backbone."),
    (r"\.backbone\.pos_embed$", ".backbone.embeddings.position_embeddings"),
    (r"\.patch_embed\.proj\.", ".embeddings.patch_embeddings.projection."),
    (r"\.ln_pre\.", ".layer_norm."),
    (r"\.blocks\.(\d+)\.norm([12])\.", r".layers.\1.layer_norm\2."),
    (r"\.blocks\.(\d+)\.attn\.proj\b", r".layers.\1.attention.o_proj"),
    (r"\.blocks\.(\d+)\.attn\.qkv\b", r".layers.\1.attention.{}_proj"),
    (r"\.blocks\.", ".layers."),
    (r"^backbone\.vision_backbone\.convs\.", "vision_encoder.neck.fpn_layers."),
    (r"^backbone\.vision_backbone\.sam2_convs\.", "tracker_neck.fpn_layers."),
    (r"\.dconv_2x2(_0)?\.", ".scale_layers.0."),
    (r"\.dconv_2x2_1\.", ".scale_layers.2."),
    (r"\.conv_1x1\.", ".proj1."),
    (r"\.conv_3x3\.", ".proj2."),
)
_TEXT: Renames = (
    (r"^backbone\.language_backbone\.resizer\.", "text_projection."),
    (r"^backbone\.language_backbone\.encoder\.text_projection$", "text_encoder.text_projection.weight"),
    (r"^backbone\.language_backbone\.encoder\.", "text_encoder.text_model."),
    (r"\.token_embedding\.", ".embeddings.token_embedding."),
    (r"\.positional_embedding$", ".embeddings.position_embedding.weight"),
    (r"\.ln_final\.", ".final_layer_norm."),
    (r"\.transformer\.resblocks\.", ".encoder.layers."),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.c_fc\b", ".fc1"),
    (r"\.c_proj\b", ".fc2"),
)
_DETECTOR: Renames = (
    (r"^geometry_encoder\.encode\.", "geometry_encoder.layers."),
    (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"^geometry_encoder\.encode_norm\.", "geometry_encoder.output_layer_norm."),
    (r"^geometry_encoder\.img_pre_norm\.", "geometry_encoder.vision_layer_norm."),
    (r"^transformer\.encoder\.", "detr_encoder."),
    (r"^(detr_encoder|geometry_encoder)\.layers\.(\d+)\.norm", r"\1.layers.\2.layer_norm"),
    (r"\.cross_attn_image\.", ".cross_attn."),
    (r"^transformer\.decoder\.", "detr_decoder."),
    (r"^detr_decoder\.layers\.(\d+)\.cross_attn\.", r"detr_decoder.layers.\1.vision_cross_attn."),
    (r"^detr_decoder\.layers\.(\d+)\.ca_text\.", r"detr_decoder.layers.\1.text_cross_attn."),
    (r"^detr_decoder\.layers\.(\d+)\.norm1\.", r"detr_decoder.layers.\1.vision_cross_attn_layer_norm."),
    (r"^detr_decoder\.layers\.(\d+)\.norm2\.", r"detr_decoder.layers.\1.self_attn_layer_norm."),
    (r"^detr_decoder\.layers\.(\d+)\.norm3\.", r"detr_decoder.layers.\1.mlp_layer_norm."),
    (r"\.catext_norm\.", ".text_cross_attn_layer_norm."),
    (r"^detr_decoder\.norm\.", "detr_decoder.output_layer_norm."),
    (r"\.presence_token_head\.", ".presence_head."),
    (r"\.presence_token_out_norm\.", ".presence_layer_norm."),
    (r"\.bbox_embed\.", ".box_head."),
    (r"\.boxRPB_embed_", ".box_rpb_embed_"),
    (r"\.linear([12])\b", r".mlp.fc\1"),
    (r"^dot_prod_scoring\.", "dot_product_scoring."),
    (r"\.prompt_mlp\.out_norm\.", ".text_mlp_out_norm."),
    (r"\.prompt_mlp\.", ".text_mlp."),
    (r"\.prompt_proj\b", ".text_proj"),
    (r"\.hs_proj\b", ".query_proj"),
    # Stacks of linear layers that are counted from 1 there.
    *((rf"^(detr_decoder\.\w+|dot_product_scoring\.\w+)\.layers\.{n}\.", rf"\1.layer{n + 1}.") for n in range(3)),
    (r"^segmentation_head\.", "mask_decoder."),
    (r"\.mask_predictor\.mask_embed\.", ".mask_embedder."),
    (r"\.instance_seg_head\.", ".instance_projection."),
    (r"\.semantic_seg_head\.", ".semantic_projection."),
    (r"\.cross_attend_prompt\.", ".prompt_cross_attn."),
    (r"\.cross_attn_norm\.", ".prompt_cross_attn_norm."),
    (r"\.out_proj\b", ".o_proj"),
)
_TRACKER: Renames = (
    (r"^transformer\.encoder\.", "memory_attention."),
    (r"^maskmem_backbone\.", "memory_encoder."),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\b", "temporal_positional_encoding_projection_layer"),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^memory_encoder\.out_proj\b", "memory_encoder.projection"),
    (r"^memory_encoder\.pix_feat_proj\b", "memory_encoder.feature_projection"),
    (r"\.mask_downsampler\.encoder\.12\.", ".mask_downsampler.final_conv."),
    *((rf"\.mask_downsampler\.encoder\.{3 * n}\.", f".mask_downsampler.layers.{n}.conv.") for n in range(4)),
    *((rf"\.mask_downsampler\.encoder\.{3 * n + 1}\.", f".mask_downsampler.layers.{n}.layer_norm.") for n in range(4)),
    (r"\.fuser\.", ".memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\b", r".pointwise_conv\1"),
    (r"\.gamma$", ".scale"),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    *(
        (rf"\.mask_downscaling\.{n}\.", f".mask_embed.{name}.")
        for n, name in ((0, "conv1"), (1, "layer_norm1"), (3, "conv2"), (4, "layer_norm2"), (6, "conv3"))
    ),
    *(
        (rf"\.output_upscaling\.{n}\.", f".{name}.")
        for n, name in ((0, "upscale_conv1"), (1, "upscale_layer_norm"), (3, "upscale_conv2"))
    ),
    (r"\.mlp\.lin1\b", ".mlp.proj_in"),
    (r"\.mlp\.lin2\b", ".mlp.proj_out"),
    # Stacks of three linear layers, of which the first and the last have names of their own there.
    *(
        (rf"((?:_head|_mlps\.\d+|^object_pointer_proj))\.layers\.{n}\.", rf"\1.{name}.")
        for n, name in ((0, "proj_in"), (1, "layers.0"), (2, "proj_out"))
    ),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
    (r"\.out_proj\b", ".o_proj"),
)
_CLICKS = re.compile(r"(.*)\.point_embeddings\.([0-3])\.weight")
_IN_PROJECTION = re.compile(r"\.in_proj_(weight|bias)$")


class Source(NamedTuple):
    """What a tensor of the network is made of: the ``names`` of tensors one under the other, or one ``row`` of one.

    ``change``: it is ``transposed`` there, or ``without_class`` token, whose position is the first row here.
    """

    names: tuple[str, ...]
    row: int | None = None
    change: Literal["transposed", "without_class"] | None = None

    def value(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The network's tensor, from those of the file, which has all that ``names`` has."""
        parts = [tensors[one] for one in self.names]
        if self.row is not None:
            return parts[0][self.row : self.row + 1]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if self.change == "transposed":
            return whole.T
        if self.change == "without_class":
            # No class token is kept after the trunk's first step, so no answer depends on its position.
            return torch.cat([whole[:, :1] * 0, whole], dim=1)
        return whole


def source(name: str) -> Source:
    """Where a tensor of the network is, by its name in the ``state_dict`` of the network."""
    if name.startswith(PREDICTOR):
        tail = _renamed(name.removeprefix(PREDICTOR), _TRACKER)
        click = _CLICKS.fullmatch(tail)
        if click is not None:
            return Source((f"tracker_model.{click[1]}.point_embed.weight",), int(click[2]))
        return Source((f"tracker_model.{tail}",))
    renames = _TEXT if name.startswith("backbone.language_backbone.") else _VISION + _DETECTOR
    tail = _renamed(_IN_PROJECTION.sub(r".{}_proj.\1", name), renames)
    whole = tail if tail.startswith("tracker_neck.") else f"detector_model.{tail}"
    names = tuple(whole.format(part) for part in "qkv") if "{}" in whole else (whole,)
    if name == "backbone.language_backbone.encoder.text_projection":
        return Source(names, change="transposed")
    return Source(names, change="without_class" if name == "backbone.vision_backbone.trunk.pos_embed" else None)


def _renamed(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
