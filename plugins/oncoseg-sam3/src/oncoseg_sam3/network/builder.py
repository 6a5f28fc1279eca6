"""Builds SAM3 in any size from the classes of Meta's package, as its own ``model_builder`` puts them together.

Meta's function cannot be used: it fills caches on ``cuda`` and knows one size. Here position encodings and the
decoder's coordinates are computed when they are needed, which gives the same numbers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oncoseg_core import WeightsError
from oncoseg_sam3.network import patches
from oncoseg_sam3.network.sizes import Size
from oncoseg_sam3.network.upstream import (
    MLP,
    CXBlock,
    DotProductScoring,
    PixelDecoder,
    Sam3DualViTDetNeck,
    SAM3InteractiveImagePredictor,
    SAM3VLBackbone,
    SimpleFuser,
    SimpleMaskDownSampler,
    SimpleMaskEncoder,
    SimpleTokenizer,
    TransformerDecoderLayerv2,
    TransformerEncoderCrossAttention,
    TransformerEncoderFusion,
    TransformerEncoderLayer,
    TransformerWrapper,
    VETextEncoder,
    ViT,
)
from oncoseg_sam3.network.upstream import MultiheadAttentionWrapper as Attention

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
"""CLIP's merges (OpenAI), which SAM3's text encoder was trained with."""


def build_network(size: Size, device: torch.device | str = "cpu") -> patches.Image:
    """Build SAM3 with the interactive predictor, in eval mode, its weights drawn from torch's global generator.

    On the device ``meta`` nothing is drawn or allocated; :mod:`oncoseg_sam3.weights` then fills it from a file.

    Args:
        size: the widths, depths and counts.
        device: where it is built.

    Raises:
        WeightsError: the tokenizer's vocabulary is not installed.
    """
    tokenizer = SimpleTokenizer(bpe_path=str(vocabulary_path()))
    with torch.device(device):
        with patches.trunk_on_any_device():
            trunk = _trunk(size)
        neck = Sam3DualViTDetNeck(
            trunk=trunk,
            position_encoding=_position_encoding(size.width),
            d_model=size.width,
            scale_factors=[4.0, 2.0, 1.0, 0.5],
            add_sam2_neck=True,
        )
        network = patches.Image(
            backbone=SAM3VLBackbone(visual=neck, text=_text_encoder(size, tokenizer), scalp=1),
            transformer=TransformerWrapper(encoder=_encoder(size), decoder=_decoder(size), d_model=size.width),
            input_geometry_encoder=_geometry_encoder(size),
            segmentation_head=_segmentation_head(size),
            num_feature_levels=1,
            o2m_mask_predict=True,
            dot_prod_scoring=_scoring(size),
            # Checkpointing the whole head again would compute the pixel decoder three times, and PEFT's wrapper of a
            # module trained whole has no signature that Meta's checkpointing could read.
            use_act_checkpoint_seg_head=False,
            use_instance_query=False,
            multimask_output=True,
            inst_interactive_predictor=_interactive_predictor(size),
            matcher=None,
        )
    return network.eval()


def vocabulary_path() -> Path:
    """The tokenizer's vocabulary in ``open_clip``, which is not imported for it: that takes seconds.

    Raises:
        WeightsError: it is not installed.
    """
    found = importlib.util.find_spec("open_clip")
    folders = list(found.submodule_search_locations or []) if found is not None else []
    for folder in folders:
        path = Path(folder) / VOCABULARY
        if path.is_file():
            return path
    where = f"not in {folders[0]}" if folders else "open_clip is not installed"
    raise WeightsError(
        f"SAM3's tokenizer needs {VOCABULARY}, which sam3's wheel leaves out and open_clip_torch has: {where}; "
        "pip install --force-reinstall --no-deps open_clip_torch"
    )


def _position_encoding(width: int) -> patches.PositionEncoding:
    return patches.PositionEncoding(num_pos_feats=width, normalize=True, scale=None, temperature=10000)


def _trunk(size: Size) -> ViT:
    return ViT(
        img_size=size.image_size,
        pretrain_img_size=size.pretrained_image_size,
        patch_size=size.patch_size,
        embed_dim=size.trunk_width,
        depth=size.trunk_depth,
        num_heads=size.trunk_heads,
        mlp_ratio=size.trunk_mlp_ratio,
        norm_layer="LayerNorm",
        drop_path_rate=0.1,
        qkv_bias=True,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=size.global_layers,
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=size.window,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        ln_post=False,
        return_interm_layers=False,
        bias_patch_embed=False,
    )


def _text_encoder(size: Size, tokenizer: SimpleTokenizer) -> VETextEncoder:
    encoder = VETextEncoder(
        tokenizer=tokenizer,
        d_model=size.width,
        width=size.text_width,
        heads=size.text_heads,
        layers=size.text_depth,
    )
    # Meta's class leaves these two as it finds the memory (text_encoder_ve.py lines 196 and 218), for a checkpoint to
    # fill; drawn here as CLIP draws them.
    nn.init.normal_(encoder.encoder.positional_embedding, std=0.01)
    nn.init.normal_(encoder.encoder.text_projection, std=size.text_width**-0.5)
    return encoder


def _fusion_layer(size: Size, *, batch_first: bool, **position: bool) -> TransformerEncoderLayer:
    """A layer of the transformer's and the geometry encoder, which differ in where positions are added."""

    def attention() -> Attention:
        return Attention(num_heads=size.heads, dropout=0.1, embed_dim=size.width, batch_first=batch_first)

    return TransformerEncoderLayer(
        activation="relu",
        d_model=size.width,
        dim_feedforward=size.feedforward,
        dropout=0.1,
        pos_enc_at_cross_attn_queries=False,
        pre_norm=True,
        self_attention=attention(),
        cross_attention=attention(),
        **position,
    )


