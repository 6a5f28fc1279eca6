"""``adapter_config.json``, PEFT's own record of an adapter: what of it can be carried, and whether it fits ours.

Imports torch; nothing is imported from PEFT.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import nn

from oncoseg_core import WeightsError

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "use_qalora": (False,),
    "bias": ("none",),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "target_parameters": ([],),
    "trainable_token_indices": (),
    "layer_replication": (),
    "layers_to_transform": (),
    "layers_pattern": ([],),
    "arrow_config": (),
    # The others change the base weights, or are already folded into them.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
"""Values with which an adapter is ``W + B A * alpha / rank`` and nothing else; each may be missing or null too."""


def parse_config(content: bytes, path: object) -> dict[str, Any]:
    """PEFT's record, refused where it describes what a plain LoRA layer cannot do.

    Args:
        content: of the file.
        path: of the file, for messages.

    Raises:
        WeightsError: it is no such record, or the adapter is of another kind (DoRA, rsLoRA, trained biases, ...).
    """
    try:
        config = json.loads(content)
    except ValueError as error:
        raise WeightsError(f"{path}: is not PEFT's record of an adapter: {error}") from error
    if not isinstance(config, dict) or not {"peft_type", "r", "lora_alpha"} <= config.keys():
        raise WeightsError(f"{path}: is not PEFT's record of an adapter; expected peft_type, r and lora_alpha in it")
    for name, neutral in NEUTRAL.items():
        value = config.get(name)
        if value is not None and value not in neutral:
            expected = " or ".join(map(repr, neutral)) or "none"
            raise WeightsError(
                f"{path}: {name} is {value!r}, expected {expected}: only plain LoRA layers can be carried; train it so"
            )
    for name in ("r", "lora_alpha"):
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value != int(value):
            raise WeightsError(f"{path}: {name} is {value!r}, expected a whole number from 1 on")
    return config


def targeted(model: nn.Module, targets: str | Iterable[str] | None) -> set[str]:
    """The linear layers of a model, adapted or not, that PEFT's ``target_modules`` mean, by the model's names."""
    linear = {
        name.removeprefix("base_model.model.").removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name and ".modules_to_save." not in name
    }
    if isinstance(targets, str):
        return linear if targets == "all-linear" else {name for name in linear if re.fullmatch(targets, name)}
    ends = [f".{target}" for target in targets or ()]
    return {name for name in linear if any(f".{name}".endswith(end) for end in ends)}


def check_agreement(adapted: nn.Module, config: Mapping[str, Any], path: object, hub_id: str | None) -> None:
    """Refuse a record of PEFT's that contradicts the manifest beside it.

    Args:
        adapted: the model, adapted as the manifest says.
        config: PEFT's record, from :func:`parse_config`.
        path: of its file, for messages.
        hub_id: of the model on the hub.

    Raises:
        WeightsError: they differ in the rank, alpha, dropout, the adapted layers, the modules trained whole, or base.
    """
    ours: Any = cast("Any", adapted).peft_config["default"]
    pairs: list[tuple[str, object, object]] = [
        ("r", config["r"], ours.r),
        ("lora_alpha", config["lora_alpha"], ours.lora_alpha),
        ("lora_dropout", config.get("lora_dropout", 0.0), ours.lora_dropout),
        ("modules_to_save", sorted(config.get("modules_to_save") or ()), sorted(ours.modules_to_save or ())),
    ]
    theirs, mine = (targeted(adapted, one) for one in (config.get("target_modules"), ours.target_modules))
    odd = sorted(theirs ^ mine)
    if odd:
        pairs.append(("target_modules", f"{len(theirs)} layers", f"{len(mine)} layers (they differ in {odd[0]})"))
    base = config.get("base_model_name_or_path")
    if base and hub_id is not None and base != hub_id:
        pairs.append(("base_model_name_or_path", base, hub_id))
    for name, found, expected in pairs:
        if found != expected:
            raise WeightsError(
                f"{path}: {name} is {found}, but oncoseg.json beside it means {expected}; one of the two was edited: "
                "copy the adapter again"
            )
