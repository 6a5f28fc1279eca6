"""What this distribution provides. Light: torch and sam3 are loaded when a model is built."""

from collections.abc import Iterator

from oncoseg_core import Licence, LoraSpec, ModelSpec, hookimpl

DETECTOR = (
    *(f"detector.backbone.vision_backbone.convs.{level}" for level in range(4)),
    "detector.geometry_encoder",
    "detector.transformer",
    "detector.segmentation_head",
    "detector.dot_prod_scoring",
)
"""What the detector has after the trunk."""

TRACKER = "detector.inst_interactive_predictor.model"
INTERACTIVE = (
    *(f"detector.backbone.vision_backbone.sam2_convs.{level}" for level in range(3)),
    f"{TRACKER}.sam_prompt_encoder",
    f"{TRACKER}.sam_mask_decoder",
    f"{TRACKER}.transformer",
    *(f"{TRACKER}.maskmem_backbone.{part}" for part in ("mask_downsampler", "pix_feat_proj", "fuser", "out_proj")),
    f"{TRACKER}.mask_downsample",
    f"{TRACKER}.obj_ptr_proj",
    f"{TRACKER}.obj_ptr_tpos_proj",
)
"""What the interactive predictor and the tracker have after it: neck, prompts, mask decoder, memory. Not the memory
encoder by its own name, since Meta's tracker looks at its class."""

TEACHES_CLICKS = "lora+detector+interactive"

LORA = LoraSpec(
    targets=("qkv", "proj"),
    policies={"lora+detector": DETECTOR, "lora": (), TEACHES_CLICKS: (*DETECTOR, *INTERACTIVE)},
    taught_by={"point": (TEACHES_CLICKS,), "mask": (TEACHES_CLICKS,)},
)

SAM_LICENCE = "SAM License (Meta, 19 November 2025)"
BARS = (
    "military or warfare purposes, nuclear industries or applications, espionage, guns and illegal weapons, what is "
    "subject to ITAR or barred by trade controls, and reverse engineering; code, weights and adapters are passed on "
    "under the same licence, with its text, and publications name the SAM Materials"
)
LICENCE = Licence(code=f"{SAM_LICENCE}; this plugin Apache-2.0", weights=SAM_LICENCE, bars=BARS)

SAM3 = ModelSpec(
    name="sam3",
    factory="oncoseg_sam3.model:Sam3",
    summary="SAM3, 860 M parameters, 1008 x 1008 input: text, box, point and mask prompts; made for a GPU",
    prompt_kinds=("box", "text", "exemplar", "point", "mask"),
    input_size=1008,
    mask_size=288,
    input_range=(-1.0, 1.0),
    lora=LORA,
    hub_id="facebook/sam3",
    weights="sam3.pt of facebook/sam3 on the Hugging Face hub, behind Meta's form; or a local file",
    licence=LICENCE,
)

SAM3_TINY = ModelSpec(
    name="sam3-tiny",
    factory="oncoseg_sam3.model:Sam3Tiny",
    summary="SAM3's code at a test size, 224 x 224 input: for tests and for trying a configuration on a laptop",
    prompt_kinds=SAM3.prompt_kinds,
    input_size=224,
    mask_size=64,
    input_range=SAM3.input_range,
    lora=LORA,
    weights="random: it knows nothing; no file is read unless one is given",
    licence=LICENCE.model_copy(update={"weights": "none: they are random"}),
)


@hookimpl
def oncoseg_models() -> Iterator[ModelSpec]:
    """SAM3 in its two sizes."""
    yield SAM3
    yield SAM3_TINY
