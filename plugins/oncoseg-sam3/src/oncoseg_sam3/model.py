"""SAM3 as a promptable model, at full size and at a test size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from oncoseg_core import (
    Decoded,
    ModelSpec,
    Prompt,
    PromptableModel,
    PromptError,
    Settings,
    SliceTracker,
    TrainingOutput,
    UsageError,
)
from oncoseg_sam3 import plugin
from oncoseg_sam3.base_branch import adapter_off, is_adapted, is_trained_whole
from oncoseg_sam3.decoding import Candidates, answer, ground
from oncoseg_sam3.execution import (
    AttentionKernel,
    WeightPrecision,
    choose_attention,
    halve_weights,
    keep_activations,
    require_precision,
)
from oncoseg_sam3.interactive import segment_objects
from oncoseg_sam3.layouts import LAYOUTS
from oncoseg_sam3.network import sizes
from oncoseg_sam3.network.huggingface import Source
from oncoseg_sam3.phrases import Phrases
from oncoseg_sam3.prompting import Clicks, Question, understand
from oncoseg_sam3.tracking import Sam3SliceTracker, TrackerMemory
from oncoseg_sam3.training import TeachingWeights, taught
from oncoseg_sam3.training_clicks import clicks_taught, slices_taught, together
from oncoseg_sam3.weights import RANDOM, network_with_weights

SCALES = ("4x", "2x", "1x")
"""Of the feature maps: cells per patch and side, finest first."""


class Sam3Settings(Settings):
    """How SAM3 is built, and how it answers and learns.

    ``weights``: ``hub`` (Meta's, from the Hugging Face hub), ``random:<seed>``, or the path of a local ``.pt``,
    ``.ckpt`` or ``.safetensors`` in Meta's layout or that of ``transformers``. ``activation_checkpointing``: in
    training, compute the activations of the vision trunk, the geometry encoder and the pixel decoder again instead of
    keeping them; those of the transformer's layers are always computed again, Meta's code insists on it. ``compile``:
    have ``torch.compile`` make the vision trunk faster; the first image then takes minutes. ``attention``: the kernel
    that the trunk's attention takes where it can. ``channels_last``: convolutions with channels last in memory.
    ``weight_precision``: keep most weights in the half format that the model runs in, ``bf16`` or ``fp16``: half the
    memory, the same result. ``prompts_at_once``: so many prompts on one image are decoded at once, more in turn; each
    takes about 0.3 GiB at full size.

    ``threshold``: which of the objects that were found for a text or exemplars count, by their score. ``boxes_by``: the
    object in a box is segmented by the detector (``grounding``, the path that every policy trains) or by the
    ``interactive`` predictor; a box with a text always by the detector. ``teaching``: weights of what is taught besides
    the masks.
    """

    weights: str = "hub"
    activation_checkpointing: bool = True
    compile: bool = False
    attention: AttentionKernel = "auto"
    channels_last: bool = False
    weight_precision: WeightPrecision = "fp32"
    prompts_at_once: Annotated[int, Field(ge=1)] = 4
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    boxes_by: Literal["grounding", "interactive"] = "grounding"
    teaching: TeachingWeights = TeachingWeights()

    @field_validator("weights")
    @classmethod
    def _random_has_a_seed(cls, value: str) -> str:
        if value.startswith("random") and not RANDOM.fullmatch(value):
            raise ValueError(f"random weights are written random:<seed>, such as random:0, found {value!r}")
        return value


class Sam3(nn.Module, PromptableModel):
    """SAM3 (Carion et al., 2025, https://arxiv.org/abs/2511.16719), from Meta's package.

    Raises:
        WeightsError: the weights cannot be had, or are not those of this size.
    """

    Settings = Sam3Settings
    spec: ModelSpec = plugin.SAM3
    size: ClassVar[sizes.Size] = sizes.SAM3

    def __init__(self, settings: Sam3Settings | None = None) -> None:
        nn.Module.__init__(self)
        PromptableModel.__init__(self, settings)
        # Called as in Meta's checkpoints, so that their names are this model's names.
        self.detector, self.weights_sha256 = network_with_weights(self.size, self.settings.weights)
        if not self.settings.activation_checkpointing:
            keep_activations(self.detector)
        choose_attention(self.detector, self.settings.attention)
        halve_weights(self.detector, self.settings.weight_precision)
        if self.settings.channels_last:
            self.detector.to(memory_format=torch.channels_last)
        if self.settings.compile:
            self.detector.backbone.vision_backbone.trunk.compile(dynamic=False)
        # Nothing is trained until a policy says what. Besides, torch takes another, equally right path through layers
        # of attention whose weights are trained: an untrained adapter would differ from the model in the last digit.
        self.requires_grad_(requires_grad=False)
        # Meta's second set of queries, which only training has, would need a matching of its own.
        self.detector.transformer.decoder.dac = False
        self._phrases = Phrases(self.detector.backbone)
        self.eval()

    @property
    def tracker(self) -> Any:
        """SAM3's tracker, which is also its interactive predictor.

        Raises:
            PromptError: the weights have none.
        """
        if self.detector.inst_interactive_predictor is None:
            raise PromptError(
                f"{self.spec.name}: point and mask prompts, and boxes around one object, need the tracker, of which "
                f"{self.settings.weights} has no weights (tracker.*); give a text, or use Meta's whole sam3.pt"
            )
        return self.detector.inst_interactive_predictor.model

    def encode_image(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Encode ``(batch, 3, size, size)`` pixels in [-1, 1] to feature maps, batch first.

        ``detector_4x``, ``_2x`` and ``_1x`` are what the detector sees, ``tracker_*`` what the tracker sees, which are
        missing where it is; ``1x`` has one cell per patch, ``4x`` four per patch and side. The two finer ones of the
        tracker have passed through its ``conv_s0`` and ``conv_s1``, as in Meta's processor; its ``no_mem_embed``, which
        stands for the memory of other frames, is not added. An adapter that does not teach the tracker has moved the
        trunk under it: ``pixels`` are there in place of ``tracker_*``, which :meth:`add_tracker_features` adds.

        Raises:
            UsageError: the pixels have another shape.
        """
        side = self.size.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise UsageError(f"{self.spec.name} takes pixels (batch, 3, {side}, {side}), found {tuple(pixels.shape)}")
        self._require_precision(pixels.device)
        if self.settings.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        features = self.detector.backbone.forward_image(pixels)
        embedding = _by_scale("detector", features["backbone_fpn"])
        if self.detector.inst_interactive_predictor is None:
            return embedding
        if self.tracker_sees_base:
            return embedding | {"pixels": pixels}
        return embedding | self._tracker_features(features)

    def add_tracker_features(self, embedding: dict[str, torch.Tensor]) -> None:
        """Put what the tracker sees into an embedding that lacks it, encoded by the model as it was before its adapter.

        Done the first time that it is needed: it takes as long as the first encoding.
        """
        if "tracker_1x" not in embedding:
            with adapter_off(self):
                embedding |= self._tracker_features(self.detector.backbone.forward_image(embedding["pixels"]))

    def _tracker_features(self, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        fine, middle, coarse = features["sam2_backbone_out"]["backbone_fpn"]
        mask_decoder = self.tracker.sam_mask_decoder
        return _by_scale("tracker", [mask_decoder.conv_s0(fine), mask_decoder.conv_s1(middle), coarse])

    def decode(self, embedding: dict[str, torch.Tensor], prompts: Sequence[Prompt]) -> Decoded:
        """Decode one mask per prompt, from one image that all share or one image each.

        A text or exemplars: all objects found (``instances``) and their union. A box, with or without a text: the
        object in it, chosen by score and overlap. Points and a mask, with or without a box: the interactive predictor,
        which answers as before the adaptation where the adapter's policy does not teach it.

        Raises:
            PromptError: there is no prompt, hints have no meaning together, the weights have no tracker, or
                ``boxes_by`` asks an untaught one.
            UsageError: the embedding holds neither one image nor one per prompt.
        """
        if not prompts:
            raise PromptError(f"no prompt was given: {self.spec.name} takes at least one")
        self._require_images(embedding, prompts)
        asked = [self._understood(prompt) for prompt in prompts]
        if any(isinstance(one, Clicks) for one in asked):
            _ = self.tracker  # refuses weights without one
            self._require_boxes_of_the_adapter(asked)
            self.add_tracker_features(embedding)
        size = self.settings.prompts_at_once
        answers: list[Decoded] = []
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            answers += self._answers(_rows(embedding, list(range(start, start + len(part)))), part)
        return _together(answers)

    def _answers(self, embedding: dict[str, torch.Tensor], asked: Sequence[Question | Clicks]) -> list[Decoded]:
        """Each prompt's answer, all of them computed at once."""
        answers: dict[int, Decoded] = {}
        grounded = {number: one for number, one in enumerate(asked) if isinstance(one, Question)}
        clicked = {number: one for number, one in enumerate(asked) if isinstance(one, Clicks)}
        if grounded:
            questions = list(grounded.values())
            candidates = self._candidates(_rows(embedding, list(grounded)), questions)
            answers |= zip(grounded, answer(candidates, questions, self.settings.threshold), strict=True)
        if clicked:
            found = segment_objects(self.tracker, _rows(embedding, list(clicked)), list(clicked.values()))
            answers |= zip(clicked, found, strict=True)
        return [answers[number] for number in range(len(asked))]

    def training_output(
        self, embedding: dict[str, torch.Tensor], prompts: Sequence[Prompt], targets: torch.Tensor
    ) -> TrainingOutput:
        """Logits and terms, as :mod:`oncoseg_sam3.training` and :mod:`oncoseg_sam3.training_clicks` say.

        An empty prompt stands for the object of the prompt before it, on the next slice: the tracker follows it there.

        Raises:
            PromptError: what answers a prompt is not trained, or as for :meth:`decode`.
        """
        if not prompts or not prompts[0]:
            raise PromptError(f"{self.spec.name}: the first prompt is empty: there is no object to follow")
        self._require_images(embedding, prompts)
        asked = {number: self._understood(prompt) for number, prompt in enumerate(prompts) if prompt}
        if len(asked) < len(prompts) or any(isinstance(one, Clicks) for one in asked.values()):
            self._require_trained_tracker()
        rows: dict[int, TrainingOutput] = {}
        grounded = {number: one for number, one in asked.items() if isinstance(one, Question)}
        clicked = {number: one for number, one in asked.items() if isinstance(one, Clicks)}
        weights = self.settings.teaching
        if grounded:
            numbers, questions = list(grounded), list(grounded.values())
            candidates = self._candidates(_rows(embedding, numbers), questions)
            rows |= zip(numbers, _apart(taught(candidates, questions, targets[numbers], weights)), strict=True)
        if clicked:
            numbers, clicks = list(clicked), list(clicked.values())
            output = clicks_taught(self.tracker, _rows(embedding, numbers), clicks, targets[numbers], weights)
            rows |= zip(numbers, _apart(output), strict=True)
        for start, end in zip(asked, [*list(asked)[1:], len(prompts)], strict=True):
            if end - start > 1:
                slices = [{name: level[[row]] for name, level in embedding.items()} for row in range(start, end)]
                output = slices_taught(self._memory(), slices, targets[start:end], weights)
                rows |= zip(range(start + 1, end), _apart(output), strict=True)
        return together([rows[number] for number in range(len(prompts))])

    def origins(self, name: str) -> list[Source]:
        """Where one of the model's tensors is in each known layout, for adapters that other programs trained."""
        return [layout.source(name.removeprefix("detector.")) for layout in LAYOUTS]

    def slice_tracker(self) -> SliceTracker | None:
        """SAM3's own tracker; None where the weights have none.

        Of an adapted model whose policy does not teach it: as it was, on the image as it was seen before.
        """
        if self.detector.inst_interactive_predictor is None:
            return None
        return Sam3SliceTracker(self, self.tracker, self.detector.backbone.vision_backbone.position_encoding)

    def _memory(self) -> TrackerMemory:
        return TrackerMemory(self.tracker, self.detector.backbone.vision_backbone.position_encoding)

    @property
    def tracker_sees_base(self) -> bool:
        """Whether clicks, masks and the tracker are left to the model as it was before its adapter."""
        predictor = self.detector.inst_interactive_predictor
        return is_adapted(self) and predictor is not None and not is_trained_whole(predictor.model.sam_mask_decoder)

    def _require_trained_tracker(self) -> None:
        if not any(weight.requires_grad for weight in self.tracker.sam_mask_decoder.parameters()):
            raise PromptError(
                f"{self.spec.name}: points, masks and following slices go through the interactive predictor and the "
                f"tracker, which are not trained; set lora.policy to {plugin.TEACHES_CLICKS}, or train with boxes (by "
                "grounding), texts or exemplars"
            )

    def _require_boxes_of_the_adapter(self, asked: Sequence[Question | Clicks]) -> None:
        """Refuse boxes that would be answered without the adapter: the kind ``box`` is one that every policy teaches.

        Raises:
            PromptError: ``boxes_by`` sends them to a predictor that the adapter's policy does not teach.
        """
        boxes = any(isinstance(one, Clicks) and not one.points and one.mask is None for one in asked)
        if boxes and self.tracker_sees_base:
            raise PromptError(
                f"{self.spec.name} with boxes_by=interactive: the adapter's policy does not teach the interactive "
                f"predictor; set boxes_by to grounding, or train with lora.policy {plugin.TEACHES_CLICKS}"
            )

    def _require_images(self, embedding: dict[str, torch.Tensor], prompts: Sequence[Prompt]) -> None:
        self._require_precision(embedding["detector_1x"].device)
        images = len(embedding["detector_1x"])
        if images not in {1, len(prompts)}:
            raise UsageError(f"{images} embedded images for {len(prompts)} prompts: expected one, or one per prompt")

    def _understood(self, prompt: Prompt) -> Question | Clicks:
        return understand(prompt, self.size.image_size, self.settings.boxes_by, self.spec.name)

    def _candidates(self, embedding: dict[str, torch.Tensor], questions: Sequence[Question]) -> Candidates:
        return ground(self.detector, self._phrases, embedding, questions)

    def _require_precision(self, device: torch.device) -> None:
        require_precision(self.spec.name, self.settings.weight_precision, device)


def _rows(embedding: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """The images of some of the prompts; all of it where there is one image, or they are all there is."""
    images = len(embedding["detector_1x"])
    if images in {1, len(rows)}:
        return embedding
    return {name: level[rows] for name, level in embedding.items()}


def _apart(output: TrainingOutput) -> list[TrainingOutput]:
    """Each row as an output of its own."""
    return [
        TrainingOutput(
            output.logits[row : row + 1],
            output.by_mask[row : row + 1],
            {name: term[row : row + 1] for name, term in output.terms.items()},
        )
        for row in range(len(output.logits))
    ]


def _together(answers: Sequence[Decoded]) -> Decoded:
    """Answers of single prompts as one; instances stay one entry per prompt."""
    return Decoded(
        logits=torch.cat([one.logits for one in answers]),
        scores=torch.cat([one.scores for one in answers]),
        presence=torch.cat([one.presence for one in answers if one.presence is not None]),
        instances=tuple(instances for one in answers for instances in one.instances or ()),
    )


def _by_scale(name: str, levels: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{name}_{scale}": level for scale, level in zip(SCALES, levels, strict=True)}


class Sam3TinySettings(Sam3Settings):
    """As for SAM3, with random weights unless a file is given."""

    weights: str = "random:0"


class Sam3Tiny(Sam3):
    """SAM3's code at a test size."""

    Settings = Sam3TinySettings
    spec = plugin.SAM3_TINY
    size = sizes.TINY
