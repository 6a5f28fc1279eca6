"""Every class of Meta's ``sam3`` package that is used here, in one place: the import has to be prepared first."""

# ruff: noqa: E402

from __future__ import annotations

from oncoseg_sam3.network.meta_import import import_sam3

import_sam3()

from sam3.model.box_ops import box_cxcywh_to_xyxy
from sam3.model.data_misc import FindStage
from sam3.model.decoder import (
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerDecoderLayerv2,
    TransformerEncoderCrossAttention,
)
from sam3.model.encoder import TransformerEncoderFusion, TransformerEncoderLayer
from sam3.model.geometry_encoders import Prompt, SequenceGeometryEncoder
from sam3.model.maskformer_segmentation import PixelDecoder, UniversalSegmentationHead
from sam3.model.memory import CXBlock, SimpleFuser, SimpleMaskDownSampler, SimpleMaskEncoder
from sam3.model.model_misc import MLP, DotProductScoring, MultiheadAttentionWrapper, TransformerWrapper
from sam3.model.necks import Sam3DualViTDetNeck
from sam3.model.position_encoding import PositionEmbeddingSine
from sam3.model.sam1_task_predictor import SAM3InteractiveImagePredictor
from sam3.model.sam3_image import Sam3Image
from sam3.model.sam3_tracking_predictor import Sam3TrackerPredictor
from sam3.model.text_encoder_ve import VETextEncoder
from sam3.model.tokenizer_ve import SimpleTokenizer
from sam3.model.vitdet import Attention as TrunkAttention
from sam3.model.vitdet import ViT
from sam3.model.vl_combiner import SAM3VLBackbone
from sam3.sam.transformer import RoPEAttention

__all__ = [
    "MLP",
    "CXBlock",
    "DotProductScoring",
    "FindStage",
    "MultiheadAttentionWrapper",
    "PixelDecoder",
    "PositionEmbeddingSine",
    "Prompt",
    "RoPEAttention",
    "SAM3InteractiveImagePredictor",
    "SAM3VLBackbone",
    "Sam3DualViTDetNeck",
    "Sam3Image",
    "Sam3TrackerPredictor",
    "SequenceGeometryEncoder",
    "SimpleFuser",
    "SimpleMaskDownSampler",
    "SimpleMaskEncoder",
    "SimpleTokenizer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerDecoderLayerv2",
    "TransformerEncoderCrossAttention",
    "TransformerEncoderFusion",
    "TransformerEncoderLayer",
    "TransformerWrapper",
    "TrunkAttention",
    "UniversalSegmentationHead",
    "VETextEncoder",
    "ViT",
    "box_cxcywh_to_xyxy",
]