def _encoder(size: Size) -> TransformerEncoderFusion:
    return TransformerEncoderFusion(
        layer=_fusion_layer(size, batch_first=True, pos_enc_at_attn=True, pos_enc_at_cross_attn_keys=False),
        num_layers=size.encoder_layers,
        d_model=size.width,
        num_feature_levels=1,
        frozen=False,
        use_act_checkpoint=True,
        add_pooled_text_to_img_feat=False,
        pool_text_with_mask=True,
    )


def _decoder(size: Size) -> patches.Decoder:
    layer = patches.DecoderLayer(
        activation="relu",
        d_model=size.width,
        dim_feedforward=size.feedforward,
        dropout=0.1,
        cross_attention=Attention(num_heads=size.heads, dropout=0.1, embed_dim=size.width),
        n_heads=size.heads,
        use_text_cross_attention=True,
    )
    return patches.Decoder(
        layer=layer,
        num_layers=size.decoder_layers,
        num_queries=size.queries,
        return_intermediate=True,
        box_refine=True,
        num_o2m_queries=0,
        dac=True,
        boxRPB="log",
        d_model=size.width,
        frozen=False,
        interaction_layer=None,
        dac_use_selfatt_ln=True,
        resolution=None,
        stride=None,
        use_act_checkpoint=True,
        presence_token=True,
    )


def _scoring(size: Size) -> DotProductScoring:
    prompt_mlp = MLP(
        input_dim=size.width,
        hidden_dim=size.feedforward,
        output_dim=size.width,
        num_layers=2,
        dropout=0.1,
        residual=True,
        out_norm=nn.LayerNorm(size.width),
    )
    return DotProductScoring(d_model=size.width, d_proj=size.width, prompt_mlp=prompt_mlp)


def _segmentation_head(size: Size) -> patches.SegmentationHead:
    return patches.SegmentationHead(
        hidden_dim=size.width,
        upsampling_stages=3,
        aux_masks=False,
        presence_head=False,
        dot_product_scorer=None,
        act_ckpt=True,
        cross_attend_prompt=Attention(num_heads=size.heads, dropout=0, embed_dim=size.width),
        pixel_decoder=PixelDecoder(num_upsampling_stages=3, interpolation_mode="nearest", hidden_dim=size.width),
    )


