"""SAM3's own way through the slices of a volume: they are the frames of a video, which its tracker remembers.

The tracker sees each slice through its memories of the slices before: masks with the features under them, and one
vector per slice that stands for the object (Ravi et al., "SAM 2", 2024, https://arxiv.org/abs/2408.00714).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from oncoseg_core import Decoded, Instances, Prompt, PromptableModel, SliceTracker, UsageError

PROMPTED, FOLLOWED = "cond_frame_outputs", "non_cond_frame_outputs"
"""Meta's names of what it remembers of the prompted frame, and of the others."""


class Sam3SliceTracker(SliceTracker):
    """Follows one object in one direction, then in the other.

    What the prompt gives on its slice, by whichever part of the model, is what the tracker remembers first. So every
    kind of prompt will do, and what is followed is what was shown.

    Args:
        model: decodes the prompt.
        tracker: Meta's, of the same model.
        position_encoding: of the image's features.
    """

    def __init__(self, model: PromptableModel, tracker: Any, position_encoding: Any) -> None:
        self._model, self._tracker, self._position_encoding = model, tracker, position_encoding
        self._memory: dict[str, dict[int, Any]] = {PROMPTED: {}, FOLLOWED: {}}
        self._frame = 0
        self._score: torch.Tensor | None = None

    def start(self, embedding: dict[str, torch.Tensor], prompt: Prompt) -> Decoded:
        """Segment the object on the slice that was prompted, and remember it.

        Raises:
            PromptError: as for the model's ``decode``.
        """
        decoded = self._model.decode(embedding, [prompt])
        side = self._tracker.image_size
        full = F.interpolate(decoded.logits[:, None], (side, side), mode="bilinear", align_corners=False)
        self._memory[PROMPTED] = {}
        self.rewind()
        self._score = decoded.scores
        self._step(embedding, PROMPTED, (full > 0).float())
        return decoded

    def rewind(self) -> None:
        """Forget every slice but the prompted one; what is remembered of that does not depend on the direction."""
        self._memory[FOLLOWED] = {}
        self._frame = 0

    def follow(self, embedding: dict[str, torch.Tensor]) -> Decoded:
        """Segment it on the next slice; the score is the first slice's times the probability that it is still there.

        Raises:
            UsageError: the tracker was not started.
        """
        if self._score is None:
            raise UsageError("the tracker has not started: start it on the slice with the prompt")
        self._frame += 1
        output = self._step(embedding, FOLLOWED, None)
        logits = output["pred_masks"][:, 0].float()
        score = self._score * output["object_score_logits"][:, 0].float().sigmoid()
        nan = torch.full_like(score, torch.nan)
        return Decoded(logits, score, presence=nan, instances=(Instances(logits, score),))

    def _step(self, embedding: dict[str, torch.Tensor], kept_as: str, mask: torch.Tensor | None) -> dict[str, Any]:
        levels = [embedding[f"tracker_{scale}"] for scale in ("4x", "2x", "1x")]
        coarse = levels[-1]
        reach = self._tracker.max_obj_ptrs_in_encoder
        output: dict[str, Any] = self._tracker.track_step(
            frame_idx=self._frame,
            is_init_cond_frame=mask is not None,
            current_vision_feats=[level.flatten(2).permute(2, 0, 1) for level in levels],
            current_vision_pos_embeds=[self._position_encoding(coarse).to(coarse.dtype).flatten(2).permute(2, 0, 1)],
            feat_sizes=[level.shape[-2:] for level in levels],
            image=None,
            point_inputs=None,
            mask_inputs=mask,
            output_dict=self._memory,
            num_frames=self._frame + reach,  # how many there will be is not known; more than its reach do not count
        )
        kept = ("maskmem_features", "maskmem_pos_enc", "obj_ptr")
        self._memory[kept_as][self._frame] = {name: output[name] for name in kept}
        self._memory[FOLLOWED].pop(self._frame - reach, None)
        return output
