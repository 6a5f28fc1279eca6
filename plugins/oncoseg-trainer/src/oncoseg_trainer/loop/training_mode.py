"""Training mode without the base model's own dropout: what is trained is LoRA, and LoRA has a dropout of its own."""

from __future__ import annotations

from torch import nn

from oncoseg_lora import set_training_mode

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
SHARES = ("drop_prob", "dropout", "dropout_p", "dropout_rate", "attn_dropout", "attention_dropout")
"""What attention layers and DropPath call the share that they leave out; they look at their own training flag."""


def set_mode(model: nn.Module, *, base_dropout: bool) -> None:
    """Put an adapted model in training mode.

    Frozen normalisation layers stay in evaluation mode (:func:`oncoseg_lora.set_training_mode`). Without
    ``base_dropout`` so does every layer of the base model that leaves out values at random, also in modules that are
    trained whole; dropout of LoRA stays on. Only these layers are switched: the modules around them decide by the same
    flag whether to save memory (activation checkpointing) or what to compute for the loss.

    Args:
        model: adapted, see :func:`oncoseg_lora.adapt`.
        base_dropout: whether the base model's dropout and DropPath are on.
    """
    set_training_mode(model)
    if base_dropout:
        return
    for name, module in model.named_modules():
        if ".lora_dropout." not in name and leaves_out_at_random(module):
            module.training = False  # not `eval()`, which would switch the layers within


def leaves_out_at_random(module: nn.Module) -> bool:
    """Whether a layer drops values, or a whole branch, when it is in training mode."""
    if isinstance(module, DROPOUTS) or type(module).__name__ == "StochasticDepth":
        return True
    shares = (vars(module).get(name) for name in SHARES)
    return any(isinstance(share, float) and share > 0 for share in shares)
