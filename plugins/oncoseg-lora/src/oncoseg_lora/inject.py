"""LoRA on promptable models: inject its layers, choose what is trained, with PEFT.

Imports torch and peft, so import this module only where a model is adapted. An adapter is stored and loaded by
:mod:`oncoseg_lora.store`.

LoRA replaces the product of a frozen linear layer, ``W x``, by ``W x + (alpha / rank) B A x`` with ``A`` (rank, in)
drawn at random and ``B`` (out, rank) zero at first (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
ICLR 2022).
"""

from __future__ import annotations

from typing import cast

from torch import nn

from oncoseg_core import ConfigError, PluginError, PromptableModel, UsageError, close_matches
from oncoseg_core.inference import ensure_torchvision_imports
from oncoseg_lora.manifest import TrainedParts
from oncoseg_lora.settings import LoraSettings

ensure_torchvision_imports()  # peft imports transformers, which imports torchvision
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402

NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def adapt(model: nn.Module, settings: LoraSettings | None = None) -> nn.Module:
    """Freeze a model and inject LoRA layers, plus a trainable copy of the modules that the policy trains whole.

    The model is changed in place and wrapped; the result answers ``encode_image``, ``decode``, ``spec`` and
    ``weights_sha256`` as the model did, has the chosen settings as ``lora_settings``, and stays in training or eval
    mode. Its output is that of the model until it is trained. ``A`` is drawn from torch's global generator.

    Args:
        model: a :class:`~oncoseg_core.contract.interfaces.PromptableModel` that is also a ``torch.nn.Module``.
        settings: rank, alpha, dropout and policy.

    Raises:
        ConfigError: the model has no such policy.
        PluginError: the model's LoRA targets or the policy's modules do not exist in it.
        UsageError: the model is adapted already.
    """
    if isinstance(model, PeftModel):
        raise UsageError("the model is adapted already: build it anew to adapt it with other settings")
    settings = settings if settings is not None else LoraSettings()
    spec = _promptable(model).spec
    policies = spec.lora.policies
    policy = settings.policy if settings.policy is not None else next(iter(policies))
    if policy not in policies:
        raise ConfigError(f"model {spec.name!r} has no LoRA policy {policy!r}{close_matches(policy, policies)}")
    whole = _modules_trained_whole(model, policy)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=_lora_layers(model, whole),
        modules_to_save=list(whole) or None,
    )
    training = model.training
    adapted = cast("nn.Module", get_peft_model(model, config))
    adapted.lora_settings = settings.model_copy(update={"policy": policy})  # type: ignore[assignment]
    return adapted.train(training)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def trained_parts(model: nn.Module) -> TrainedParts:
    """What is trained of an adapted model; parameters that a trained copy replaces do not count."""
    parameters = {name: p for name, p in model.named_parameters() if ".original_module." not in name}
    return TrainedParts(
        whole=tuple(model.peft_config["default"].modules_to_save or ()),  # type: ignore[index, union-attr]
        n_trained=sum(p.numel() for p in parameters.values() if p.requires_grad),
        n_parameters=sum(p.numel() for p in parameters.values()),
    )


def adaptable_layers(model: nn.Module, policy: str) -> list[str]:
    """Full names of the linear layers that get LoRA layers under a policy."""
    return _lora_layers(model, _modules_trained_whole(model, policy))


def set_training_mode(model: nn.Module) -> None:
    """Put a model in training mode, but leave its frozen normalisation layers in eval mode.

    In training mode a batch normalisation replaces its running statistics little by little by those of the batches it
    sees, frozen or not, and with small batches it ruins a pretrained encoder within an epoch. A normalisation layer
    none of whose own parameters is trained therefore keeps, and uses, the statistics it came with.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, NORMALISATIONS) and not any(p.requires_grad for p in module.parameters(recurse=False)):
            module.eval()


def _promptable(model: nn.Module) -> PromptableModel:
    """The same object, typed as what it also is: PEFT forwards the attributes of the model that it wraps."""
    return cast("PromptableModel", model)


def _modules_trained_whole(model: nn.Module, policy: str) -> tuple[str, ...]:
    """The policy's modules, after checking that PEFT, which matches by the end of a name, finds exactly these."""
    spec = _promptable(model).spec
    names = [name for name, _ in model.named_modules()]
    for wanted in spec.lora.policies[policy]:
        found = [name for name in names if name.endswith(wanted)]
        if found != [wanted]:
            problem = (
                f"means several modules ({', '.join(found)})" if len(found) > 1 else "is not a module of the model"
            )
            raise PluginError(
                f"model {spec.name!r}, LoRA policy {policy!r}: {wanted!r} {problem}; "
                "expected the full name of one module that no other module's name ends with"
            )
    return spec.lora.policies[policy]


def _lora_layers(model: nn.Module, whole: tuple[str, ...]) -> list[str]:
    """Full names of the linear layers that the record's targets name, outside the modules trained whole."""
    spec = _promptable(model).spec
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not any(name == w or name.startswith(f"{w}.") for w in whole)
    ]
    by_target = {target: [n for n in linear if f".{n}".endswith(f".{target}")] for target in spec.lora.targets}
    unmatched = [target for target, layers in by_target.items() if not layers]
    if unmatched:
        raise PluginError(
            f"model {spec.name!r}: no linear layer's name ends with the LoRA target{'s' * (len(unmatched) > 1)} "
            f"{', '.join(map(repr, unmatched))}; expected the last parts of layer names in its record"
        )
    return sorted({layer for layers in by_target.values() for layer in layers})