def _geometry_encoder(size: Size) -> patches.GeometryEncoder:
    return patches.GeometryEncoder(
        pos_enc=_position_encoding(size.width),
        encode_boxes_as_points=False,
        points_direct_project=True,
        points_pool=True,
        points_pos_enc=True,
        boxes_direct_project=True,
        boxes_pool=True,
        boxes_pos_enc=True,
        d_model=size.width,
        num_layers=size.geometry_layers,
        layer=_fusion_layer(size, batch_first=False, pos_enc_at_attn=False, pos_enc_at_cross_attn_keys=True),
        use_act_ckpt=True,
        add_cls=True,
        add_post_encode_proj=True,
    )


def _interactive_predictor(size: Size) -> SAM3InteractiveImagePredictor:
    # Meta's default fills holes of up to 256 logits, where a GPU or scikit-image can find them: a necrotic core would
    # be lost, on one machine and not on another.
    predictor = SAM3InteractiveImagePredictor(_tracker(size), max_hole_area=0.0)
    # sam1_task_predictor.py line 62 has these of the full size.
    predictor._bb_feat_sizes = [(side, side) for side in (4 * size.grid, 2 * size.grid, size.grid)]  # noqa: SLF001
    return predictor


def _tracker(size: Size) -> patches.Tracker:
    return patches.Tracker(
        image_size=size.image_size,
        num_maskmem=7,
        backbone=None,
        backbone_stride=size.patch_size,
        transformer=_memory_attention(size),
        maskmem_backbone=_memory_encoder(size),
        multimask_output_in_sam=True,
        forward_backbone_per_frame_for_eval=True,
        trim_past_non_cond_mem_for_eval=False,
        multimask_output_for_tracking=True,
        multimask_min_pt_num=0,
        multimask_max_pt_num=1,
        always_start_from_first_ann_frame=False,
        non_overlap_masks_for_mem_enc=False,
        non_overlap_masks_for_output=False,
        max_cond_frames_in_attn=4,
        offload_output_to_cpu_for_eval=False,
        sam_mask_decoder_extra_args={
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
        clear_non_cond_mem_around_input=True,
        fill_hole_area=0,
        use_memory_selection=False,
    )


def _memory_attention(size: Size) -> TransformerWrapper:
    def attention(**memories: Any) -> patches.TrackerAttention:
        return patches.TrackerAttention(
            embedding_dim=size.width,
            num_heads=1,
            downsample_rate=1,
            dropout=0.1,
            rope_theta=10000.0,
            feat_sizes=[size.grid, size.grid],
            use_fa3=False,
            use_rope_real=False,
            **memories,
        )

    layer = TransformerDecoderLayerv2(
        cross_attention_first=False,
        activation="relu",
        dim_feedforward=size.feedforward,
        dropout=0.1,
        pos_enc_at_attn=False,
        pre_norm=True,
        self_attention=attention(),
        d_model=size.width,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=attention(kv_in_dim=size.memory_width, rope_k_repeat=True),
    )
    encoder = TransformerEncoderCrossAttention(
        remove_cross_attention_layers=[],
        batch_first=True,
        d_model=size.width,
        frozen=False,
        pos_enc_at_input=True,
        layer=layer,
        num_layers=size.tracker_layers,
        use_act_checkpoint=False,
    )
    return TransformerWrapper(encoder=encoder, decoder=None, d_model=size.width)


def _memory_encoder(size: Size) -> SimpleMaskEncoder:
    block = CXBlock(dim=size.width, kernel_size=7, padding=3, layer_scale_init_value=1.0e-06, use_dwconv=True)
    return SimpleMaskEncoder(
        in_dim=size.width,
        out_dim=size.memory_width,
        position_encoding=_position_encoding(size.memory_width),
        mask_downsampler=SimpleMaskDownSampler(
            embed_dim=size.width, kernel_size=3, stride=2, padding=1, interpol_size=[16 * size.grid, 16 * size.grid]
        ),
        fuser=SimpleFuser(layer=block, num_layers=2),
    )
